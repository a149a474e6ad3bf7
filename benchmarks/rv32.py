"""Retired instructions of whole models on emulated RISC-V, and what they need: exact, and the same on every machine.

    python benchmarks/rv32.py [MODEL ...] [--profile rv32imafc] [--compiler gcc|zig] [--json]
"""

from __future__ import annotations

import json

import click
import numpy as np

from codegen.board import load_board
from toolkit.pipeline import Options, compile_model
from toolkit.sim.device import DeviceBackend
from toolkit.sim.parity import random_samples
from toolkit.train.step import TrainingOptions
from toolkit.zoo import zoo_names

_LOSS = {"autoencoder": "mse"}
_COLUMNS = {
    "macs": "MACs", "infer_per_mac": "inference", "train_per_mac": "training step", "text": "text",
    "params": "weights", "arena": "arena", "stack": "stack",
}
_TOO_LONG_IN_SOFT_FLOAT = {"mobilenetv1-0.25", "resnet8"}


def measure(model: str, profile: str, compiler: str | None) -> dict[str, object]:
    """One model, trained in full, batch 1: instructions of one inference and one training step, and memory."""
    board = load_board("qemu-rv32")
    fma = board.with_profile(profile).fma
    training = TrainingOptions(loss=_LOSS.get(model, "cross-entropy"))
    compiled = compile_model(model, Options(train="all", fma=fma, training=training))
    program = compiled.program
    inputs, label = next(random_samples(compiled, 0))
    assert label is not None
    with DeviceBackend(compiled, board, profile, compiler) as device:
        device.learning_rate = 0.01
        device.infer(inputs)
        inference = device.stats().instructions
        status, loss = device.train_step(inputs, label)
        assert status == "ET_OK" and np.isfinite(loss), status
        step = device.stats()
        sizes = device.image.sizes
    macs = {name: program.functions[name].macs for name in ("infer", "train_step")}
    return {
        "model": model, "profile": profile, "macs": macs["infer"], "training_macs": macs["train_step"],
        "infer_instructions": inference, "train_instructions": step.instructions,
        "infer_per_mac": round(inference / macs["infer"], 2),
        "train_per_mac": round(step.instructions / macs["train_step"], 2),
        "text": sizes["text"], "params": program.params_bytes, "arena": program.arena_bytes,
        "lower_bound": program.lower_bound, "stack": step.stack_bytes,
    }


@click.command()
@click.argument("models", nargs=-1)
@click.option("--profile", default="rv32imafc", show_default=True)
@click.option("--compiler", default=None, help="gcc or zig; the best found by default.")
@click.option("--json", "as_json", is_flag=True)
def main(models: tuple[str, ...], profile: str, compiler: str | None, as_json: bool) -> None:
    """Prints a Markdown table, or JSON rows."""
    rows = []
    for model in models or [n for n in zoo_names() if profile != "rv32imac" or n not in _TOO_LONG_IN_SOFT_FLOAT]:
        rows.append(measure(model, profile, compiler))
        click.echo(f"{model} done", err=True)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo(f"| {profile} | {' | '.join(_COLUMNS.values())} |")
    click.echo("|---" * (len(_COLUMNS) + 1) + "|")
    for row in rows:
        click.echo(f"| {row['model']} | {' | '.join(_shown(row[column]) for column in _COLUMNS)} |")


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
