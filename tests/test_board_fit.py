"""What is too large for a memory of a board is refused by its name and bytes, before anything is written or built."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from codegen.board import Use, list_boards, load_board
from toolkit.cli import main, program
from toolkit.report.memory import Memory, shortfalls

NOTHING = Memory(weights=0, arena=0, stack=0, link=0, text=0, flash_weights=0)
# Use in target.toml -> what of an account lies there.
PARTS: dict[Use, str] = {
    "text": "flash_weights", "data": "link", "weights": "weights", "arena": "arena", "stack": "stack"
}
BARE = [name for name in list_boards() if name != "host"]


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("use", PARTS)
def test_one_byte_too_many_is_refused_in_every_memory(name: str, use: Use) -> None:
    board = load_board(name)
    region = board.region(use)
    full = replace(NOTHING, **{PARTS[use]: region.size})
    assert not shortfalls(full, board)
    (fall,) = shortfalls(replace(NOTHING, **{PARTS[use]: region.size + 1}), board)
    assert (fall.region, fall.needs, fall.size, fall.excess) == (region.name, region.size + 1, region.size, 1)


@pytest.mark.parametrize("name", BARE)
def test_what_shares_a_memory_is_added_up(name: str) -> None:
    board = load_board(name)
    for region in board.memory:
        uses = [use for use in PARTS if board.region(use).name == region.name]
        if len(uses) > 1:
            share = region.size // len(uses) + 1
            account = replace(NOTHING, **{PARTS[use]: share for use in uses})
            (fall,) = shortfalls(account, board)
            assert fall.region == region.name and set(fall.shares) == set(uses)


@pytest.mark.parametrize(
    ("board", "model", "train", "said"),
    [
        ("gd32vf103", "lenet", "last:2", "FLASH needs 246,824 B of 98,304 B"),
        ("gd32vf103", "cnn", "all", "SRAM needs"),
        ("hifive1", "lenet", "bias", "RAM needs"),
        ("ch32v307", "lenet", "all", "SRAM needs"),
        pytest.param("bl602", "resnet8", "all", "OCRAM needs", marks=pytest.mark.slow),
        ("esp32p4", "lenet", "all", "LOW needs"),
    ],
)
def test_compile_refuses_by_the_memory_and_writes_nothing(
    board: str, model: str, train: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "out"
    assert main(["compile", model, "--train", train, "--target", board, "-o", str(place)]) == 2
    error = capsys.readouterr().err
    assert f"does not fit {board}" in error and said in error and "B too much" in error
    assert not list(tmp_path.iterdir())


def test_a_compiled_folder_says_whether_states_can_be_kept(tmp_path: Path) -> None:
    for board, refused in (("gd32vf103", None), ("hifive1", "et_flash_program")):
        given = ["compile", "digits-cnn", "--train", "all", "--target", board, "-o", str(tmp_path / board), "--json"]
        answer = json.loads(CliRunner().invoke(program, given, catch_exceptions=False).stdout)
        assert (answer["save_refused"] is None) if refused is None else (refused in answer["save_refused"])
