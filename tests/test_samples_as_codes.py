"""Samples that travel as bytes: the board has the very bits of the float32 values, whatever the line does."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codegen.board import load_board
from codegen.project import project_files
from tests.test_link import FAULTS, INFER, TRAIN, Board, session_on
from toolkit.cli import finetune
from toolkit.data.dataset import Dataset
from toolkit.ir import Array
from toolkit.link.codes import MOST, Codes
from toolkit.link.frames import Decoder, Frame, encode
from toolkit.link.messages import CODED, Refused, Region, Request, Sample
from toolkit.pipeline import Options, compile_model
from toolkit.sim.linked import LinkedBackend

VALUES = 16  # of the counting device's inputs
BITS = arrays(np.uint32, st.integers(1, 60), elements=st.integers(0, 0xFFFFFFFF))


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return Board(tmp_path_factory.mktemp("codes"))


# ---- the codes


@given(BITS, BITS)
def test_whatever_the_values_are_no_bit_is_lost(first: Array, second: Array) -> None:
    codes = Codes.of(first.view(np.float32), second.view(np.float32))
    assert codes is not None
    for bits in (first, second):
        encoded = codes.encoded(bits.view(np.float32))
        assert encoded is not None and len(encoded) == bits.size
        table = np.frombuffer(codes.table, "<u4")
        assert np.array_equal(table[np.frombuffer(encoded, np.uint8)], bits)


@pytest.mark.parametrize("scaled", [lambda u: u / 255, lambda u: (u - 33.3) / 78.6, lambda u: (u - 83.0) * 0.5847])
def test_what_comes_from_bytes_goes_as_bytes_however_it_was_scaled(scaled: object) -> None:
    assert callable(scaled)
    x = scaled(np.arange(256.0)).astype(np.float32)
    codes = Codes.of(x)
    assert codes is not None and codes.values.size == MOST and codes.encoded(x) is not None


def test_more_values_than_codes_are_refused_or_rounded_to_the_nearest() -> None:
    x = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    assert Codes.of(x) is None
    codes = Codes.evenly(x)
    rounded = codes.rounded(x)
    assert codes.encoded(x) is None and codes.encoded(rounded) is not None
    distances = np.abs(codes.values.astype(np.float64) - x.astype(np.float64)[..., None])
    assert np.array_equal(np.abs(rounded.astype(np.float64) - x), distances.min(axis=-1))
    assert np.array_equal(codes.rounded(codes.values), codes.values)


@pytest.mark.parametrize("values", [[0.0], [-2.0, 3.0]])
def test_few_values_are_rounded_too(values: list[float]) -> None:
    codes = Codes.of(np.array(values, np.float32))
    assert codes is not None
    assert np.array_equal(codes.rounded(np.array([-100, 100], np.float32)), np.array([min(values), max(values)]))


# ---- the board


def floats(codes: bytes, table: Array) -> bytes:
    return table[np.frombuffer(codes, np.uint8)].tobytes()


@given(FAULTS, st.integers(0, 200), st.sampled_from([192, 24, 18]))
def test_bad_lines_run_the_model_once_on_the_values_of_the_codes(
    board: Board, faults: list[str], first: int, chunk: int
) -> None:
    session = session_on(board, faults)
    assert session.board.codes
    table = np.random.default_rng(first).integers(0, 2**31, MOST, np.uint32)
    session.set_codes(table.tobytes())
    for number in range(first, first + 3):
        session._chunk = chunk
        sample = Sample(bytes((number + i) % 256 for i in range(VALUES)), struct.pack("<4i", *range(4)), coded=True)
        session.train(sample)
        assert session.read_region(Region.INPUT) == floats(sample.inputs, table)
        assert session.read_region(Region.LABEL) == sample.label
        session.infer(replace(sample, inputs=sample.inputs[::-1], label=b""))
        assert session.read_region(Region.INPUT) == floats(sample.inputs[::-1], table)
    assert (board.counted(INFER), board.counted(TRAIN)) == (3, 3)


def test_a_coded_sample_that_fits_is_one_request_of_a_byte_for_each_value(board: Board) -> None:
    session = session_on(board)
    session.set_codes(struct.pack("<256f", *range(256)))
    requests, sent = session.traffic.requests, session.traffic.sent
    session.evaluate(Sample(bytes(range(1, 1 + VALUES)), b"\1" * 16, coded=True))
    assert session.traffic.requests == requests + 1
    assert session.traffic.sent - sent == 1 + 6 + VALUES + 16 + 4 + 1 + 1, "zero, header, sample, CRC, COBS, zero"


def test_the_table_is_told_again_after_a_reset(board: Board) -> None:
    session = session_on(board)
    table = np.arange(MOST, dtype=np.uint32) * 7
    session.set_codes(table.tobytes())
    session.reset()
    codes = bytes(range(VALUES))
    session.train(Sample(codes, bytes(16), coded=True))
    assert session.read_region(Region.INPUT) == floats(codes, table)


@pytest.mark.parametrize("length", [1, 15, 16 + VALUES + 1, 192])
def test_a_coded_sample_of_a_wrong_length_is_refused(board: Board, length: int) -> None:
    session = session_on(board)
    with pytest.raises(Refused, match="wrong length"):
        session._request(Request.TRAIN_CODED, b"x" * length)
    assert board.counted(TRAIN) == 0 and session.read_region(Region.INPUT) == bytes(64)


@pytest.mark.parametrize(("offset", "count"), [(VALUES, 1), (VALUES - 1, 2), (0xFFFFFFFF, 1), (VALUES + 1, 0)])
def test_codes_reach_no_further_than_the_inputs(board: Board, offset: int, count: int) -> None:
    session = session_on(board)
    with pytest.raises(Refused, match="no such memory"):
        session._request(Request.WRITE, struct.pack("<BI", Region.CODED_INPUT, offset) + bytes(count))
    with pytest.raises(Refused, match="no such memory"):
        session.read_region(Region.CODED_INPUT, 4)


def test_only_requests_that_take_samples_take_codes(board: Board) -> None:
    board.start()
    board.feed(encode(Frame(Request.INFO, 9, struct.pack("<I", 1))))
    known = {int(request) for request in CODED.values()}
    for number, kind in enumerate(range(0x40, 0x80), 10):
        (answer,) = Decoder().feed(board.feed(encode(Frame(kind, number))))
        assert (answer.type, answer.payload[0]) == (kind | 0x80, 0 if kind in known else 1)


# ---- the backend


class Told:
    """A session that writes down the samples."""

    def __init__(self, takes: bool) -> None:
        from types import SimpleNamespace

        self.board = SimpleNamespace(codes=takes)
        self.table = b""

    def set_codes(self, table: bytes) -> None:
        self.table = table


@pytest.mark.parametrize("takes", [True, False])
def test_samples_go_as_codes_only_where_board_and_values_allow_it(takes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.sim.linked.check_firmware", lambda *arguments: None)
    backend = LinkedBackend(compile_model("digits-cnn", Options(train="head", batch=1)), Told(takes), "board")  # type: ignore[arg-type]
    known, other = np.full((1, 8, 8, 1), 0.25, np.float32), np.full((1, 8, 8, 1), 0.3, np.float32)
    assert backend.use_codes(Codes.of(known, np.zeros(1, np.float32))) is takes
    sample = backend._sample([known])
    assert sample == (Sample(b"\1" * 64, coded=True) if takes else Sample(known.tobytes()))
    assert backend._sample([other]) == Sample(other.tobytes())


@pytest.mark.parametrize("codes", [True, False])
def test_a_board_may_do_without_the_table(codes: bool) -> None:
    board = load_board("hifive1")
    program = compile_model("digits-cnn", Options(train="head", batch=1)).program
    files = project_files(program, replace(board, link=replace(board.link, codes=codes)), "edgetrain")
    assert ("float codes[ET_DEVICE_CODES]" in files["main.c"]) is (".codes = codes," in files["main.c"]) is codes


@pytest.mark.parametrize(
    ("how", "many", "coded", "note"),
    [("auto", 17, True, ""), ("auto", 999, False, "--samples uint8 rounds them"), ("float32", 17, False, ""),
     ("uint8", 17, True, ""), ("uint8", 999, True, "rounded to 256 values, by 0.00196 at most")],
)  # fmt: skip
def test_what_a_user_asks_for(how: str, many: int, coded: bool, note: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.linspace(0, 1, many, dtype=np.float32)
    given = Dataset(values[: many // 2], np.zeros(many // 2)), Dataset(values[many // 2 :], np.zeros(many))
    training, held, codes = finetune._coded(how, *given)
    assert held is not None and (codes is not None) is coded
    assert note in capsys.readouterr().err
    for dataset, before in zip((training, held), given, strict=True):
        assert codes is None or codes.encoded(dataset.x) is not None
        assert np.array_equal(dataset.x, before.x) or (how == "uint8" and many > MOST)
