"""Estimates of instructions and cycles: the model of a pipeline, the fit, and what `plan` says beside counts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from codegen.board import list_boards, load_board
from codegen.compilers import find_riscv_compilers
from codegen.cores import Core, Cost, Latency, list_cores, load_core
from codegen.errors import BackendError
from toolkit.bench.blocks import Ran, cycles, instructions, parse, read, total_cycles
from toolkit.bench.costs import Case, record, sample
from toolkit.bench.formulas import Sample, fit, left_out
from toolkit.cli import main
from toolkit.pipeline import Options, compile_model
from toolkit.quant import parse_plan
from toolkit.report.terms import NAMES, terms
from toolkit.report.work import PROFILES, RECORD, estimate

# Loads 2, narrow ones 3, products 5 one at a time, jumps 2.
_SLOW = Core(
    "slow", "slow", "", Latency(2, 3, 5, 20, 3), Cost(True, True, 2, 3, "two-bit", store_waits=True)
)  # fmt: skip
_PATIENT = Core("patient", "patient", "", Latency(2, 2, 1, 18, 1), Cost(False, True, 2, 1, "last-backward", False))


def _of(text: str) -> tuple[int, int]:
    """Cycles of lines, for both cores."""
    body = [parse("00000000  " + line) for line in text.strip().splitlines()]
    return cycles(body, _SLOW), cycles(body, _PATIENT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("add a0,a1,a2\nadd a3,a0,a0", (2, 2)),
        ("lw a0,0(a1)\nadd a2,a2,a0", (3, 3)),
        ("lw a0,0(a1)\naddi a1,a1,4\nadd a2,a2,a0", (3, 3)),
        ("lbu a0,0(a1)\nadd a2,a2,a0", (4, 3)),
        ("mul a0,a1,a2\nmul a3,a4,a5", (10, 2)),
        ("mul a0,a1,a2\nadd a3,a3,a0", (6, 2)),
        ("lw a0,0(a1)\nsw a0,0(a2)", (3, 2)),
        ("lw a2,0(a1)\nsw a0,0(a2)", (3, 3)),
        ("jal zero,-8", (2, 2)),
        ("add a2,a2,a0\nlw a0,0(a1)", (3, 3)),
        ("divu a0,a1,a2\nadd a3,a3,a4\nadd a5,a5,a0", (21, 19)),
        ("bne a0,a1,-4", (1, 1)),
    ],
)
def test_a_block_takes_what_its_dependences_cost(text: str, expected: tuple[int, int]) -> None:
    assert _of(text) == expected


def test_instructions_are_read_as_the_emulator_writes_them() -> None:
    load = parse("0202a583          lw                      a1,32(t0)")
    assert (load.name, load.writes, load.reads) == ("lw", "a1", frozenset({"t0"}))
    store = parse("00b52023          sw                      a1,0(a0)")
    assert (store.writes, store.reads, store.stored) == ("", frozenset({"a0"}), "a1")
    branch = parse("fe059ee3          bnez                    a1,-4                           # 0x80000010")
    assert (branch.writes, branch.reads) == ("", frozenset({"a1"}))
    assert parse("8082  ret").writes == "" and parse("0040006f  jal ra,4").writes == "ra"
    assert parse("00c5f553  fadd.s fa0,fa1,fa2").reads == frozenset({"fa1", "fa2"})


def test_branches_that_were_not_predicted_cost_more() -> None:
    body = (parse("00000000  bne a0,a1,-4"),)
    ran = [Ran(body, 10, {"two-bit": 2, "last-backward": 3})]
    assert instructions(ran) == 10
    assert (total_cycles(ran, _SLOW), total_cycles(ran, _PATIENT)) == (10 + 2 * 3, 10 + 3 * 1)


def test_what_the_plugin_writes_is_read(tmp_path: Path) -> None:
    text = "block 0 1000 2\n00000013 nop\n0000a023 sw zero,0(ra)\nread\nran 0 7 1 2\nread\nblock 1 1008 3\n13 nop\nblo"
    (tmp_path / "blocks.txt").write_text(text)
    first, second = read(tmp_path / "blocks.txt")
    assert (first[0].times, first[0].missed, len(first[0].body)) == (7, {"two-bit": 1, "last-backward": 2}, 2)
    assert second == []


def test_a_formula_is_found_again() -> None:
    shapes = [(1.0, 100.0, 40.0, 8.0), (1.0, 900.0, 80.0, 64.0), (1.0, 70.0, 4.0, 800.0), (1.0, 5.0, 400.0, 4.0),
              (1.0, 4000.0, 10.0, 10.0)]  # fmt: skip
    samples = [Sample("m", "k", each, round(50 + 2 * each[1] + 3 * each[3])) for each in shapes]
    constant, macs, read_bytes, written = fit(samples)
    assert (constant, macs, read_bytes, written) == pytest.approx((50, 2, 0, 3), rel=0.05, abs=0.2)
    assert fit(samples[:1]) == pytest.approx((0, (50 + 200 + 24) / 100, 0, 0), rel=1e-4)


def test_errors_are_those_of_models_that_were_left_out() -> None:
    samples = [Sample(f"{name} none infer", "k", (1.0, macs, 0.0, 0.0), round(2 * macs))
               for name, macs in (("a", 100.0), ("b", 300.0), ("c", 900.0))]  # fmt: skip
    assert left_out(samples) == pytest.approx(dict.fromkeys((each.case for each in samples), 0), abs=1e-4)
    alone = Sample("d none infer", "other", (1.0, 5.0, 0.0, 0.0), 10)
    assert "d none infer" not in left_out([*samples, alone])


def test_every_core_that_a_board_names_has_a_table_with_its_source() -> None:
    named = {load_board(name).cpu.core for name in list_boards()} - {None}
    assert named == set(list_cores())
    for name in list_cores():
        core = load_core(name)
        assert core.source and core.latency.load >= 1 and core.cost.predictor in ("two-bit", "last-backward")
    with pytest.raises(BackendError, match="no cycles are known"):
        load_core("z80")


def test_plan_estimates_and_says_by_what(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "digits-cnn", "--train", "all", "--target", "rp2350", "--no-build"]
    assert main([*words, "--json"]) == 0
    work = json.loads(capsys.readouterr().out)["work"]
    for name in ("infer", "train_step"):
        assert work[name]["cycles"] > work[name]["instructions"] > 0 and not work[name]["kernels_without_formula"]
        assert work[name]["milliseconds"] == pytest.approx(work[name]["cycles"] / 150e3, rel=1e-3, abs=1e-3)
    assert main(words) == 0
    said = capsys.readouterr().out
    assert re.search(r"about [\d,]+ an inference · [\d,]+ a training step instructions", said)
    assert load_core("hazard3").source in said and "150 MHz" in said


def test_nothing_is_estimated_where_nothing_was_counted() -> None:
    program = compile_model("digits-cnn", Options(train="all")).program
    function = program.functions["infer"]
    assert estimate(function, load_board("k210")) is None
    assert estimate(function, load_board("host")) is None
    assert estimate(function, load_board("qemu-rv32").with_profile("rv32imafcv")) is None
    float_core = estimate(function, load_board("ch32v307"))
    assert float_core is not None and float_core.cycles is None and float_core.milliseconds is None


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("model", ["digits-cnn", "mlp", "cnn", "ds-cnn", "resnet8", "mobilenetv1-0.25"])
def test_formulas_tell_what_was_counted(model: str, compiler: str) -> None:
    """The record is of the kernels as they are: one that has become faster since is to be fitted again."""
    _check(f"{model} none all rv32imafc", compiler, 0.06)


@pytest.mark.parametrize(
    "case",
    ["mnist-cnn dorefa:w1a2g6 all rv32imac", "mnist-cnn fixed8 all rv32imac",
     "mnist-cnn fp16:accumulate=native all rv32imafc_zfh"],
)  # fmt: skip
def test_formulas_tell_what_methods_took(case: str) -> None:
    _check(case, "zig", 0.12)


def _check(case: str, compiler: str, most: float) -> None:
    if compiler not in {each.name for each in find_riscv_compilers()}:
        pytest.skip(f"{compiler} for RISC-V is not installed")
    counts = json.loads((Path(__file__).parent / "instruction_counts.json").read_text())
    counted = counts[next(version for version in counts if compiler in version)][case]
    model, quant, _, profile = case.split()
    board = load_board("qemu-rv32").with_profile(profile)
    for phase, name, train in (("infer", "infer", "none"), ("train", "train_step", "all")):
        options = Options(train, isa=board.cpu.isa, fma=board.fma, quant=parse_plan(quant))
        program = compile_model(model, options).program
        told = estimate(program.functions[name], board, program.forms, compiler)
        assert told is not None and not told.unknown
        assert told.instructions == pytest.approx(counted[phase], rel=most)


def test_errors_are_as_the_docs_say() -> None:
    docs = (Path(__file__).parents[1] / "docs" / "planning.md").read_text()
    record = json.loads(RECORD.read_text())
    names = ("median_error", "largest_error", "median_error_seen", "largest_error_seen")
    rows = [(compiler, profile, *(f"{100 * own[name]:.0f} %" for name in names))
            for compiler in ("zig", "gcc") for profile, own in record[compiler]["profiles"].items()]  # fmt: skip
    assert {profile for _, profile, *_ in rows} == set(PROFILES)
    for row in rows:
        assert f"| {' | '.join(row)} |" in docs
    for own in (each for compiler in record.values() for each in compiler["profiles"].values()):
        assert own["median_error"] <= 0.055 and own["largest_error"] <= 0.41
        assert own["median_error_seen"] <= 0.03 and own["largest_error_seen"] <= 0.25


def test_zeros_and_padding_are_known() -> None:
    function = compile_model("digits-cnn", Options(train="all")).program.functions["train_step"]
    steps = [dict(zip(NAMES, each, strict=True)) | {"kernel": step.kernel}
             for each, step in zip(terms(function), function.steps, strict=True)]  # fmt: skip
    first, second = (each for each in steps if each["kernel"] == "et_conv_relu_f32")
    inside = (22 / 24) ** 2  # of three taps on eight pixels
    assert first["macs"] == 8 * 8 * 8 * 9 and first["live_macs"] == pytest.approx(first["macs"] * inside)
    assert second["live_macs"] == pytest.approx(second["macs"] * (10 / 12) ** 2)
    # What a pool's gradient has put into one of four, times the inputs that a ReLU and a pool have let through.
    back = next(each for each in steps if each["kernel"] == "et_conv_grad_input_f32")
    assert back["live_macs"] == pytest.approx(back["macs"] * (10 / 12) ** 2 / 4)


@pytest.mark.slow
@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
def test_blocks_add_up_to_what_the_firmware_counts() -> None:
    samples = sample(Case("digits-cnn"), "rv32imac")
    assert {each.case for each in samples} == {"digits-cnn none infer", "digits-cnn none train"}
    for each in samples:
        assert set(each.cycles) == set(list_cores())
        assert all(0.98 < count / each.instructions < 3 for count in each.cycles.values() if each.instructions > 2000)
    found = record({"rv32imac": samples}, None)["profiles"]["rv32imac"]
    assert set(found["kernels"]) == {each.kernel for each in samples} == set(found["cycles"]["e31"])
