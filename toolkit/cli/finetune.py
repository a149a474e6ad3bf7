"""`edgetrain finetune`: a model learns on a board, over the cable."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.options import Request, compiler_option, examples, json_option, model_command
from toolkit.cli.output import Progress, check_file, note, progress, result
from toolkit.errors import UserError

if TYPE_CHECKING:
    from toolkit.data import Dataset
    from toolkit.link.codes import Codes
    from toolkit.pipeline import Compiled
    from toolkit.sim.finetune import Plan, Tuner
    from toolkit.sim.linked import LinkedBackend

# A line that says nothing for so many seconds is given up.
_TIMEOUT, _ATTEMPTS = 0.5, 40


@click.command(
    epilog=examples(
        "edgetrain finetune model.onnx --train last:2 --data mine.npz --eval test.npz --port /dev/ttyUSB0",
        "edgetrain finetune digits-cnn --train all --data train.npz --target qemu-rv32 --shadow",
    )
)
@model_command(train="all")
@click.option("--port", "ports", multiple=True, help="A board with this model's firmware; several learn together.")
@click.option("--baud", type=click.IntRange(min=1), help="Default: the target's.")
@click.option("--boards", type=click.IntRange(min=1), default=1, show_default=True, help="Emulated, without --port.")
@click.option("--data", required=True, help="An .npz with x and y, IMAGES,LABELS in idx, a folder of images, or .csv.")
@click.option("--eval", "evaluation", help="The same, to measure accuracy on, on the board.")
@click.option("--epochs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=0.01, show_default=True)
@click.option(
    "--schedule", type=click.Choice(["cosine", "linear", "constant"]), default="constant", show_default=True,
    help="Of the learning rate.",
)
@click.option(
    "--average-every", type=click.IntRange(min=1), default=50, show_default=True,
    help="Steps of each board between two averages of their weights; for several boards.",
)
@click.option(
    "--eval-every", type=click.IntRange(min=0), default=0, show_default=True,
    help="Epochs between two measurements of --eval, for one board; 0: only at the end.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of shuffle and dropout.")
@click.option(
    "--save-every", type=click.IntRange(min=1), default=500, show_default=True, help="Steps between states in flash."
)
@click.option(
    "--samples", type=click.Choice(["auto", "float32", "uint8"]), default="auto", show_default=True,
    help="How they travel: as bytes where that loses nothing (auto), never, or always, rounded to 256 values.",
)
@click.option("--restart", is_flag=True, help="Begin anew, not with the state of this run that the board holds.")
@click.option("--flash", type=click.Path(path_type=Path), help="A file that keeps the flash of the emulated board.")
@click.option("--pull", type=click.Path(path_type=Path), help="The trained model, an ONNX file.")
@click.option("--shadow", is_flag=True, help="Do the same steps on this PC and compare all bits.")
@compiler_option
@json_option
def command(
    request: Request,
    ports: tuple[str, ...],
    baud: int | None,
    boards: int,
    data: str,
    evaluation: str | None,
    epochs: int,
    lr: float,
    schedule: str,
    average_every: int,
    eval_every: int,
    seed: int,
    save_every: int,
    samples: str,
    restart: bool,
    flash: Path | None,
    pull: Path | None,
    shadow: bool,
    compiler: str | None,
    as_json: bool,
) -> None:
    """Train MODEL on a board. Ctrl-C saves a state there; the same command goes on from it."""
    from toolkit.pipeline import check_trainable
    from toolkit.sim.finetune import Plan

    check_file(pull)
    names = ports or tuple(f"{request.target}" if boards == 1 else f"{request.target} {i + 1}" for i in range(boards))
    if len(names) > 1 and (shadow or flash):
        raise UserError("takes one board", where="--shadow" if shadow else "--flash")
    with progress() as bar:
        bar("compiling the model", 0, None)
        compiled = request.compiled()
        check_trainable(compiled)
        bar("compiling the model", 1, 1)
        training = _load(data, compiled, request.loss)
        held = _load(evaluation, compiled, request.loss) if evaluation is not None else None
        training, held, codes = _coded(samples, training, held)
        plan = Plan(training.x, training.y, epochs, lr, schedule, seed, save_every)
        connect = [
            partial(_connect, request, compiled, name if ports else None, name, baud, flash, compiler, codes)
            for name in names
        ]
        with _interruptible() as stop:
            if len(names) == 1:
                outcome = _alone(connect[0], plan, held, eval_every, shadow, restart, compiler, stop, bar)
            else:
                outcome = _together(names, connect, plan, held, average_every, stop, bar)
    state = outcome.pop("state")
    if pull is not None:
        from toolkit.frontend.export import export_model

        export_model(request.model, compiled.model, state, pull)
    outcome = {"model": request.model, "boards": list(names), **outcome, "output": str(pull) if pull else None}
    result(as_json, outcome, _text(outcome))
    if outcome["interrupted"] or outcome["differing_bits"]:
        click.get_current_context().exit(1)


def _alone(
    connect: Callable[[], LinkedBackend], plan: Plan, held: Dataset | None, eval_every: int, shadowed: bool,
    restart: bool, compiler: str | None, stop: Callable[[], bool], bar: Progress,
) -> dict[str, Any]:  # fmt: skip
    from toolkit.sim.finetune import Tuner, board_accuracy
    from toolkit.sim.host import HostBackend

    with ExitStack() as stack:
        bar("connecting", 0, None)
        backend = stack.enter_context(connect())
        bar("connecting", 1, 1)
        shadow = stack.enter_context(HostBackend(backend.compiled, compiler)) if shadowed else None
        tuner = Tuner(backend, plan, shadow, restart)
        if tuner.resumed_at:
            note(f"going on after step {tuner.resumed_at:,} of {tuner.total:,}")
        show = _Shown(tuner, bar)
        part = eval_every * tuner.per_epoch if held is not None and eval_every else tuner.total
        accuracies: list[float] = []
        finished = True
        while finished and (tuner.tally.done < tuner.total or not accuracies):
            finished = tuner.run(min((tuner.tally.done // part + 1) * part, tuner.total), stop, show.step)
            if held is None or not finished:
                break
            accuracies.append(board_accuracy(backend, held.x, held.y, partial(bar, "measuring accuracy")))
            show.reached = f", accuracy {accuracies[-1]:.2%}"
        compared = shadow is not None
        return {
            **_counts([tuner]),
            "accuracy": accuracies[-1] if accuracies and finished else None,
            "accuracies": accuracies,
            "differing_bits": tuner.tally.differing_bits if compared else None,
            "compared_bits": tuner.tally.compared_bits if compared else None,
            "resumed_at": tuner.resumed_at,
            "interrupted": not finished,
            "instructions_per_step": show.instructions,
            "state": backend.state(),
        }


class _Shown:
    """The bar of a run: steps done, and to come; loss, last accuracy, milliseconds and instructions per step."""

    def __init__(self, tuner: Tuner, bar: Progress) -> None:
        self._tuner, self._bar, self._start = tuner, bar, time.monotonic()
        self.reached = ""
        self.instructions = 0

    def step(self, done: int, total: int, loss: float) -> None:
        from toolkit.link.messages import BoardReset

        mine = done - self._tuner.resumed_at
        if not self.instructions and mine > 0:
            # A board that has just been reset is found out, and recovers, in the next step.
            with suppress(BoardReset):
                self.instructions = self._tuner.backend.stats().instructions
        pace = f", {1000 * (time.monotonic() - self._start) / mine:.1f} ms" if mine > 0 else ""
        detail = f"loss {loss:.4f}{self.reached}{pace}, {self.instructions:,} instructions per step"
        self._bar("training on the board", done, total, detail)


def _together(
    names: tuple[str, ...], connect: Sequence[Callable[[], LinkedBackend]], plan: Plan, held: Dataset | None,
    every: int, stop: Callable[[], bool], bar: Progress,
) -> dict[str, Any]:  # fmt: skip
    import numpy as np

    from toolkit.sim.federated import Member, train_together
    from toolkit.sim.finetune import Tuner, board_accuracy

    order = np.random.default_rng(plan.seed).permutation(len(plan.x))
    members = []
    for index, name in enumerate(names):
        mine = np.sort(order[index :: len(names)])
        shard = replace(plan, x=plan.x[mine], y=plan.y[mine])
        members.append(Member(name, lambda c=connect[index], s=shard: Tuner(c(), s, restart=True)))  # type: ignore[misc]
    try:
        rounds = -(-plan.epochs * len(plan.x) // every)
        shared = train_together(members, rounds, stop, partial(bar, "rounds of training"), every)
        tuners = [member.tuner for member in members if member.tuner is not None]
        state = tuners[0].backend.state() | shared
        measured = None if held is None or stop() else board_accuracy(tuners[0].backend, held.x, held.y)
        return {
            **_counts(tuners),
            "accuracy": measured,
            "differing_bits": None,
            "lost": {member.name: member.lost for member in members},
            "interrupted": stop(),
            "state": state,
        }
    finally:
        for member in members:
            if member.tuner is not None:
                member.tuner.backend.close()


def _counts(tuners: list[Tuner]) -> dict[str, Any]:
    """What was done and what went over the lines, all boards together."""
    traffic = [tuner.backend.session.traffic for tuner in tuners]
    seconds = max(tuner.tally.seconds for tuner in tuners)
    steps = sum(tuner.tally.done for tuner in tuners)
    mine = sum(tuner.tally.done - tuner.resumed_at for tuner in tuners)
    return {
        "steps": steps,
        "loss": sum(tuner.tally.loss for tuner in tuners) / len(tuners),
        "skipped": sum(tuner.tally.skipped for tuner in tuners),
        "resets": sum(tuner.tally.resets for tuner in tuners),
        "bytes": sum(each.sent + each.received for each in traffic),
        "retries": sum(each.retries for each in traffic),
        "seconds": round(seconds, 3),
        "ms_per_step": round(1000 * seconds / mine, 3) if mine else None,
    }


def _text(outcome: dict[str, Any]) -> str:
    parts = [f"{outcome['steps']:,} steps on {', '.join(outcome['boards'])}", f"loss {outcome['loss']:.4f}"]
    parts += [f"accuracy {outcome['accuracy']:.2%}"] if outcome["accuracy"] is not None else []
    parts += [f"{outcome['ms_per_step']:.1f} ms per step"] if outcome["ms_per_step"] is not None else []
    instructions = outcome.get("instructions_per_step")
    parts += [f"{instructions:,} instructions per step"] if instructions else []
    if outcome["differing_bits"] is not None:
        parts.append(f"{outcome['differing_bits']:,} of {outcome['compared_bits']:,} bits differ")
    parts.append(f"{outcome['bytes']:,} bytes over the line, {outcome['retries']:,} requests sent again")
    lines = [", ".join(parts)]
    lines += [f"trained model: {outcome['output']}"] if outcome["output"] else []
    lines += ["interrupted: the board holds a state; the same command goes on"] if outcome["interrupted"] else []
    return "\n".join(lines)


def _connect(
    request: Request, compiled: Compiled, port: str | None, name: str, baud: int | None, flash: Path | None,
    compiler: str | None, codes: Codes | None,
) -> LinkedBackend:  # fmt: skip
    """A board at a port, or one in an emulator, with firmware of this model.

    Raises:
        UserError: the port cannot be opened, nothing answers, or the firmware is another.
    """
    from toolkit.link.session import Session
    from toolkit.link.streams import ReopenedStream, open_stream
    from toolkit.sim.device import DeviceBackend
    from toolkit.sim.linked import LinkedBackend

    board = request.board()
    if port is None:
        if board.run is None or board.run.emulator is None:
            raise UserError(f"{board.id} cannot be emulated here", where="--target", hint="name its --port")
        emulated = DeviceBackend(compiled, board, None, compiler, direct=False, flash=flash)
        emulated.use_codes(codes)
        return emulated
    stream = ReopenedStream(lambda: open_stream(port, baud or board.link.baud))
    try:
        backend = LinkedBackend(compiled, Session(stream, timeout=_TIMEOUT, attempts=_ATTEMPTS), name)
        backend.use_codes(codes)
        return backend
    except BaseException:
        stream.close()
        raise


def _load(path: str, compiled: Compiled, loss: str) -> Dataset:
    from toolkit.data import load_dataset
    from toolkit.ir import TensorType
    from toolkit.train.losses import find_loss

    model = compiled.model
    if len(model.inputs) != 1:
        raise UserError(f"the model has {len(model.inputs)} inputs; finetune takes models with one", where=path)
    side, out = model.interface[model.inputs[0]], model.interface[model.outputs[0]]
    dataset = load_dataset(path, TensorType(side.shape), out.shape[-1] if find_loss(loss).counts_classes else None)
    for remark in dataset.notes:
        note(remark)
    return dataset


def _coded(how: str, training: Dataset, held: Dataset | None) -> tuple[Dataset, Dataset | None, Codes | None]:
    """The samples as the board will have them, and the codes that they travel as; None: as float32."""
    from toolkit.link.codes import Codes

    arrays = [training.x] if held is None else [training.x, held.x]
    codes = Codes.of(*arrays) if how != "float32" else None
    if how == "auto" and codes is None:
        note("the samples hold more than 256 values, so they travel as float32; --samples uint8 rounds them")
    if how == "uint8" and codes is None:
        codes = Codes.evenly(*arrays)
        rounded = [codes.rounded(array) for array in arrays]
        most = max(float(abs(old - new).max()) for old, new in zip(arrays, rounded, strict=True))
        note(f"the samples are rounded to 256 values, by {most:.3g} at most")
        training = replace(training, x=rounded[0])
        held = None if held is None else replace(held, x=rounded[1])
    return training, held, codes


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """While it lasts, Ctrl-C only asks to stop; a second one interrupts as usual."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        note("saving a state on the board ...")

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
