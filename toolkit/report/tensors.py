"""Why a tensor is alive: who writes it, who reads it last, which gradient needs it, and how to do without."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from codegen.program import Function, Place
from toolkit.errors import UserError
from toolkit.pipeline import Compiled
from toolkit.report.memory import peak_step
from toolkit.report.uses import SAVED, Piece, forward_steps, pieces, served, weight_gradients_from

WHERE = "--explain"


def tensor_names(compiled: Compiled) -> list[str]:
    """The tensors that a program keeps anywhere: in the arena, among the weights or in flash."""
    return sorted({name for function in compiled.program.functions.values() for name in function.buffers})


def near_tensors(compiled: Compiled, name: str) -> list[str]:
    """Tensors with about this name, the nearest first."""
    known = {tensor.removesuffix(".out"): tensor for tensor in tensor_names(compiled)}
    return [known[near] for near in get_close_matches(name.removesuffix(".out"), known, n=3, cutoff=0.75)]


def explain_tensor(compiled: Compiled, name: str) -> tuple[dict[str, Any], str]:
    """What there is to say of a tensor, as data and as text; ".out" may be left out of its name.

    Raises:
        UserError: no tensor has this name; the hint names the nearest.
    """
    known = tensor_names(compiled)
    name = name if name in known or f"{name}.out" not in known else f"{name}.out"
    if name not in known:
        near = near_tensors(compiled, name)
        hint = f"did you mean {', '.join(near)}?" if near else "edgetrain plan --steps names all nodes"
        raise UserError(f"there is no node or tensor '{name}'", where=WHERE, hint=hint)
    functions: dict[str, Any] = {}
    lines: list[str] = []
    for function in compiled.program.functions.values():
        if name in function.buffers:
            data = _facts(compiled, function, name)
            functions[function.name] = data
            lines += ["", *_lines(function, name, data)]
    return {"tensor": name, "functions": functions}, "\n".join(lines[1:])


def _facts(compiled: Compiled, function: Function, name: str) -> dict[str, Any]:
    buffer = function.buffers[name]
    writers = [i for i, step in enumerate(function.steps) if name in step.writes()]
    readers = [i for i, step in enumerate(function.steps) if name in step.reads()]
    facts: dict[str, Any] = {
        "bytes": buffer.bytes,
        "shape": list(buffer.shape),
        "dtype": buffer.dtype,
        "place": buffer.place.value,
        "written_by": _nodes(function, writers),
        "read_by": _nodes(function, readers),
    }
    root = function.storage.get(name, name)
    if function.buffers[root].place is not Place.ARENA:
        return facts
    piece = next(each for each in pieces(compiled, function) if each.span.name == root)
    facts |= {
        "offset": function.offsets[root],
        "first_step": piece.span.first,
        "last_step": piece.span.last,
        "alive_at_peak": piece.alive(peak_step(function)),
        "use": piece.use,
        "shares_memory_with": [other for other in piece.tensors if other != name],
        "alternatives": _alternatives(compiled, function, piece),
    }
    if piece.use == SAVED:
        forward = forward_steps(compiled, function)
        later = [number for number in piece.read if not forward[number]]
        facts["saved_for"] = [_purpose(compiled, node) for node in dict.fromkeys(_nodes(function, later))]
    return facts


def _lines(function: Function, name: str, facts: dict[str, Any]) -> list[str]:
    shape = "x".join(map(str, facts["shape"])) or "scalar"
    lines = [f"{name} in {function.name}: {facts['bytes']:,} B, {facts['dtype']} {shape}"]
    places = {"params": "in RAM for good: training changes it", "flash": "in flash: nothing changes it"}
    if "offset" not in facts:
        lines.append(f"  lies in      {places.get(facts['place'], 'memory of the caller')}")
    else:
        peak = "alive at the peak" if facts["alive_at_peak"] else "not alive at the peak: dropping it saves no arena"
        lives = f"steps {facts['first_step']} to {facts['last_step']}, {peak}"
        lines.append(f"  lies in      the arena at {facts['offset']:,}, {lives}")
        if facts["shares_memory_with"]:
            lines.append(f"  also holds   {', '.join(facts['shares_memory_with'])}")
        lines.append(f"  kept as      one of the {facts['use']}")
    lines.append(f"  written by   {', '.join(facts['written_by']) or 'nothing in this function'}")
    lines.append(f"  last read by {facts['read_by'][-1] if facts['read_by'] else 'nothing'}")
    lines += [f"  needed for   {text}" for text in facts.get("saved_for", ())]
    lines += [f"  instead      {text}" for text in facts.get("alternatives", ())]
    return lines


def _nodes(function: Function, steps: list[int]) -> list[str]:
    return [function.steps[number].node for number in steps]


def _purpose(compiled: Compiled, node: str) -> str:
    parameters = served(compiled, node)
    if len(parameters) == 1:
        return f"{node}: the gradient of {parameters[0]}"
    return f"{node}: the gradient that {len(parameters)} parameters before it wait for"


def _alternatives(compiled: Compiled, function: Function, piece: Piece) -> list[str]:
    if piece.use != SAVED:
        return []
    frozen = weight_gradients_from(compiled, piece)
    forward = forward_steps(compiled, function)
    readers = dict.fromkeys(function.steps[number].node for number in piece.read if not forward[number])
    others = [node for node in readers if len(served(compiled, node)) != 1]
    found = []
    if frozen:
        rest = f"; {', '.join(others)} would still read it" if others else " drops it"
        found.append(f"freezing {', '.join(frozen)}{rest}")
    if others:
        early = sorted({name for node in others for name in served(compiled, node)})
        found.append(f"training nothing before it (not {', '.join(early[:4])}{', ...' if len(early) > 4 else ''})")
    return found
