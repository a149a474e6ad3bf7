"""`edgetrain monitor` on a board that works on its own, over a real connection."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from tests.test_link import Board
from toolkit.cli.monitor import command
from toolkit.errors import UserError
from toolkit.link.frames import Frame, encode
from toolkit.link.messages import Request


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    made = Board(tmp_path_factory.mktemp("board"))
    made.start()
    made.feed(encode(Frame(Request.INFO, 9, struct.pack("<I", 1))))
    made.feed(encode(Frame(Request.TRAIN, 10)))
    return made


@pytest.fixture
def port(board: Board) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(4096):
                    connection.sendall(board.feed(data))

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"socket://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def test_a_board_is_watched_and_left_as_it_is(board: Board, port: str) -> None:
    words = ["--port", port, "--every", "0", "--count", "3", "--json"]
    run = CliRunner().invoke(command, words, catch_exceptions=False)
    told = json.loads(run.stdout)
    assert run.exit_code == 0 and told["name"] == "counting" and len(told["rows"]) == 3
    assert {row["step"] for row in told["rows"]} == {1}
    assert told["rows"][0]["instructions"] == 1000
    assert (told["rows"][0]["stack_bytes"], told["rows"][0]["arena_bytes"]) == (16, 10)
    assert [board.counted(what) for what in range(4)] == [0, 0, 1, 0]


def test_rows_come_as_text(port: str) -> None:
    run = CliRunner().invoke(command, ["--port", port, "--every", "0", "--count", "2"], catch_exceptions=False)
    lines = run.stdout.splitlines()
    assert lines[0].split() == ["seconds", "step", "rate", "instructions", "stack", "arena"]
    assert len(lines) == 3 and lines[2].split()[3] == "1,000"


def test_json_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match="needs --count"):
        CliRunner().invoke(command, ["--port", "loop://", "--json"], catch_exceptions=False)
