"""Libraries for other build systems: their files say what those expect, and their sources compile as laid out."""

from __future__ import annotations

import configparser
import json
import re
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from codegen.board import list_boards, load_board
from codegen.compilers import find_riscv_compilers
from codegen.errors import BackendError
from codegen.program import Program
from codegen.wrappers import KINDS, write_wrapper
from tests.stand_ins import write_stand_ins
from toolkit.cli import main, program
from toolkit.link.session import Session
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim.backend import STATUS
from toolkit.sim.host import HostBackend
from toolkit.sim.linked import LinkedBackend
from toolkit.sim.parity import random_samples


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_model("digits-cnn", Options(train="last:2", fma=False))


@pytest.fixture(scope="module")
def model(compiled: Compiled) -> Program:
    return compiled.program


class _Socket:
    """A session's stream over a connected socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, timeout: float) -> bytes:
        ready, _, _ = select.select([self._socket], [], [], timeout)
        return self._socket.recv(65536) if ready else b""

    def close(self) -> None:
        self._socket.close()


@contextmanager
def _served(app: Path) -> Iterator[Session]:
    """A session with a program whose cable is its standard input and output."""
    ours, its = socket.socketpair()
    process = subprocess.Popen([app], stdin=its, stdout=its)
    its.close()
    try:
        yield Session(_Socket(ours), wait_ready=10.0, run_timeout=10.0, attempts=2)
    finally:
        ours.close()
        assert process.wait(10) == 0


def _learns_over_its_cable(app: Path, compiled: Compiled, stores: bool) -> None:
    """Three training steps through the link of a wrapper give the bits that they give on this PC."""
    samples = [sample for _, sample in zip(range(3), random_samples(compiled, 5), strict=False)]
    with _served(app) as session, HostBackend(compiled) as host, LinkedBackend(compiled, session, "app") as board:
        for inputs, label in samples:
            assert label is not None
            assert board.train_step(inputs, label) == host.train_step(inputs, label)
        wanted = host.state()
        assert all(value.tobytes() == wanted[name].tobytes() for name, value in board.state().items())
        assert session.board.stores == stores
        saved = session.save(mark=9)
        assert STATUS[saved.status] == ("ET_OK" if stores else "ET_NO_FLASH")
        if stores:
            session.set_scalars(step=50)
            assert session.load().mark == 9 and session.scalars().step == 3


def _written(kind: str, board: str, model: Program, place: Path) -> Path:
    write_wrapper(place, model, load_board(board), "edgetrain 0.1.0", kind)
    return place


def _run(*command: object, folder: Path | None = None) -> str:
    ran = subprocess.run([str(c) for c in command], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    return ran.stdout


def _needs(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return path


# ---- what the files say


def test_platformio_finds_a_library_and_a_program(model: Program, tmp_path: Path) -> None:
    place = _written("platformio", "esp32c3", model, tmp_path)
    library = json.loads((place / "lib/digits_cnn/library.json").read_text())
    assert library["name"] == "digits_cnn" and library["version"] == "0.1.0"
    assert "-ffp-contract=off" in library["build"]["flags"]
    assert (place / "lib/digits_cnn" / library["build"]["srcDir"] / "model.c").is_file()
    settings = configparser.ConfigParser()
    settings.read(place / "platformio.ini")
    assert dict(settings["env:esp32c3"]) == {
        "platform": "espressif32", "board": "esp32-c3-devkitm-1", "framework": "espidf"
    }  # fmt: skip


def test_arduino_finds_every_field_that_its_specification_asks_for(model: Program, tmp_path: Path) -> None:
    place = _written("arduino", "esp32c3", model, tmp_path)
    lines = (place / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    needed = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert needed <= set(fields) and fields["version"] == "0.1.0"
    assert (place / "src" / fields["includes"]).is_file()
    assert (place / "examples/digits_cnn_sensor/digits_cnn_sensor.ino").is_file()  # named as its folder


def test_zephyr_finds_a_module(model: Program, tmp_path: Path) -> None:
    place = _written("zephyr", "esp32c3", model, tmp_path)
    text = (place / "zephyr/module.yml").read_text()
    keys = dict(re.findall(r"^\s*(\w+): *(\S*)$", text, re.MULTILINE))
    assert keys == {"name": "digits_cnn", "build": "", "cmake": "zephyr", "kconfig": "zephyr/Kconfig"}
    assert (place / keys["cmake"] / "CMakeLists.txt").is_file()
    option = re.search(r"^config (\w+)\n\tbool \"", (place / keys["kconfig"]).read_text(), re.MULTILINE)
    assert option and f"CONFIG_{option[1]}=y" in (place / "sample/prj.conf").read_text()


def test_esp_idf_finds_a_component_for_the_chip(model: Program, tmp_path: Path) -> None:
    place = _written("esp-idf", "esp32p4", model, tmp_path)
    text = (place / "components/digits_cnn/idf_component.yml").read_text()
    assert re.search(r'^version: "\d+\.\d+\.\d+"$', text, re.MULTILINE) and "  - esp32p4\n" in text
    assert "CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ_360=y" in (place / "sdkconfig.defaults").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_same_input_same_files_and_no_printf(kind: str, model: Program, tmp_path: Path) -> None:
    first, second = _written(kind, "esp32c3", model, tmp_path / "a"), _written(kind, "esp32c3", model, tmp_path / "b")
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    for name in names:
        assert (first / name).read_text() == (second / name).read_text()
        assert "printf" not in (first / name).read_text()


def test_a_board_that_the_build_system_does_not_know_is_refused_with_those_that_it_knows(
    model: Program, tmp_path: Path
) -> None:
    for kind, board in (("esp-idf", "rp2350"), ("platformio", "qemu-rv32")):
        with pytest.raises(BackendError, match="esp32c3"):
            write_wrapper(tmp_path, model, load_board(board), "edgetrain 0.1.0", kind)
    assert not list(tmp_path.iterdir())
    known = [name for name in list_boards() if load_board(name).esp_idf]
    assert known == ["esp32c3", "esp32c6", "esp32p4"]


# ---- what compiles


def test_the_platformio_program_compiles_for_its_chip(model: Program, tmp_path: Path) -> None:
    gcc = [compiler for compiler in find_riscv_compilers() if compiler.name == "gcc"]
    if not gcc:
        pytest.skip("gcc for RISC-V is not installed")
    place = _written("platformio", "esp32c3", model, tmp_path)
    flags = json.loads((place / "lib/digits_cnn/library.json").read_text())["build"]["flags"].split()
    core = ["-march=rv32imc", "-mabi=ilp32", "-ffreestanding", "-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror"]
    sources = [*sorted((place / "lib/digits_cnn/src").glob("*.c")), place / "src/main.c"]
    for source in sources:
        _run(*gcc[0].command, *core, *flags, f"-I{place / 'lib/digits_cnn/src'}", "-c", source,
             "-o", tmp_path / f"{source.stem}.o")


def test_the_sketch_compiles_as_cpp_its_library_as_c_and_it_learns_over_its_cable(
    compiled: Compiled, tmp_path: Path
) -> None:
    compiler = _needs("g++")
    place = _written("arduino", "esp32c3", compiled.program, tmp_path)
    headers = write_stand_ins("arduino", place)
    sketch = place / "examples/digits_cnn_sensor/digits_cnn_sensor.ino"
    strict = ("-std=gnu++17", "-Wall", "-Wextra", "-Werror", f"-I{place / 'src'}", f"-I{headers}")
    # The IDE puts this include before a sketch.
    _run(compiler, "-x", "c++", *strict, "-include", "Arduino.h", "-c", sketch, "-o", tmp_path / "sketch.o")
    objects = [tmp_path / "sketch.o"]
    for source in sorted((place / "src").glob("*.c")):
        objects.append(tmp_path / f"{source.stem}.o")
        _run(_needs("gcc"), "-std=gnu17", f"-I{place / 'src'}", "-c", source, "-o", objects[-1])
    start = tmp_path / "start.cpp"
    start.write_text("void setup(); void loop(); int main() { setup(); for (;;) loop(); }\n")
    _run(compiler, start, *objects, "-lm", "-o", tmp_path / "app")
    _learns_over_its_cable(tmp_path / "app", compiled, stores=False)


def test_arduino_sources_round_twice_though_nobody_sets_flags(model: Program, tmp_path: Path) -> None:
    """gcc fuses multiply-adds unless told not to: by the pragma, where flags cannot be set."""
    gcc = [compiler for compiler in find_riscv_compilers() if compiler.name == "gcc"]
    if not gcc:
        pytest.skip("gcc for RISC-V is not installed")
    place = _written("arduino", "esp32c3", model, tmp_path)
    core = ["-march=rv32imafc", "-mabi=ilp32f", "-ffreestanding", "-std=gnu17", "-O2", f"-I{place / 'src'}", "-S"]
    fused = {"as written": 0, "bare": 0}
    for source in sorted((place / "src").glob("et_*.c")):
        text = source.read_text()
        for kind, content in (("as written", text), ("bare", text[text.index("#endif") + 7 :])):
            source.write_text(content)
            _run(*gcc[0].command, *core, source, "-o", tmp_path / "out.s")
            fused[kind] += len(re.findall(r"\bfn?m(?:add|sub)\.s\b", (tmp_path / "out.s").read_text()))
    assert fused["as written"] == 0 and fused["bare"] > 0


@pytest.mark.parametrize("kind", ["zephyr", "esp-idf"])
def test_cmake_files_build_and_the_program_learns_over_its_cable(
    kind: str, compiled: Compiled, tmp_path: Path
) -> None:
    cmake = _needs("cmake")
    place = _written(kind, "esp32c6", compiled.program, tmp_path)
    write_stand_ins(kind, place)
    _run(cmake, "-B", "out", folder=place)
    _run(cmake, "--build", "out", folder=place)
    _learns_over_its_cable(place / "out/app", compiled, stores=kind == "esp-idf")


def test_the_partition_for_states_is_behind_the_program(model: Program, tmp_path: Path) -> None:
    place = _written("esp-idf", "esp32c3", model, tmp_path)
    lines = [line for line in (place / "partitions.csv").read_text().splitlines() if not line.startswith("#")]
    rows = {row[0]: row for row in ([cell.strip() for cell in line.split(",")] for line in lines)}
    assert rows["factory"][:3] == ["factory", "app", "factory"] and rows["edgetrain"][1] == "data"
    assert all(len(row) == 5 for row in rows.values())
    settings = (place / "sdkconfig.defaults").read_text().splitlines()
    assert {'CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="partitions.csv"', "CONFIG_ESP_CONSOLE_NONE=y"} <= set(settings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_only_infers_is_served_too(kind: str, tmp_path: Path) -> None:
    program = compile_model("digits-cnn", Options(fma=False)).program
    place = _written(kind, "esp32c3", program, tmp_path)
    source = next(place.rglob("serve.c"))
    strict = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", f"-I{source.parent}")
    for name in ("serve.c", "hooks.c", "port.c", "et_device.c", "et_store.c"):
        _run(_needs("gcc"), *strict, "-c", source.parent / name, "-o", tmp_path / "object.o")


def test_the_command_writes_a_wrapper_and_replaces_it_only_when_forced(tmp_path: Path) -> None:
    place = tmp_path / "library"
    given = ["compile", "digits-cnn", "--target", "esp32c6", "--wrapper", "esp-idf", "-o", str(place)]
    answer = CliRunner().invoke(program, [*given, "--json"], catch_exceptions=False)
    assert "components/digits_cnn/src/model.c" in json.loads(answer.stdout)["files"]
    assert main(given) == 2 and main([*given, "--force"]) == 0
