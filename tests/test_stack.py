"""The worst case of the stack, counted from machine code, against code whose frames are known."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import pytest

from codegen.board import load_board
from codegen.build import build_firmware, firmware_code
from codegen.compilers import FREESTANDING, NUMERICS, find_riscv_compilers, firmware_flags, run_tool
from codegen.emit import emit
from codegen.errors import BackendError
from codegen.project import write_project
from codegen.stack import CallGraph, Code, UnknownFrame, count_stack
from toolkit.pipeline import Options, compile_model

_GCC = [compiler for compiler in find_riscv_compilers() if compiler.family == "gcc"]


def _push(size: int) -> int:
    return (-size & 0xFFF) << 20 | 2 << 15 | 2 << 7 | 0x13


def _pop(size: int) -> int:
    return size << 20 | 2 << 15 | 2 << 7 | 0x13


def _jump(distance: int, link: int) -> int:
    d = distance & 0x1FFFFF
    return (d >> 20) << 31 | (d >> 1 & 0x3FF) << 21 | (d >> 11 & 1) << 20 | (d >> 12 & 0xFF) << 12 | link << 7 | 0x6F


_RET, _CALL_A0 = 0x00008067, 0x000500E7


def _code(constants: bytes = b"", **functions: list[int]) -> Code:
    """Functions one after another, from address 0x1000 on; constants at 0x2000."""
    places: dict[str, tuple[int, int]] = {}
    words: list[int] = []
    for name, body in functions.items():
        places[name] = (0x1000 + 4 * len(words), 4 * len(body))
        words += body
    objects = {"table": (0x2000, len(constants))} if constants else {}
    return Code(32, [(0x1000, struct.pack(f"<{len(words)}I", *words))], [(0x2000, constants)], places, objects)


def test_a_call_costs_the_depth_at_the_call() -> None:
    # main: push 16, call leaf (5 words on), push 16, pop 32, ret; leaf: push 64, pop 64, ret
    main = [_push(16), _jump(16, 1), _push(16), _pop(32), _RET]
    use = count_stack(_code(main=main, leaf=[_push(64), _pop(64), _RET]), ["main"])
    assert use.bytes == 80
    assert use.path == (("main", 0), ("leaf", 16))


def test_a_tail_call_has_given_its_frame_back() -> None:
    main = [_push(48), _pop(48), _jump(4, 0)]
    assert count_stack(_code(main=main, leaf=[_push(32), _pop(32), _RET]), ["main"]).bytes == 48


def test_a_call_through_a_table_reaches_what_the_table_holds() -> None:
    lui = 0x2 << 12 | 10 << 7 | 0x37  # a0 = 0x2000
    load = 10 << 15 | 2 << 12 | 10 << 7 | 0x03  # a0 = *a0
    main = [_push(16), lui, load, _CALL_A0, _pop(16), _RET]
    one, two = ([_push(size), _pop(size), _RET] for size in (96, 512))
    code = _code(struct.pack("<I", 0x1018), main=main, one=one, two=two)
    assert CallGraph(code, ["main"]).candidates("main") == {"one"}
    assert count_stack(code, ["main"]).bytes == 112


def test_recursion_is_refused() -> None:
    with pytest.raises(BackendError, match="circle") as caught:
        count_stack(_code(main=[_push(16), _jump(8, 1), _RET], other=[_jump(-12, 0)]), ["main"])
    assert "main -> other -> main" in str(caught.value)


def test_a_frame_of_unknown_size_is_refused() -> None:
    subtract = 0x20 << 25 | 10 << 20 | 2 << 15 | 2 << 7 | 0x33  # sp = sp - a0
    with pytest.raises(UnknownFrame):
        count_stack(_code(main=[subtract, _RET]), ["main"])


@pytest.mark.skipif(not _GCC, reason="gcc for RISC-V is not installed")
@pytest.mark.parametrize("profile", ["rv32imafc", pytest.param("rv32imac", marks=pytest.mark.slow)])
def test_frames_are_those_that_gcc_reports(profile: str) -> None:
    compiled = compile_model("lenet", Options(train="all"))
    board = load_board("qemu-rv32").with_profile(profile)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        emit(compiled.program, folder, "test")
        write_project(folder, compiled.program, board, "test")
        image = build_firmware(folder, board, "gcc")
        graph = CallGraph(firmware_code(image.elf), ["_start", "trap_entry"])
        flags = [*NUMERICS, "-O2", *FREESTANDING, *firmware_flags(board, "gcc"), "-fstack-usage"]
        compared = 0
        for source in sorted(folder.glob("*.c")):
            assert run_tool([*_GCC[0].command, *flags, "-c", source.name, "-o", "out.o"], folder).returncode == 0
            for line in (folder / "out.su").read_text().splitlines():
                where, size, kind = line.split("\t")
                name = where.rsplit(":", 1)[1]
                assert kind in ("static", "dynamic,bounded")
                if name in image.symbols and sum(s == name for s in graph.names()) == 1:
                    compared += 1
                    assert graph.frame(name).bytes == int(size), name
        assert compared > 40
