"""The link: C and Python speak the same bytes, damage never gets through, and nothing is executed twice."""

from __future__ import annotations

import re
import struct
import subprocess
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.resources import folder
from toolkit.errors import UserError
from toolkit.link.frames import OVERHEAD, Decoder, Frame, encode
from toolkit.link.messages import (
    DAMAGED,
    READY,
    BoardReset,
    Counted,
    Region,
    Request,
    Sample,
    Saved,
    Trapped,
    Unanswered,
)
from toolkit.link.session import Session

ROOT = Path(__file__).resolve().parent.parent
INIT, INFER, TRAIN, UPDATE = range(4)
NO_STATE = 7


class Board:
    """tests/c/counting_device.c in a shared library."""

    def __init__(self, place: Path) -> None:
        from cffi import FFI

        (place / "et_config.h").write_text("#define ET_FMA 0\n")
        runtime = folder("runtime_c")
        library = place / "counting_device.so"
        tests = ROOT / "tests/c"
        sources = [tests / "counting_device.c", tests / "nor_flash.c"]
        sources += [runtime / f"et_{name}.c" for name in ("link", "device", "device_store", "store")]
        warnings = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
        sanitizers = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
        flags = ["-O1", "-g", "-shared", "-fPIC", *warnings, *sanitizers, f"-I{place}", f"-I{runtime}", f"-I{tests}"]
        subprocess.run(["gcc", *flags, *map(str, sources), "-o", str(library)], check=True)
        self._ffi = FFI()
        self._ffi.cdef(
            "typedef struct { uint8_t type; uint16_t sequence; uint16_t length; uint8_t *payload; } et_link_frame;"
            "void start(void); void feed(const uint8_t *, size_t); size_t take(uint8_t *); int has_ended(void);"
            "uint32_t counted(int); void cut_after(uint32_t);"
            "size_t encode(uint8_t, uint16_t, const uint8_t *, uint16_t, uint8_t *);"
            "int decode(const uint8_t *, size_t, size_t, uint8_t *, et_link_frame *);"
        )
        self._library: Any = self._ffi.dlopen(str(library))
        self._out = self._ffi.new("uint8_t[]", 1 << 20)

    def start(self) -> None:
        self._library.start()

    def feed(self, data: bytes) -> bytes:
        """What the board sends for these bytes."""
        self._library.feed(data, len(data))
        return bytes(self._ffi.buffer(self._out, self._library.take(self._out)))

    def counted(self, what: int) -> int:
        return int(self._library.counted(what))

    def cut_after(self, count: int) -> None:
        self._library.cut_after(count)

    def has_ended(self) -> bool:
        return bool(self._library.has_ended())

    def encode(self, frame: Frame) -> bytes:
        count = self._library.encode(frame.type, frame.sequence, frame.payload, len(frame.payload), self._out)
        return bytes(self._ffi.buffer(self._out, count))

    def decode(self, data: bytes, capacity: int) -> tuple[int, Frame | None]:
        """How many frames are in the bytes, and the last of them (whose memory no later byte may touch)."""
        guard = b"\xc3" * 16
        memory = self._ffi.new("uint8_t[]", bytes(capacity) + guard)
        frame = self._ffi.new("et_link_frame *")
        count = self._library.decode(data, len(data), capacity, memory, frame)
        assert bytes(self._ffi.buffer(memory + capacity, len(guard))) == guard, "written past the buffer"
        if not count or data[-1:] != b"\0":
            return count, None
        return count, Frame(frame.type, frame.sequence, bytes(self._ffi.buffer(frame.payload, frame.length)))


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return Board(tmp_path_factory.mktemp("link"))


class Line:
    """A stream to the board that loses, doubles, damages and delays messages, as `faults` say, then none."""

    def __init__(self, board: Board, faults: list[str] | None = None) -> None:
        self._board = board
        self._faults = list(faults or [])
        self._delayed: dict[str, bytes] = {"to": b"", "from": b""}
        self._arrived = bytearray()

    def send(self, data: bytes) -> None:
        for message in self._disturbed("to", data):
            for answer in self._disturbed("from", self._board.feed(message)):
                self._arrived += answer

    def receive(self, timeout: float) -> bytes:
        data, self._arrived = bytes(self._arrived), bytearray()
        return data

    def close(self) -> None:
        return

    def _disturbed(self, way: str, message: bytes) -> list[bytes]:
        late, self._delayed[way] = self._delayed[way], b""
        fault = self._faults.pop(0) if self._faults and message else "none"
        if fault == "lose":
            messages = []
        elif fault == "double":
            messages = [message, message]
        elif fault == "damage":
            middle = len(message) // 2
            messages = [message[:middle] + bytes([message[middle] ^ 0x10]) + message[middle + 1 :]]
        elif fault == "cut":
            messages = [message[: len(message) // 2]]
        elif fault == "delay":
            self._delayed[way] = message
            messages = []
        elif fault == "late copy":
            self._delayed[way] = message
            messages = [message]
        else:
            messages = [message]
        return [*messages, late] if late else messages


FAULTS = st.lists(st.sampled_from(["none", "lose", "double", "damage", "cut", "delay", "late copy"]), max_size=30)


def session_on(board: Board, faults: list[str] | None = None) -> Session:
    board.start()
    return Session(Line(board, faults), timeout=0.0005, run_timeout=0.0005, attempts=60)


# ---- frames


def vectors() -> list[tuple[Frame, bytes]]:
    text = (ROOT / "docs/SPEC.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\d+) \| `([0-9a-f ]*)` \| `([0-9a-f ]+)` \|$", text, re.MULTILINE)
    return [(Frame(int(k), int(s), bytes.fromhex(p)), bytes.fromhex(e)) for k, s, p, e in rows]


def test_the_specification_has_vectors() -> None:
    assert len(vectors()) >= 5


@pytest.mark.parametrize(("frame", "line"), vectors())
def test_vectors_of_the_specification(board: Board, frame: Frame, line: bytes) -> None:
    assert encode(frame) == line
    assert board.encode(frame) == line
    assert Decoder().feed(line) == [frame]
    assert board.decode(line, len(frame.payload) + OVERHEAD) == (1, frame)


PAYLOADS = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda byte, count: bytes([byte]) * count, st.integers(0, 255), st.integers(230, 530)),
)
FRAMES = st.builds(Frame, st.integers(0, 255), st.integers(0, 65535), PAYLOADS)


@given(FRAMES)
def test_c_and_python_encode_and_decode_alike(board: Board, frame: Frame) -> None:
    line = encode(frame)
    assert board.encode(frame) == line
    assert 0 not in line[:-1]
    assert Decoder().feed(line) == [frame]
    assert board.decode(line, len(frame.payload) + OVERHEAD) == (1, frame)


@given(FRAMES, st.integers(1, 20))
def test_a_frame_that_is_too_long_is_dropped(board: Board, frame: Frame, missing: int) -> None:
    capacity = max(len(frame.payload) + OVERHEAD - missing, 0)
    assert board.decode(encode(frame), capacity) == (0, None)


@given(FRAMES, st.data())
def test_a_flipped_bit_never_gets_through(board: Board, frame: Frame, data: st.DataObject) -> None:
    line = bytearray(encode(frame))
    line[data.draw(st.integers(0, len(line) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for found in Decoder().feed(bytes(line)):
        assert found == frame
    assert board.decode(bytes(line) + b"\0", 1000)[0] == 0


@given(FRAMES, st.data())
def test_a_frame_cut_short_never_gets_through(board: Board, frame: Frame, data: st.DataObject) -> None:
    line = encode(frame)[: data.draw(st.integers(0, len(encode(frame)) - 2))] + b"\0"
    assert Decoder().feed(line) == []
    assert board.decode(line, 1000) == (0, None)


@given(st.binary(max_size=400), FRAMES)
def test_after_any_noise_the_next_frame_is_understood(board: Board, noise: bytes, frame: Frame) -> None:
    data = noise + b"\0" + encode(frame)
    assert Decoder().feed(data)[-1] == frame
    count, last = board.decode(data, 1000)
    assert count >= 1 and last == frame


@given(st.lists(FRAMES, max_size=4), st.integers(1, 50))
def test_frames_may_come_in_pieces(frames: list[Frame], size: int) -> None:
    data = b"".join(map(encode, frames))
    decoder = Decoder()
    found = [frame for i in range(0, len(data), size) for frame in decoder.feed(data[i : i + size])]
    assert found == frames


# ---- sessions


def test_a_board_tells_what_it_is(board: Board) -> None:
    info = session_on(board).board
    assert (info.name, info.trainable, info.accumulates, info.fma, info.stores) == ("counting", True, False, True, True)
    assert info.sha256 == bytes([1, 2, 3]) + bytes(13)
    assert info.regions[Region.PARAMS][1] == 400 and info.regions[Region.LABEL][1] == 16


def test_regions_keep_what_is_written_over_many_frames(board: Board) -> None:
    session = session_on(board)
    data = bytes(i % 251 for i in range(400))
    session.write_region(Region.PARAMS, data)
    assert session.read_region(Region.PARAMS) == data
    assert session.read_region(Region.PARAMS, 7, offset=100) == data[100:107]
    session.write_region(Region.INPUT, struct.pack("<16I", *range(16)))
    assert session.infer().status == 0
    assert struct.unpack("<16f", session.read_region(Region.OUTPUT)) == tuple(range(1, 17))


def test_scalars_are_set_one_by_one(board: Board) -> None:
    session = session_on(board)
    session.set_scalars(learning_rate=0.1)
    session.set_scalars(seed=0xFFFFFFFF)
    session.set_scalars(step=5)
    scalars = session.scalars()
    assert struct.pack("<f", scalars.learning_rate) == struct.pack("<f", 0.1)
    assert (scalars.seed, scalars.step, scalars.failed_step) == (0xFFFFFFFF, 5, -1)


def test_training_gives_status_loss_and_the_failed_step(board: Board) -> None:
    session = session_on(board)
    good = session.train()
    assert (good.status, good.failed_step, struct.unpack("<f", good.loss)[0]) == (0, -1, 1.0)
    session.write_region(Region.INPUT, b"\xff" * 4)
    bad = session.train()
    assert (bad.status, bad.failed_step, bad.loss) == (2, 3, b"\x00\x00\xc0\x7f")


def test_high_water_marks_come_from_the_paint(board: Board) -> None:
    session = session_on(board)
    session.infer()
    stats = session.stats()
    assert (stats.instructions, stats.stack_bytes, stats.arena_bytes) == (1000, 16, 10)


@given(FAULTS)
def test_bad_lines_never_train_twice_or_not_at_all(board: Board, faults: list[str]) -> None:
    session = session_on(board, faults)
    losses = [struct.unpack("<f", session.train().loss)[0] for _ in range(6)]
    session.update()
    assert losses == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert (board.counted(TRAIN), board.counted(UPDATE)) == (6, 1)


@given(FAULTS, st.integers(1, 50))
def test_bad_lines_run_the_model_once_on_the_whole_sample(board: Board, faults: list[str], first: int) -> None:
    session = session_on(board, faults)
    for number in range(first, first + 4):
        values = range(number, number + 16)
        session.infer(Sample(struct.pack("<16I", *values)))
        assert struct.unpack("<16f", session.read_region(Region.OUTPUT)) == tuple(value + 1 for value in values)
        sample = Sample(struct.pack("<16I", *range(number, number + 16)), struct.pack("<4i", *range(4)))
        session.train(sample)
        assert session.read_region(Region.LABEL) == sample.label
        assert session.read_region(Region.INPUT) == sample.inputs
    assert (board.counted(INFER), board.counted(TRAIN)) == (4, 4)


def test_a_sample_that_fits_is_one_request(board: Board) -> None:
    session = session_on(board)
    before = session.traffic.requests
    session.evaluate(Sample(bytes(64), bytes(16)))
    assert session.traffic.requests == before + 1
    session._chunk = 40
    session.train(Sample(struct.pack("<I", 0xFFFFFFFF) + bytes(60), bytes(16)))
    assert session.traffic.requests == before + 3
    assert session.train().status == 2, "the part that was sent before is in its place"


@pytest.mark.parametrize("length", [1, 15, 81, 192])
def test_a_sample_of_a_wrong_length_is_refused_and_not_trained_on(board: Board, length: int) -> None:
    session = session_on(board)
    with pytest.raises(UserError, match="wrong length"):
        session._request(Request.TRAIN, b"x" * length)
    assert board.counted(TRAIN) == 0 and session.read_region(Region.INPUT) == bytes(64)


def test_a_damaged_request_is_told_at_once_and_an_empty_frame_is_not(board: Board) -> None:
    board.start()
    board.feed(b"")
    line = bytearray(encode(Frame(Request.INFO, 1, struct.pack("<I", 7))))
    line[7] ^= 4
    assert [frame.type for frame in Decoder().feed(board.feed(bytes(line)))] == [DAMAGED]
    assert board.feed(b"\0\0\0") == b""


@pytest.mark.parametrize("executed", [True, False])
def test_a_number_is_taken_back_unless_its_request_was_executed(board: Board, executed: bool) -> None:
    session = session_on(board, ["none"] * 2 + (["none", "lose"] if executed else ["lose", "none"]))
    with pytest.raises(Unanswered):
        session._request(Request.TRAIN, attempts=1)
    assert session._was_executed(1.0) is executed
    assert session._ask(Request.TRAIN, b"", 1.0) if executed else session.train()
    assert board.counted(TRAIN) == 1


@given(st.permutations(range(12)), st.integers(0, 65535))
def test_old_frames_in_any_order_change_nothing(board: Board, order: list[int], first: int) -> None:
    board.start()
    opened = Frame(Request.INFO, first, struct.pack("<I", 7))
    trained = [Frame(Request.TRAIN, (first + 1 + i) & 0xFFFF) for i in range(5)]
    frames = [encode(frame) for frame in (opened, *trained)]
    for line in frames:
        board.feed(line)
    assert board.counted(TRAIN) == 5
    for index in order:
        board.feed(frames[index % len(frames)])
    assert board.counted(TRAIN) == 5


@given(st.binary(max_size=600))
def test_noise_makes_the_board_do_nothing(board: Board, noise: bytes) -> None:
    board.start()
    board.feed(noise)
    assert [board.counted(what) for what in (INIT, INFER, TRAIN, UPDATE)] == [0, 0, 0, 0]


@given(st.integers(0, 255), st.binary(max_size=192))
def test_any_request_gets_exactly_one_answer(board: Board, kind: int, payload: bytes) -> None:
    board.start()
    board.feed(encode(Frame(Request.INFO, 9, struct.pack("<I", 1))))
    answers = Decoder().feed(board.feed(encode(Frame(kind, 10, payload))))
    started_over = [(READY, 0)] if (kind, payload) == (Request.RESET, b"") else []
    assert [(a.type, a.sequence) for a in answers] == [(kind | 0x80, 10), *started_over]


@pytest.mark.parametrize(
    ("region", "offset", "data"),
    [(7, 0, b"x"), (5, 1024, b"x"), (3, 400, b"x"), (3, 0xFFFFFFFF, b"x"), (3, 399, b"xy"), (1, 16, b"x")],
)
def test_no_request_reaches_beyond_a_region(board: Board, region: int, offset: int, data: bytes) -> None:
    session = session_on(board)
    with pytest.raises(UserError, match="no such memory"):
        session._request(Request.WRITE, struct.pack("<BI", region, offset) + data)
    with pytest.raises(UserError, match="no such memory"):
        session._request(Request.READ, struct.pack("<BIH", region, offset, len(data)))


def test_a_board_that_was_reset_says_so(board: Board) -> None:
    session = session_on(board)
    board.start()
    with pytest.raises(UserError, match="reset"):
        session.train()
    assert board.counted(TRAIN) == 0


def test_a_silent_board_gives_a_clear_error(board: Board) -> None:
    board.start()
    with pytest.raises(UserError, match="does not answer") as caught:
        Session(Line(board, ["lose"] * 10), timeout=0.001, attempts=3)
    assert caught.value.hint


def test_a_trap_is_told_with_its_address(board: Board) -> None:
    session = session_on(board)

    class Trapping(Line):
        def receive(self, timeout: float) -> bytes:
            return encode(Frame(0xFF, 0, struct.pack("<QQQ", 2, 0x80000100, 0x1234)))

    session._stream = Trapping(board)
    with pytest.raises(Trapped, match="mcause 2 at 0x80000100"):
        session.train()


def test_exit_ends_the_firmware(board: Board) -> None:
    session = session_on(board)
    session.exit(3)
    assert board.has_ended()


# ---- the store


def test_states_are_saved_loaded_and_rolled_back(board: Board) -> None:
    session = session_on(board)
    assert session.load().status == NO_STATE
    for number in (1, 2):
        session.write_region(Region.PARAMS, bytes([number]) * 400)
        session.set_scalars(learning_rate=number / 4, seed=number, step=10 * number)
        assert session.save(mark=number << 40) == Saved(0, number, number << 40)
    session.write_region(Region.PARAMS, bytes(400))
    assert session.load() == Saved(0, 2, 2 << 40)
    assert session.read_region(Region.PARAMS) == b"\2" * 400
    assert session.rollback() == Saved(0, 1, 1 << 40)
    scalars = session.scalars()
    assert (scalars.learning_rate, scalars.seed, scalars.step) == (0.25, 1, 10)
    assert session.rollback().status == NO_STATE
    assert session.read_region(Region.PARAMS) == b"\1" * 400


@given(FAULTS)
def test_bad_lines_never_save_twice(board: Board, faults: list[str]) -> None:
    session = session_on(board, faults)
    assert [session.save(mark).sequence for mark in range(3)] == [1, 2, 3]
    assert session.rollback() == Saved(0, 2, 1)


@given(FAULTS, st.integers(1, 700))
def test_bad_lines_write_and_read_what_was_meant(board: Board, faults: list[str], size: int) -> None:
    session = session_on(board, faults)
    data = bytes(i % 253 for i in range(min(size, 400)))
    session.write_region(Region.PARAMS, data)
    assert session.read_region(Region.PARAMS, len(data)) == data
    assert session.traffic.sent > len(data) and session.traffic.received > len(data)


def test_a_reset_board_has_the_last_state_that_was_saved(board: Board) -> None:
    session = session_on(board)
    for _ in range(3):
        session.train()
    session.save()
    session.train()
    session.reset()
    assert session.scalars().step == 3
    assert struct.unpack("<I", session.read_region(Region.PARAMS, 4)) == (3,)


@given(st.integers(0, 1100))
def test_power_cut_in_a_save_over_the_line(board: Board, cut: int) -> None:
    session = session_on(board)
    session.train()
    session.save(mark=1)
    session.train()
    board.cut_after(cut)
    try:
        assert session.save(mark=2).status == 0
    except BoardReset:
        session.reopen()
    assert session.load().mark == session.scalars().step in (1, 2)


def test_evaluation_counts_rows_that_agree_with_the_label(board: Board) -> None:
    session = session_on(board)
    rows = [[0, 9, 0, 0], [1, 0, 0, 2], [5, 5, 5, 5], [0, 0, 3, 0]]
    session.write_region(Region.INPUT, struct.pack("<16I", *chain(*rows)))
    session.write_region(Region.LABEL, struct.pack("<4i", 1, 3, 0, 1))
    assert session.evaluate() == Counted(0, -1, 4, 3)


def test_other_firmware_after_a_reset_is_refused(board: Board) -> None:
    session = session_on(board)
    session.board = replace(session.board, sha256=bytes(16))
    with pytest.raises(UserError, match="other firmware"):
        session.reset()
