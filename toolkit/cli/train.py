"""`edgetrain train`: generated C learns from data on this PC."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli.options import (
    Request,
    budget_options,
    compiled_within,
    compiler_option,
    examples,
    json_option,
    model_command,
    require_fit,
)
from toolkit.cli.output import check_file, file_at_once, note, progress, result
from toolkit.errors import UserError

if TYPE_CHECKING:
    from toolkit.data import Dataset
    from toolkit.pipeline import Compiled

DEFAULT_BATCH = 32


@click.command(
    epilog=examples(
        "edgetrain train lenet --data train.npz --eval test.npz --epochs 5 -o trained.onnx",
        "edgetrain train model.onnx --data images.gz,labels.gz --train last:2 --optimizer adam -o tuned.onnx",
        "edgetrain train lenet --data train.npz --target qemu-rv32 --ram 384K -o trained.onnx",
    )
)
@model_command(train="all", optimizer="sgd:momentum=0.9", target="host")
@click.option("--data", required=True, help="An .npz with x and y, IMAGES,LABELS in idx, a folder of images, or .csv.")
@click.option("--eval", "evaluation", help="The same, to measure accuracy on.")
@click.option(
    "--holdout", type=click.FloatRange(0, 1, max_open=True), default=0.2, show_default=True,
    help="Fraction of --data kept for that where there is no --eval.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Default: the optimizer's own.")
@click.option(
    "--schedule", type=click.Choice(["cosine", "linear", "constant"]), default="cosine", show_default=True,
    help="Of the learning rate.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of shuffle and dropout.")
@click.option("--teacher", metavar="MODEL", help="Learn what this model says of the samples, not their labels.")
@click.option(
    "--threads", type=click.IntRange(1, 16), default=1, show_default=True,
    help="On this PC: share the work of every step; the bits are the same.",
)
@click.option("--on", default="host", show_default=True, help="reference, host, or a target that is emulated.")
@click.option(
    "--recalibrate-batch-norm", "recalibrated", metavar="[N]",
    type=click.IntRange(min=0), is_flag=False, flag_value=2000,
    help="Take batch-norm statistics again on N training samples (2000), with the weights of inference; 0: never. "
    "Default: where training draws weights at random.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The trained model, an ONNX file.")
@click.option("--log", type=click.Path(path_type=Path), help="One JSON object per epoch.")
@budget_options
@compiler_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    request: Request,
    data: str,
    evaluation: str | None,
    holdout: float,
    epochs: int,
    lr: float | None,
    schedule: str,
    seed: int,
    teacher: str | None,
    threads: int,
    on: str,
    recalibrated: int | None,
    output: Path | None,
    log: Path | None,
    ram: int | None,
    flash: int | None,
    compiler: str | None,
    as_json: bool,
) -> None:
    """Train MODEL (an ONNX file, or a name of the zoo) on data, in the C that a board would run.

    Without --batch, 32 samples are trained on at once; within --ram and --flash as many as the model says, for a board
    would.
    """
    from toolkit.frontend.export import export_model
    from toolkit.pipeline import check_trainable
    from toolkit.quant.binaryconnect import draws_weights
    from toolkit.report.memory import Budget
    from toolkit.sim.backend import open_backend
    from toolkit.sim.distill import soft_labels
    from toolkit.sim.recalibrate import SAMPLES, compare_weights, recalibrate
    from toolkit.sim.trainer import accuracy, train
    from toolkit.train.losses import find_loss
    from toolkit.train.optimizers import parse_optimizer

    check_file(output)
    check_file(log)
    if teacher is not None:
        request = _with_soft_labels(request)
    if threads > 1 and on != "host":
        raise UserError(f"{on} has no threads", where=f"--threads {threads}", hint="they are for --on host")
    loss = find_loss(request.loss)
    rate = lr if lr is not None else parse_optimizer(request.optimizer).default_learning_rate
    if on not in ("reference", "host"):
        request = request.with_target(on)
    start = time.monotonic()
    with progress() as bar:
        bar("compiling the model", 0, None)
        budget = Budget(ram, flash)
        built = None if on == "host" else compiler
        compiled = compiled_within(request, request.board(), budget, built) if budget else _compile(request, on)
        check_trainable(compiled)
        if budget:
            require_fit(context, compiled, request.board(), budget, built, trains=True)
        bar("compiling the model", 1, 1)
        counts_classes = loss.counts_classes or teacher is not None
        training = _load(data, compiled, counts_classes)
        if evaluation is not None:
            held = _load(evaluation, compiled, counts_classes)
        else:
            training, held = training.split(holdout, seed)
        if teacher is not None:
            answer = compiled.model.interface[compiled.model.outputs[0]].shape[1:]
            training = replace(
                training,
                y=soft_labels(teacher, training.x, answer, compiler, partial(bar, "asking the teacher")),
            )
        ranked = request.loss != "mse" and len(held) > 0
        history = []
        with open_backend(compiled, on, request.profile, compiler, threads=threads) as backend:
            epochs_done = train(
                backend,
                training.x,
                training.y,
                epochs,
                rate,
                schedule,
                seed,
                evaluate=(lambda: accuracy(backend, held.x, held.y)) if ranked else None,
                progress=lambda epoch, done, total, mean: bar(f"training on {on}", done, total),
            )
            for epoch in epochs_done:
                history.append(epoch.as_dict())
                reached = f", accuracy {epoch.accuracy:.2%}" if epoch.accuracy is not None else ""
                skipped = f", {epoch.skipped} steps skipped: not finite" if epoch.skipped else ""
                note(f"epoch {epoch.epoch}/{epochs}: loss {epoch.loss:.4f}{reached}{skipped}, {epoch.seconds:.1f} s")
                if log is not None:
                    with file_at_once(log) as part:
                        part.write_text("".join(json.dumps(line) + "\n" for line in history))
            if recalibrated is None:
                recalibrated = SAMPLES if draws_weights(compiled.options.quant) else 0
            host_compiler = compiler if on == "host" else None
            measured = recalibrate(backend, training.x, recalibrated, seed, host_compiler) if recalibrated else 0
            reached_at_last = accuracy(backend, held.x, held.y) if ranked and measured else history[-1]["accuracy"]
            compared = {}
            if ranked and draws_weights(compiled.options.quant):
                bar("comparing weights for inference", 0, None)
                compared = compare_weights(backend, training.x, (held.x, held.y), recalibrated, seed, host_compiler)
                bar("comparing weights for inference", 1, 1)
            state = backend.state()
    if output is not None:
        export_model(request.model, compiled.model, state, output)
    seconds = time.monotonic() - start
    last = history[-1]
    outcome = {
        "model": request.model,
        "accuracy": reached_at_last,
        "loss": last["loss"],
        "epochs": epochs,
        "steps": epochs * last["steps"],
        "samples": len(training),
        "evaluated": len(held) if ranked else 0,
        "recalibrated_batch_norms": measured,
        "accuracy_by_test_weights": compared,
        "seconds": round(seconds, 3),
        "seed": seed,
        "learning_rate": rate,
        "optimizer": request.optimizer,
        "teacher": teacher,
        "on": on,
        "threads": threads,
        "output": str(output) if output else None,
        "log": str(log) if log else None,
    }
    scored = f"accuracy {reached_at_last:.2%} on {len(held):,} samples, " if ranked else ""
    where = f"; {output}" if output else "; not kept: name a file with -o"
    weights = "".join(f", {value:.2%} with {test} weights" for test, value in compared.items())
    text = f"{request.model}: {scored}loss {last['loss']:.4f}, {epochs} epochs in {seconds:.1f} s{weights}{where}"
    result(as_json, outcome, text)


def _with_soft_labels(request: Request) -> Request:
    """The request with the loss that compares with a teacher's probabilities.

    Raises:
        UserError: another loss was asked for.
    """
    if request.loss not in ("cross-entropy", "soft-cross-entropy"):
        raise UserError(f"a teacher goes with soft-cross-entropy, not {request.loss}", where="--teacher")
    return replace(request, loss="soft-cross-entropy")


def _compile(request: Request, on: str) -> Compiled:
    """The model with a batch; where its samples cannot be batched, as many accumulated steps."""
    from codegen.board import load_board
    from toolkit.pipeline import compile_model

    options = request.options()
    if on == "host":
        options = replace(options, cache=load_board("host").cpu.cache)
    if options.batch is not None or options.shapes:
        return compile_model(request.model, options)
    try:
        return compile_model(request.model, replace(options, batch=DEFAULT_BATCH))
    except UserError:
        compiled = compile_model(request.model, options)
        if compiled.model.interface[compiled.model.inputs[0]].shape[0] >= DEFAULT_BATCH or request.accumulate > 1:
            return compiled
        accumulate = DEFAULT_BATCH // compiled.model.interface[compiled.model.inputs[0]].shape[0]
        note(f"the model takes no batch of {DEFAULT_BATCH}: {accumulate} steps are accumulated for each update instead")
        return compile_model(request.model, replace(options, training=replace(options.training, accumulate=accumulate)))


def _load(path: str, compiled: Compiled, counts_classes: bool) -> Dataset:
    from toolkit.data import load_dataset
    from toolkit.ir import TensorType

    model = compiled.model
    if len(model.inputs) != 1:
        names = ", ".join(model.interface[name].name for name in model.inputs)
        raise UserError(f"the model has {len(model.inputs)} inputs ({names}); train takes models with one", where=path)
    side, out = model.interface[model.inputs[0]], model.interface[model.outputs[0]]
    classes = out.shape[-1] if counts_classes else None
    dataset = load_dataset(path, TensorType(side.shape), classes)
    for remark in dataset.notes:
        note(remark)
    return dataset
