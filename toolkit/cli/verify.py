"""`edgetrain verify`: every bit, on every backend, after every step."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from toolkit.cli.options import Request, compiler_option, examples, json_option, model_command
from toolkit.cli.output import progress, result
from toolkit.errors import UserError

if TYPE_CHECKING:
    from toolkit.ir import Array, TensorType
    from toolkit.pipeline import Compiled


@click.command(
    epilog=examples(
        "edgetrain verify lenet --train all --steps 100",
        "edgetrain verify model.onnx --train last:2 --steps 10 --on reference,host --fma off --json",
    )
)
@model_command(train="all")
@click.option("--steps", type=click.IntRange(min=1), default=10, show_default=True, help="Training steps.")
@click.option("--on", default="reference,host,qemu-rv32", show_default=True, help="Compared with the first of them.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random samples.")
@click.option("--lr", type=click.FloatRange(min=0), default=0.01, show_default=True, help="Learning rate.")
@compiler_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    request: Request,
    steps: int,
    on: str,
    seed: int,
    lr: float,
    compiler: str | None,
    as_json: bool,
) -> None:
    """Train MODEL on random samples everywhere and compare all bits; exits with 1 if one differs.

    Outputs, status, loss, weights and optimizer states are compared after each step.
    """
    from toolkit.sim.parity import verify_bits

    backends = [name.strip() for name in on.split(",") if name.strip()]
    if len(backends) < 2:
        raise UserError("there is nothing to compare with", where=f"--on {on}", hint="--on reference,host")
    boards = [name for name in backends if name not in ("reference", "host")]
    request = request.with_target(boards[0] if boards else "host")
    if request.profile is not None and not boards:
        raise UserError("only a target has profiles", where="--profile", hint="--on reference,host,qemu-rv32")
    request.board()
    with progress() as bar:
        bar("compiling the model", 0, None)
        compiled = _compiled(request, seed)
        bar("compiling the model", 1, 1)
        report = verify_bits(
            compiled, backends, steps, seed, request.profile, progress=bar, compiler=compiler, learning_rate=lr
        )
    data = {"model": request.model, **report.as_dict()}
    what = "outputs, losses, weights, states" if compiled.trainable else "outputs"
    steps_text = f"{steps} {'step' if compiled.trainable else 'inference'}{'' if steps == 1 else 's'}"
    fma = "on" if report.fma else "off"
    lines = [f"{report.differing_bits:,} of {report.compared_bits:,} bits differ ({what}; {steps_text}; fma {fma})"]
    first = report.first_difference
    if first is None:
        data.pop("first_difference", None)
    else:
        lines.append(f"first in step {first.step}, {first.tensor}{list(first.index)}")
        lines += [f"  {name:<10} {value['hex']}  {value['decimal']}" for name, value in first.values.items()]
        lines += [f"  written by {first.kernel} of {first.node}"] if first.kernel else []
        again = f"--steps {first.step + 1} --on {','.join(first.values)} --seed {seed} --lr {lr:g}"
        lines.append(f"  again: edgetrain verify {request.model} {request.words()} {again}")
    result(as_json, data, "\n".join(lines))
    if report.differing_bits:
        context.exit(1)


def _compiled(request: Request, seed: int) -> Compiled:
    """The model; ranges are found on random samples, like those that are compared, where the user gave none."""
    from toolkit.pipeline import compile_model

    options = request.options()
    if options.samples is None:
        options = replace(options, samples=partial(_random_samples, seed))
    return compile_model(request.model, options)


def _random_samples(seed: int, input_type: TensorType) -> Array:
    import numpy as np

    shape = (64 * input_type.shape[0], *input_type.shape[1:])
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
