"""Learning on a board over the cable: the right bits, whatever the line does, and the weights brought home."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from codegen.program import Array
from toolkit.cli.finetune import command
from toolkit.data.digits import load_digits
from toolkit.errors import UserError
from toolkit.link.codes import Codes
from toolkit.link.faults import FaultyStream
from toolkit.link.session import Session
from toolkit.link.streams import ReopenedStream, Stream, open_stream
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim.backend import open_backend
from toolkit.sim.device import DeviceBackend
from toolkit.sim.federated import Member, average, train_together
from toolkit.sim.finetune import Plan, Tuner, board_accuracy
from toolkit.sim.linked import LinkedBackend
from toolkit.train.step import TrainingOptions

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]
NAMES = ("data.npz", "test.npz")


@cache
def digits() -> Compiled:
    return compile_model("digits-cnn", Options(train="head", batch=1))


def plan(samples: int, epochs: int = 1, save_every: int = 25) -> Plan:
    data = load_digits()
    return Plan(data.x[:samples], data.y[:samples], epochs, 0.02, "linear", seed=3, save_every=save_every)


def never() -> bool:
    return False


def on_board(through: Callable[[Stream], Stream] | None = None, timeout: float = 2.0) -> DeviceBackend:
    return DeviceBackend(digits(), load_board("qemu-rv32"), direct=False, through=through, timeout=timeout)


@pytest.fixture(scope="module")
def device() -> Iterator[DeviceBackend]:
    with on_board() as backend:
        yield backend


@cache
def wanted(samples: int, epochs: int = 1) -> dict[str, Array]:
    """The state after a run in which nothing goes wrong, on this PC."""
    with open_backend(digits()) as host:
        host.seed = 3
        steps = epochs * samples
        data = plan(samples, epochs)
        for step in range(steps):
            index = int(data.order(step // samples)[step % samples])
            host.learning_rate = 0.02 * (1.0 - step / steps)
            host.train_step([data.x[index : index + 1].transpose(0, 2, 3, 1)], data.y[index : index + 1])
        return host.state()


def same(first: dict[str, Array], second: dict[str, Array]) -> bool:
    return first.keys() == second.keys() and all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_a_shadow_finds_no_bit_that_differs(device: DeviceBackend) -> None:
    with open_backend(digits()) as shadow:
        tuner = Tuner(device, plan(60, 2), shadow, restart=True)
        assert tuner.run(tuner.total, never)
    assert (tuner.tally.done, tuner.tally.differing_bits) == (120, 0)
    assert tuner.tally.compared_bits > 100_000
    assert same(device.state(), wanted(60, 2))


def test_a_shadow_finds_a_bit_that_differs(device: DeviceBackend) -> None:
    with open_backend(digits()) as shadow:
        tuner = Tuner(device, plan(30), shadow, restart=True)
        tuner.run(10, never)
        name, value = next(iter(shadow.state().items()))
        value.reshape(-1)[0] += np.float32(1)
        shadow.set_state({name: value})
        tuner.run(30, never)
    assert tuner.tally.differing_bits > 0


def test_a_run_that_is_stopped_goes_on_where_it_was(device: DeviceBackend) -> None:
    first = Tuner(device, plan(60, 2), restart=True)
    assert not first.run(first.total, lambda: first.tally.done == 41)
    device.init()  # as if the power had gone: what is not in flash is lost
    second = Tuner(device, plan(60, 2))
    assert second.resumed_at == 41
    assert second.run(second.total, never)
    assert same(device.state(), wanted(60, 2))


@pytest.mark.parametrize("coded", [True, False])
def test_a_board_that_resets_in_the_middle_goes_on_from_its_last_state(device: DeviceBackend, coded: bool) -> None:
    assert device.use_codes(Codes.of(load_digits().x) if coded else None) is coded
    with open_backend(digits()) as shadow:
        tuner = Tuner(device, plan(60, 2), shadow, restart=True)
        for upset in (17, 60, 101):
            tuner.run(upset, never)
            device.session._request(16)  # type: ignore[arg-type]
        tuner.run(tuner.total, never)
    assert tuner.tally.resets == 3 and tuner.tally.differing_bits == 0
    assert same(device.state(), wanted(60, 2))


def test_accuracy_is_counted_on_the_board_as_here(device: DeviceBackend) -> None:
    from toolkit.sim.trainer import accuracy

    data = load_digits()
    device.init()
    assert board_accuracy(device, data.x[:50], data.y[:50]) == accuracy(device, data.x[:50], data.y[:50])


def bad_line(stream: Stream) -> Stream:
    """1 % of the bytes damaged, 1 % of the messages lost, a cable pulled every 50 messages."""
    faulty = FaultyStream(_Kept(stream), 0.01, 0.01, 50, seed=5)
    return ReopenedStream(lambda: faulty)


class _Kept:
    """The stream, that closing leaves open: only the connection breaks, not the emulator behind it."""

    def __init__(self, stream: Stream) -> None:
        self.send, self.receive = stream.send, stream.receive

    def close(self) -> None:
        return


@pytest.mark.parametrize("samples", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_bad_line_changes_no_bit(samples: int) -> None:
    with on_board(bad_line, timeout=0.25) as backend:
        assert backend.use_codes(Codes.of(load_digits().x))
        tuner = Tuner(backend, plan(samples, save_every=200), restart=True)
        assert tuner.run(tuner.total, never)
        found = backend.state()
        assert backend.session.traffic.retries > samples
    assert same(found, wanted(samples))


def test_firmware_of_another_model_or_of_other_options_is_refused(device: DeviceBackend) -> None:
    other = compile_model("digits-cnn", Options(train="all", batch=1))
    with pytest.raises(UserError, match="with other options"):
        LinkedBackend(other, device.session, "board")
    device.session.board = replace(before := device.session.board, sha256=bytes(16))
    try:
        with pytest.raises(UserError, match="another model"):
            LinkedBackend(digits(), device.session, "board")
    finally:
        device.session.board = before


def test_a_port_that_is_not_there_or_says_nothing_is_told() -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        open_stream("/dev/tty-that-is-not-there")
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = open_stream(f"socket://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(UserError, match="does not answer"):
            Session(stream, timeout=0.02, attempts=3)
        stream.close()


def test_weights_are_averaged_by_the_number_of_samples() -> None:
    program = digits().program
    with open_backend(digits()) as host:
        state = host.state()
    names = [buffer.name for buffer in program.params if buffer.trained]
    two = {name: np.full_like(value, 8) for name, value in state.items()}
    one = {name: np.full_like(value, 2) for name, value in state.items()}
    mean = average(program, [one, two], [2, 1])
    assert sorted(mean) == sorted(names) and all((value == 4).all() for value in mean.values())


def test_running_statistics_are_averaged_and_states_of_the_optimizer_are_not() -> None:
    compiled = compile_model("mnist-cnn", Options(train="all", training=TrainingOptions(optimizer="adam"), batch=2))
    state = {buffer.name: np.zeros(buffer.shape, buffer.dtype) for buffer in compiled.program.params}
    names = average(compiled.program, [state, state], [1, 1]).keys()
    running = {f"bn{number}.running_{what}" for number in (1, 2, 3) for what in ("mean", "var")}
    assert names == running | {buffer.name for buffer in compiled.program.params if buffer.trained}


def test_a_board_that_drops_out_comes_back() -> None:
    data = plan(40, save_every=100)
    boards: list[DeviceBackend] = []

    def connect(part: int) -> Tuner:
        boards.append(on_board())
        shard = replace(data, x=data.x[part::2], y=data.y[part::2], epochs=3)
        return Tuner(boards[-1], shard, restart=True)

    members = [Member(name, lambda part=part: connect(part)) for part, name in enumerate("ab")]  # type: ignore[misc]
    rounds: list[int] = []

    def after(done: int, total: int) -> None:
        rounds.append(done)
        if done == 1:
            os.kill(boards[1].emulator.pid, signal.SIGKILL)

    try:
        shared = train_together(members, 3, never, after)
        assert rounds == [1, 2, 3] and len(boards) == 3
        assert sum(member.lost for member in members) == 1
        assert all(np.array_equal(m.tuner.backend.state()[n], v) for m in members if m.tuner for n, v in shared.items())
    finally:
        for board in boards:
            board.close()


def test_from_the_command_line_to_an_onnx_file_with_the_same_accuracy(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    data = load_digits()
    for name, part in zip(NAMES, (slice(0, 150), slice(150, 300)), strict=True):
        np.savez(tmp_path / name, x=data.x[part], y=data.y[part])
    out = tmp_path / "tuned.onnx"
    words = ["digits-cnn", "--train", "head", "--batch", "1", "--data", str(tmp_path / NAMES[0]), "--lr", "0.02"]
    words += ["--eval", str(tmp_path / NAMES[1]), "--pull", str(out), "--shadow", "--json"]
    words += ["--flash", str(tmp_path / "flash.bin")]
    run = CliRunner().invoke(command, words, catch_exceptions=False)
    told = json.loads(run.stdout)
    assert run.exit_code == 0 and told["steps"] == 150 and told["differing_bits"] == 0
    session = runtime.InferenceSession(str(out))
    name = session.get_inputs()[0].name
    predicted = [session.run(None, {name: x[None]})[0].argmax() for x in data.x[150:300]]
    assert told["accuracy"] == float(np.mean(np.array(predicted) == data.y[150:300]))
    again = json.loads(CliRunner().invoke(command, words, catch_exceptions=False).stdout)
    assert again["resumed_at"] == 150 and again["accuracy"] == told["accuracy"]


def test_random_bytes_on_the_line_disturb_nothing(device: DeviceBackend) -> None:
    device.init()
    before = device.state()
    generator = np.random.default_rng(0)
    for _ in range(20):
        device.session._stream.send(generator.bytes(500))
    device.session._stream.send(b"\0" + struct.pack("<I", 1) * 3000 + b"\0")  # a frame that is too long
    assert same(device.state(), before)
