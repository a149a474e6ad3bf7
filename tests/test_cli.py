"""The command line: what each command prints and writes, for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """The one object on stdout."""
    assert main([*arguments, "--json"]) == code
    loaded: dict[str, Any] = json.loads(capsys.readouterr().out)
    return loaded


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """240 pictures of 8x8 that are told apart by which of ten pixels is bright."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 10, 240)
    x = generator.random((240, 1, 8, 8)).astype(np.float32) * np.float32(0.1)
    x[np.arange(240), 0, 2 + y // 5, 1 + y % 5] = 1
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return tmp_path / "data.npz"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_takes_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example:" in text and f"edgetrain {name}" in text and "--json" in text


def test_help_imports_nothing_heavy() -> None:
    script = "import sys; from toolkit.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stderr.split())
    assert not loaded & {"numpy", "onnx", "rich", "pydantic", "cffi", "matplotlib", "jinja2", "serial"}


def test_inspect_says_what_training_would_need(capsys: pytest.CaptureFixture[str]) -> None:
    data = run_json(capsys, "inspect", "digits-cnn")
    assert data["inputs"] == {"input": [1, 1, 8, 8]} and data["macs"] == 23680 and data["parameters"] == 1898
    assert data["training"]["all"]["weights"] == 4 * 1898 and data["training"]["none"]["weights"] == 0
    assert main(["inspect", "digits-cnn"]) == 0
    assert "/conv1" in capsys.readouterr().out


def test_train_learns_and_writes_a_model_that_knows_it(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, log = tmp_path / "out.onnx", tmp_path / "log.jsonl"
    arguments = ["--data", str(digits), "--epochs", "8", "--batch", "8", "-o", str(out), "--log", str(log)]
    data = run_json(capsys, "train", "digits-cnn", *arguments, "--seed", "3")
    assert data["accuracy"] >= 0.9 and data["epochs"] == 8 and data["seed"] == 3
    assert data["samples"] == 192 and data["evaluated"] == 48
    assert {"loss", "seconds"} <= set(data)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 8 and lines[-1]["accuracy"] == data["accuracy"] and lines[-1]["loss"] < lines[0]["loss"]

    with np.load(digits) as arrays:
        x, y = arrays["x"], arrays["y"]
    np.savez(tmp_path / "in.npz", **{"in:input": x})
    assert main(["simulate", str(out), "--input", str(tmp_path / "in.npz"), "--output", str(tmp_path / "o.npz")]) == 0
    with np.load(tmp_path / "o.npz") as outputs:
        assert outputs["output"].shape == (240, 10)
        assert np.mean(outputs["output"].argmax(axis=1) == y) >= 0.9


def test_the_same_seed_gives_the_same_model(digits: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        assert main(["train", "digits-cnn", "--data", str(digits), "--epochs", "1", "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_simulate_gives_the_same_bits_in_slices_as_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).standard_normal((7, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "in.npz", input=x)
    found = []
    for number, extra in enumerate((["--batch", "7"], ["--batch", "3"], ["--on", "reference"])):
        out = tmp_path / f"out{number}.npz"
        arguments = ["digits-cnn", "--input", str(tmp_path / "in.npz"), "--output", str(out), *extra]
        run_json(capsys, "simulate", *arguments)
        with np.load(out) as outputs:
            found.append(outputs["output"].view(np.uint32))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_plan_gives_the_keys_that_others_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    data = run_json(capsys, "plan", "digits-cnn", "--train", "all", "--no-build", "--steps")
    assert set(data["ram"]) == {"weights", "arena", "stack", "link", "total"}
    assert set(data["flash"]) == {"text", "weights", "total"}
    numbers = [*data["ram"].values(), *data["flash"].values(), data["arena_lower_bound"], *data["macs"].values()]
    assert all(type(number) is int for number in numbers)
    assert data["ram"]["weights"] == 4 * 1898 and data["macs"]["infer"] == 23680
    assert data["ram"]["total"] == sum(v for k, v in data["ram"].items() if k != "total")
    assert max(row["live_bytes"] for row in data["steps"]["train_step"]) == data["arena_lower_bound"]


@pytest.mark.emulator
def test_plan_counts_the_code_of_the_firmware(capsys: pytest.CaptureFixture[str]) -> None:
    from codegen.compilers import find_riscv_compilers

    if not find_riscv_compilers():
        pytest.skip("no compiler for RISC-V is installed")
    data = run_json(capsys, "plan", "digits-cnn", "--target", "hifive1")
    assert data["fits"] and data["flash"]["text"] > 1000 and data["ram"]["link"] > 0


def test_plan_over_the_budget_says_by_how_much_why_and_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "mlp", "--train", "all", "--target", "hifive1", "--no-build"]) == 2
    said = capsys.readouterr()
    assert "error: mlp does not fit hifive1" in said.err
    assert "Largest causes: fc1.weight 401,408 B" in said.out
    assert "Fits: --train last:1" in said.out

    data = run_json(capsys, "plan", "mlp", "--train", "all", "--target", "hifive1", "--no-build", code=2)
    assert not data["fits"] and data["excess"]["RAM"] == data["ram"]["total"] - 16384


def test_plan_draws_the_arena(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "arena.png"
    run_json(capsys, "plan", "digits-cnn", "--train", "all", "--no-build", "--plot", str(path))
    assert path.read_bytes().startswith(b"\x89PNG") and not list(tmp_path.glob(".*"))


def test_compile_writes_the_same_folder_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        data = run_json(capsys, "compile", "digits-cnn", "--train", "head", "-o", str(tmp_path / name))
        assert {"model.c", "model.h", "weights.c", "manifest.json", "Makefile", "linker.ld"} <= set(data["files"])
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["arena_bytes"] > 0


def test_compile_replaces_its_own_folder_when_told_to(tmp_path: Path) -> None:
    arguments = ["compile", "digits-cnn", "--target", "host", "-o", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert main(arguments) == 2
    (tmp_path / "out" / "old.c").write_text("")
    assert main([*arguments, "--force"]) == 0
    assert not (tmp_path / "out" / "old.c").exists()


def test_verify_finds_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", "digits-cnn", "--steps", "2", "--on", "reference,host", "--optimizer", "adam"]
    data = run_json(capsys, *arguments)
    assert data["differing_bits"] == 0 and data["compared_bits"] > 100_000
    assert data["steps"] == 2 and data["on"] == ["reference", "host"] and "first_difference" not in data
    assert main([*arguments, "--fma", "off"]) == 0
    assert capsys.readouterr().out.startswith("0 of ")


def test_verify_shows_the_first_difference(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.sim.host import HostBackend

    honest = HostBackend.infer

    def with_a_wrong_bit(self: Any, inputs: Any) -> Any:
        outputs = honest(self, inputs)
        outputs[0].view(np.uint32)[0, 4] ^= 1
        return outputs

    monkeypatch.setattr(HostBackend, "infer", with_a_wrong_bit)
    arguments = ["verify", "digits-cnn", "--steps", "2", "--on", "reference,host"]
    data = run_json(capsys, *arguments, code=1)
    first = data["first_difference"]
    assert data["differing_bits"] == 2 and first["step"] == 0 and first["index"] == [0, 4]
    assert first["values"]["host"]["hex"] != first["values"]["reference"]["hex"]
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert "written by et_dense_f32 of /fc1" in said and "again: edgetrain verify digits-cnn" in said


def test_zoo_builds_models_of_the_shape_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "lenet" in run_json(capsys, "zoo")["models"]
    path = tmp_path / "m.onnx"
    run_json(capsys, "zoo", "lenet", "-o", str(path), "--input-shape", "3,32,32", "--classes", "4")
    data = run_json(capsys, "inspect", str(path))
    assert data["inputs"]["input"] == [1, 3, 32, 32] and data["outputs"]["output"] == [1, 4]


def test_targets_lists_boards_and_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {board["id"] for board in run_json(capsys, "targets")["targets"]}
    assert {"host", "qemu-rv32", "hifive1"} <= listed
    board = run_json(capsys, "targets", "show", "hifive1")
    assert [memory["size"] for memory in board["memory"] if memory["name"] == "RAM"] == [16384]
    assert main(["targets", "show", "hifive1"]) == 0
    assert "0x80000000" in capsys.readouterr().out


def test_doctor_names_the_command_that_installs_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("toolkit.sim.spike.spike_command", lambda: None)
    data = run_json(capsys, "doctor")
    emulator = next(f for f in data["findings"] if f["kind"] == "emulator")
    assert emulator["found"] is None and emulator["install"].startswith("apt-get install")


@pytest.mark.slow
def test_demo_ends_with_no_differing_bit(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    data = run_json(capsys, "demo")
    assert data["differing_bits"] == 0 and data["accuracy"]["trained_on_pc"] > 0.95
    assert data["accuracy"]["turned_after"] > data["accuracy"]["turned_before"] + 0.5


def test_a_model_that_takes_one_sample_accumulates_a_batch(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    weight = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32) * np.float32(0.1)
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])],
        "model",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 1, 8, 8))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 10))],
        [numpy_helper.from_array(np.array([1, 64]), "shape"), numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "single.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    assert main(["train", str(path), "--data", str(digits), "--epochs", "30", "--lr", "0.2", "--json"]) == 0
    said = capsys.readouterr()
    assert "32 steps are accumulated for each update" in said.err and json.loads(said.out)["accuracy"] > 0.8


def test_bars_appear_on_a_terminal_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.cli import output

    with output.progress() as bar:
        bar("work", 0, None)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with output.progress() as bar:
        bar("work", 0, None)
        bar("work", 3, 3)
    said = capsys.readouterr()
    assert "work" in said.err and said.out == ""
