"""`edgetrain simulate`: a model on inputs from a file."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from toolkit.cli.options import Request, compiler_option, examples, json_option, model_command
from toolkit.cli.output import Progress, check_file, file_at_once, progress, result
from toolkit.errors import UserError

if TYPE_CHECKING:
    from toolkit.ir import Array
    from toolkit.pipeline import Compiled
    from toolkit.sim.backend import Backend


@click.command(epilog=examples("edgetrain simulate model.onnx --input in.npz --output out.npz --on host"))
@model_command(target="host")
@click.option("--input", "source", type=click.Path(path_type=Path), required=True, help="Arrays named as the inputs.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Arrays named as the outputs.")
@click.option("--on", default="host", show_default=True, help="reference, host, or a target that is emulated.")
@compiler_option
@json_option
def command(request: Request, source: Path, output: Path, on: str, compiler: str | None, as_json: bool) -> None:
    """Run MODEL on arrays from a file. More samples than the model takes at once are run in slices."""
    from toolkit.sim.backend import open_backend

    check_file(output)
    if on not in ("reference", "host"):
        request = request.with_target(on)
        request.board()
    with progress() as bar:
        bar("compiling the model", 0, None)
        compiled, arrays = _prepare(request, source)
        bar("compiling the model", 1, 1)
        start = time.monotonic()
        with open_backend(compiled, on, request.profile, compiler) as backend:
            outputs, runs = _run(backend, arrays, str(source), bar)
        seconds = time.monotonic() - start
    with file_at_once(output) as part, part.open("wb") as stream:
        np.savez(stream, **outputs)  # type: ignore[arg-type]
    shapes = {name: list(value.shape) for name, value in outputs.items()}
    data = {"model": request.model, "on": on, "runs": runs, "seconds": round(seconds, 3), "outputs": shapes}
    shown = " · ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    result(as_json, data, f"{output}: {shown} ({runs:,} runs on {on}, {seconds:.1f} s)")


def _prepare(request: Request, source: Path) -> tuple[Compiled, dict[str, Array]]:
    """The compiled model and its inputs; dimensions that the model leaves open are those of the arrays."""
    from toolkit.data.arrays import load_named_arrays, load_npz
    from toolkit.pipeline import compile_model

    options = request.options()
    try:
        compiled = compile_model(request.model, options)
    except UserError as error:
        given = {name.removeprefix("in:"): array.shape for name, array in load_npz(source).items()}
        given = {name: shape for name, shape in given.items() if not name.startswith("out:")} | request.shapes
        try:
            compiled = compile_model(request.model, replace(options, shapes=given))
        except UserError:
            raise error from None
    names = [compiled.model.interface[name].name for name in compiled.model.inputs]
    return compiled, load_named_arrays(source, names)


def _run(backend: Backend, arrays: dict[str, Array], where: str, bar: Progress) -> tuple[dict[str, Array], int]:
    """Outputs by ONNX name, and how many times the model ran."""
    model = backend.compiled.model
    sides = [model.interface[name] for name in model.inputs]
    results = [model.interface[name] for name in model.outputs]
    values = [_checked(arrays[side.name], side.shape, side.name, where) for side in sides]
    if all(value.shape == side.shape for value, side in zip(values, sides, strict=True)):
        found = backend.infer([side.inward(value) for side, value in zip(sides, values, strict=True)])
        return {side.name: side.outward(value) for side, value in zip(results, found, strict=True)}, 1
    batch = sides[0].shape[0]
    samples = len(values[0])
    if any(len(value) != samples for value in values) or any(side.shape[:1] != (batch,) for side in (*sides, *results)):
        raise UserError("the model cannot be run in slices", where=where, hint="give inputs of exactly its shapes")
    parts: list[list[Any]] = [[] for _ in results]
    for start in range(0, samples, batch):
        slices = [value[start : start + batch] for value in values]
        count = len(slices[0])
        filled = [np.concatenate([s, np.repeat(s[-1:], batch - count, axis=0)]) for s in slices]
        found = backend.infer([side.inward(value) for side, value in zip(sides, filled, strict=True)])
        for part, side, value in zip(parts, results, found, strict=True):
            part.append(side.outward(value)[:count])
        bar(backend.name, min(start + batch, samples), samples)
    runs = -(-samples // batch)
    return {side.name: np.concatenate(part) for side, part in zip(results, parts, strict=True)}, runs


def _checked(value: Array, shape: tuple[int, ...], name: str, where: str) -> Array:
    if value.dtype.kind not in "biuf":
        raise UserError(f"'{name}' is {value.dtype}, not numbers", where=where)
    if value.shape != shape and not (value.ndim == len(shape) > 0 and value.shape[1:] == shape[1:] and len(value)):
        found, wanted = "x".join(map(str, value.shape)), "x".join(map(str, shape))
        raise UserError(f"'{name}' is {found}; the model takes {wanted}, or more along the first axis", where=where)
    return np.asarray(value, np.float32)
