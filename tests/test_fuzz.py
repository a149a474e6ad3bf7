"""Any bytes at all: the C side under libFuzzer (tests/fuzz/run for longer), the Python side by hypothesis."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import UserError
from toolkit.link.frames import Decoder, Frame, decode, encode
from toolkit.link.session import Session
from toolkit.link.streams import open_stream

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(shutil.which("clang-19") is None, reason="clang-19 is not installed")
def test_the_fuzzer_finds_nothing_in_a_moment() -> None:
    line = [ROOT / "tests/fuzz/run", "-runs=5000", "-seed=1"]
    run = subprocess.run(line, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "Done 5000 runs" in run.stderr


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_the_decoder_takes_any_bytes_and_gives_only_what_encodes_to_them(pieces: list[bytes]) -> None:
    decoder = Decoder()
    found = [frame for piece in pieces for frame in decoder.feed(piece)]
    for frame in found:
        assert encode(frame)[:-1] in b"".join(pieces)


@given(st.binary(max_size=300))
def test_a_frame_is_read_as_itself_or_not_at_all(data: bytes) -> None:
    frame = decode(data)
    assert frame is None or decode(encode(frame)[:-1]) == frame


def test_a_port_that_another_program_has_is_refused() -> None:
    ours, its = os.openpty()
    try:
        first = open_stream(os.ttyname(its))
        with pytest.raises(UserError, match="cannot be opened"):
            open_stream(os.ttyname(its))
        first.close()
    finally:
        os.close(ours)
        os.close(its)


def test_a_sender_that_never_ends_a_frame_fills_no_memory() -> None:
    decoder = Decoder()
    for _ in range(300):
        assert decoder.feed(b"\x01" * 1000) == []
    assert len(decoder._pending) < 200_000


@given(st.binary(max_size=400), st.binary(max_size=60))
def test_a_session_with_nonsense_ends_with_a_clear_error(noise: bytes, payload: bytes) -> None:
    class Nonsense:
        """Answers every request with a good frame of the right number and any content, after noise."""

        def __init__(self) -> None:
            self._waiting = b""

        def send(self, data: bytes) -> None:
            asked = decode(data.strip(b"\0"))
            assert asked is not None
            answer = Frame(asked.type | 0x80, asked.sequence, payload)
            self._waiting += noise + b"\0" + encode(answer)

        def receive(self, timeout: float) -> bytes:
            data, self._waiting = self._waiting, b""
            return data

        def close(self) -> None:
            return

    with pytest.raises(UserError):
        Session(Nonsense(), timeout=0.001, attempts=2)
