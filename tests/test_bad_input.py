"""Bad input: every mistake of the user gives what, where and a hint, exit 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from toolkit.cli import main

onnx = pytest.importorskip("onnx")


class Refusals:
    """Runs commands that must be refused, in a folder that they must leave as it was."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *arguments: str, says: str, where: str = "", hint: str = "hint: ") -> str:
        """What was said on stderr, once all promises were found to hold."""
        before = self._files()
        self._capsys.readouterr()
        assert main(arguments) == 2
        said = self._capsys.readouterr()
        assert said.out == "", "results go to stdout, errors do not"
        assert any(line.startswith("error: ") for line in said.err.splitlines()) and says in said.err, said.err
        assert where in said.err and hint in said.err, said.err
        assert "Traceback" not in said.err and "internal error" not in said.err
        assert self._files() == before, "something half-written was left"
        assert main([*arguments, "--json"]) == 2
        problem = json.loads(self._capsys.readouterr().out)
        assert says.splitlines()[0] in problem["error"]["what"] or says in said.err
        assert self._files() == before
        return said.err

    def _files(self) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(self.folder.rglob("*")) if p.is_file()}


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refusals:
    monkeypatch.chdir(tmp_path)
    return Refusals(tmp_path, capsys)


def save_model(path: Path, *nodes: onnx.NodeProto, shape: tuple[int | str, ...], **weights: np.ndarray) -> str:
    """A model from `x` to `y`."""
    helper = onnx.helper
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path.name


def save_digits(path: Path, count: int = 64, **arrays: np.ndarray) -> str:
    """Samples for digits-cnn, with some arrays replaced."""
    good = {"x": np.zeros((count, 1, 8, 8), np.float32), "y": np.zeros(count, np.int64)}
    np.savez(path, **good | arrays)  # type: ignore[arg-type]
    return path.name


def test_a_model_that_does_not_exist(refused: Refusals) -> None:
    refused("plan", "missing.onnx", says="no such file", where="missing.onnx", hint="")
    refused("inspect", "lenett", says="neither a file nor a model of the zoo", hint="did you mean lenet?")


def test_a_truncated_model_and_a_file_that_is_none(refused: Refusals) -> None:
    assert main(["zoo", "digits-cnn", "-o", "m.onnx"]) == 0
    whole = Path("m.onnx").read_bytes()
    Path("half.onnx").write_bytes(whole[: len(whole) // 2])
    Path("text.onnx").write_text("this is a text\n" * 100)
    Path("empty.onnx").write_bytes(b"")
    for name in ("half.onnx", "text.onnx", "empty.onnx"):
        refused("compile", name, "-o", "out", says="not an ONNX file, or a truncated one", where=name)


def test_all_unsupported_operators_are_listed_at_once(refused: Refusals) -> None:
    make = onnx.helper.make_node
    nodes = [
        make("Relu", ["x"], ["r"], name="/fine"),
        make("NonZero", ["r"], ["e"], name="/nonzero"),
        make("Det", ["e"], ["y"], name="/det"),
    ]
    name = save_model(refused.folder / "m.onnx", *nodes, shape=(1, 3, 4, 4))
    said = refused("compile", name, "-o", "out", says="2 operators", where="m.onnx")
    assert "/nonzero" in said and "/det" in said and "/fine" not in said.splitlines()[0]


def test_a_dimension_without_a_value(refused: Refusals) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="/relu")
    name = save_model(refused.folder / "m.onnx", node, shape=(1, 3, "height", "width"))
    refused("plan", name, "--no-build", says="height", where="m.onnx")
    refused("plan", name, "--no-build", "--shape", "x=1,3,four,4", says="is no shape", where="--shape")
    refused("plan", name, "--no-build", "--shape", "1,3,4,4", says="names no input", where="--shape")
    refused("plan", name, "--no-build", "--shape", "z=1,3,4,4", says="no input named 'z'", where="m.onnx")
    assert main(["plan", name, "--no-build", "--shape", "x=1,3,4,4"]) == 0


def test_weights_that_are_not_numbers(refused: Refusals) -> None:
    weight = np.ones((4, 2), np.float32)
    weight[3, 1] = np.nan
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="/fc")
    name = save_model(refused.folder / "m.onnx", node, shape=(1, 4), w=weight)
    refused("compile", name, "-o", "out", says="the weights hold nan at [3, 1]", where="w")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros((64, 1, 9, 8), np.float32)}, "samples are Nx1x9x8; the model takes Nx1x8x8"),
        ({"y": np.full(64, 10)}, "label 10 in sample 0 is out of range"),
        ({"x": np.full((64, 1, 8, 8), np.nan, np.float32)}, "NaN"),
        ({"y": np.zeros(60, int)}, "64 samples but 60 labels"),
    ],
)
def test_data_that_does_not_suit_the_model(refused: Refusals, arrays: dict[str, np.ndarray], says: str) -> None:
    name = save_digits(refused.folder / "d.npz", **arrays)
    refused("train", "digits-cnn", "--data", name, "-o", "t.onnx", says=says, where="d.npz", hint="")


def test_data_that_does_not_exist_or_is_too_little(refused: Refusals) -> None:
    refused("train", "digits-cnn", "--data", "none.npz", says="no such file", where="none.npz")
    name = save_digits(refused.folder / "d.npz", 8)
    refused("train", "digits-cnn", "--data", name, says="fewer than one update needs", where="--batch")


def test_inputs_that_do_not_suit_the_model(refused: Refusals) -> None:
    np.savez("in.npz", input=np.zeros((1, 1, 8, 9), np.float32))
    arguments = ("simulate", "digits-cnn", "--input", "in.npz", "--output", "out.npz")
    refused(*arguments, says="'input' is 1x1x8x9; the model takes 1x1x8x8", where="in.npz", hint="")
    np.savez("in.npz", a=np.zeros(1), b=np.zeros(1))
    refused(*arguments, says="no array for the input 'input'", where="in.npz")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--target", "qemu-rv23"], "unknown target 'qemu-rv23'"),
        (["--target", "qemu-rv32", "--profile", "rv32x"], "no profile 'rv32x'"),
        (["--train", "lasst:2"], "unknown update scheme"),
        (["--train", "last:9"], "has only 3 layers"),
        (["--train", "layers:conv9"], "no layer or parameter is called 'conv9'"),
        (["--train", "all", "--optimizer", "adm"], "unknown optimizer 'adm'"),
        (["--train", "all", "--loss", "crossentropy"], "unknown loss 'crossentropy'"),
        (["--batch", "0"], "--batch"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_options_that_are_not_understood(refused: Refusals, options: list[str], says: str) -> None:
    refused("compile", "digits-cnn", "-o", "out", *options, says=says)


def test_an_unknown_command(refused: Refusals) -> None:
    refused("trian", says="no command 'trian'; did you mean train?")


def test_an_output_folder_that_is_not_empty(refused: Refusals) -> None:
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    refused("compile", "digits-cnn", "-o", "out", says="not empty", where="out", hint="--force")
    refused("compile", "digits-cnn", "-o", "out", "--force", says="not a folder that edgetrain wrote", hint="")
    Path("file").write_text("")
    refused("compile", "digits-cnn", "-o", "file", says="is a file, not a folder", where="file", hint="")


def test_an_output_that_cannot_be_written(refused: Refusals) -> None:
    name = save_digits(refused.folder / "d.npz")
    refused("train", "digits-cnn", "--data", name, "-o", "no/t.onnx", says="folder does not exist", hint="mkdir -p no")
    refused("zoo", "mlp", "-o", "no/m.onnx", says="folder does not exist", where="no/m.onnx")


def test_a_model_that_does_not_fit_is_not_compiled(refused: Refusals) -> None:
    said = refused("compile", "mlp", "--train", "all", "--target", "hifive1", "-o", "out", says="does not fit hifive1")
    assert "Largest causes: fc1.weight" in said and "Fits: --train last:1" in said


def test_a_compiler_that_is_missing(refused: Refusals, monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen import compilers

    monkeypatch.setattr(compilers, "find_riscv_compilers", list)
    monkeypatch.setattr(compilers, "find_host_compilers", list)
    refused("plan", "digits-cnn", says="no C compiler for RISC-V", where="--compiler", hint="install")
    refused("verify", "digits-cnn", "--on", "reference,host", says="no C compiler for this PC", hint="install")


def test_an_emulator_that_is_missing(refused: Refusals, monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen.compilers import find_riscv_compilers

    if not find_riscv_compilers():
        pytest.skip("no compiler for RISC-V is installed")
    found = shutil.which
    monkeypatch.setattr("shutil.which", lambda name, *rest: None if "qemu" in name else found(name, *rest))
    monkeypatch.setattr("toolkit.sim.spike.spike_command", lambda: None)
    arguments = ("verify", "digits-cnn", "--steps", "1", "--on", "reference,qemu-rv32")
    refused(*arguments, says="qemu-system-riscv32 is not installed", hint="apt-get install")
    refused("verify", "digits-cnn", "--on", "reference,no-such-board", says="unknown target")
    refused("verify", "digits-cnn", "--on", "host", says="nothing to compare with")


def children(command: str) -> list[int]:
    """Processes of this name that this process has started."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            status = (place / "stat").read_text()
        except OSError:
            continue
        name, parent = status[status.index("(") + 1 : status.rindex(")")], status[status.rindex(")") + 2 :].split()[1]
        if command.startswith(name) and int(parent) == os.getpid():
            found.append(int(place.name))
    return found


@pytest.mark.emulator
def test_an_emulator_killed_half_way(refused: Refusals) -> None:
    from codegen.compilers import find_riscv_compilers

    if shutil.which("qemu-system-riscv32") is None or not find_riscv_compilers() or not Path("/proc").exists():
        pytest.skip("no emulator, or no compiler for RISC-V")
    name = save_digits(refused.folder / "d.npz", 640)
    arguments = ("train", "digits-cnn", "--data", name, "--on", "qemu-rv32", "--epochs", "200", "-o", "t.onnx")
    stop = threading.Event()

    def kill_soon_after_the_start() -> None:
        while not stop.wait(0.05):
            for process in children("qemu-system-riscv32"):
                time.sleep(1.0)
                os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill_soon_after_the_start)
    killer.start()
    try:
        refused(*arguments, says="SIGKILL")
    finally:
        stop.set()
        killer.join()


def test_a_package_that_is_missing(refused: Refusals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    refused("plan", "digits-cnn", "--no-build", "--plot", "a.png", says="plots need matplotlib", hint="pip install")
    refused("demo", says="scikit-learn", hint="pip install scikit-learn")


def test_an_internal_error_is_told_from_a_mistake(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("the tool is at fault")

    monkeypatch.delenv("EDGETRAIN_DEBUG", raising=False)
    monkeypatch.setattr("toolkit.zoo.describe", broken)
    assert main(["zoo"]) == 1
    said = capsys.readouterr().err
    assert "internal error: RuntimeError: the tool is at fault" in said and "Traceback" not in said


def test_the_program_itself_exits_with_the_code() -> None:
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "toolkit.cli", "plan", "no-such-model"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr


def test_a_full_disk_leaves_nothing_behind(refused: Refusals, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Path.write_text

    def full(self: Path, *arguments: object, **options: object) -> int:
        if self.name == "weights.c":
            raise OSError(28, "No space left on device")
        return honest(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    refused("compile", "digits-cnn", "-o", "out", says="No space left on device", where="out", hint="")
