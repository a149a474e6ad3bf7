"""Program -> a folder of C: tables, offsets and one call per step.

The text is in templates/model; here are only the names and values that it is filled with. Same Program, same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from codegen.kernels import Runtime, runtime_for, runtime_text, shared_kernels
from codegen.naming import Names
from codegen.program import (
    CTYPES,
    Argument,
    Array,
    Buffer,
    ByPart,
    Function,
    Literal,
    Place,
    Pointer,
    Port,
    Program,
    Step,
    Struct,
    Table,
    needs_image,
)
from codegen.program import Runtime as RuntimeArgument
from codegen.schedule import lifetimes

# The manifest's own version; docs/SPEC.md describes it.
MANIFEST_VERSION = 1
_VALUES_PER_LINE = 8


def emit(
    program: Program, folder: Path, tool: str, counted: bool = False, threads: bool = False, arenas: int = 1
) -> None:
    """Writes model.c, model.h, weights.c, weights.h, et_config.h, manifest.json and the runtime files it uses.

    Args:
        folder: exists and may hold other files; those named above are overwritten.
        tool: name and version, for the banner.
        counted: every step leaves the board's count of instructions behind, in et_step_ends[step + 1], and the start
            of the function in et_step_ends[0].
        threads: for PCs: every step is run by the threads of a team, each for its share, where the kernel can share
            its work; to be compiled with -DET_THREADS=1 -pthread.
        arenas: with threads, how many of them walk over a batch at most: each in an arena of its own.
    """
    for name, text in generate(program, tool, counted, threads, arenas).items():
        (folder / name).write_text(text)


def arena_bytes(program: Program, arenas: int = 1) -> int:
    """Of all arenas that the code of `emit` asks for."""
    return _arena_step(program) * (arenas - 1) + program.arena_bytes if walks(program) else program.arena_bytes


def walks(program: Program) -> bool:
    """Whether a function goes over its batch part by part."""
    return any(function.parts > 1 for function in program.functions.values())


def _arena_step(program: Program) -> int:
    """From one arena to the next: whole cache lines."""
    return -(-program.arena_bytes // 64) * 64


def generate(
    program: Program, tool: str, counted: bool = False, threads: bool = False, arenas: int = 1
) -> dict[str, str]:
    """File name -> text; see `emit`."""
    context = _Context(program, tool, counted, threads, arenas)
    files = {name: runtime_text(name) for name in (*context.runtime.headers, *context.runtime.sources)}
    templates = environment()
    for name in ("model.h", "model.c", "weights.h", "weights.c", "et_config.h"):
        files[name] = templates.get_template(f"model/{name}.j2").render(context.values())
    files["manifest.json"] = json.dumps(manifest(program, tool), indent=2) + "\n"
    return files


def manifest(program: Program, tool: str) -> dict[str, Any]:
    """What other programs need to know of the generated code (docs/SPEC.md)."""
    offsets = program.param_offsets()
    return {
        "manifest": MANIFEST_VERSION,
        "tool": tool,
        "name": program.name,
        **program.facts,
        "fma": program.fma,
        "arena_bytes": program.arena_bytes,
        "arena_lower_bound": program.lower_bound,
        "params_bytes": program.params_bytes,
        "flash_weights_bytes": program.flash_bytes,
        "functions": {
            name: {"steps": len(f.steps), "macs": f.macs, "arena_bytes": f.peak, "arena_lower_bound": f.lower_bound}
            for name, f in program.functions.items()
        },
        "inputs": [_port_facts(port) for port in program.inputs],
        "outputs": [_port_facts(port) for port in program.outputs],
        "label": _port_facts(program.label) if program.label else None,
        "params": [
            {
                "name": b.name,
                "offset": offsets[b.name],
                "shape": list(b.shape),
                "dtype": b.dtype,
                "layout": b.layout.name if b.layout else "row-major",
                "trained": b.trained,
            }
            for b in program.params
        ],
    }


def runtime_files(program: Program, threads: bool = False) -> Runtime:
    """The runtime files that a program uses; with those for threads, if it is to have some."""
    kernels = {step.kernel for function in program.functions.values() for step in function.steps}
    team = {"et_threads_run"} if threads else set()
    return runtime_for(kernels | {"et_copy_f32", "et_copy_bytes", "et_zero_f32"} | team)


def ports(program: Program) -> dict[str, Any]:
    """Inputs, outputs and label with their C names, for templates."""
    context = _Context(program, "")
    return {
        "inputs": [context.port(port) for port in program.inputs],
        "outputs": [context.port(port) for port in program.outputs],
        "label": context.port(program.label) if program.label else None,
    }


def _port_facts(port: Port) -> dict[str, Any]:
    return {"name": port.name, "shape": list(port.shape), "dtype": port.dtype, "bytes": port.bytes}


@cache
def environment() -> Any:
    """The templates, strict about undefined names."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from codegen.resources import folder

    return Environment(
        loader=FileSystemLoader(str(folder("codegen") / "templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


class _Context:
    """Names and values for the templates."""

    def __init__(
        self, program: Program, tool: str, counted: bool = False, threads: bool = False, arenas: int = 1
    ) -> None:
        self.program = program
        self._counted = counted
        self._threads = threads
        self._arenas = arenas
        self.tool = tool
        self.runtime = runtime_files(program, threads)
        self._weights = Names()
        self._ports = Names({"m", "label", "loss"})
        self._constants = Names()
        self._structs: dict[tuple[str, tuple[Any, ...]], str] = {}
        self._tables: dict[Table, str] = {}
        self._definitions: list[str] = []

    def values(self) -> dict[str, Any]:
        """Everything the templates may use."""
        program = self.program
        functions = [self._function(f) for f in program.functions.values()]
        return {
            "tool": self.tool,
            "name": program.name,
            "upper": program.name.upper(),
            "facts": program.facts,
            "fma": program.fma,
            "small_code": program.small_code,
            "forms": program.forms,
            "walks": walks(program),
            "arenas": self._arenas,
            "arena_step": _arena_step(program),
            "includes": self.runtime.includes,
            "arena_bytes": arena_bytes(program, self._arenas),
            "lower_bound": program.lower_bound,
            "params_bytes": program.params_bytes,
            "flash_bytes": program.flash_bytes,
            "inputs": [self.port(port) for port in program.inputs],
            "outputs": [self.port(port) for port in program.outputs],
            "label": self.port(program.label) if program.label else None,
            "params": [self._weight(b) for b in program.params],
            "flash": [self._weight(b) for b in program.flash],
            "images": [self._weight(b) for b in program.params if needs_image(b)],
            "zeros": [self._weight(b) for b in program.params if not needs_image(b)],
            "definitions": self._definitions,
            "functions": functions,
            "counted": self._counted,
            "threads": self._threads,
            "trainable": "train_step" in program.functions,
            "accumulates": "update" in program.functions,
        }

    def port(self, port: Port) -> dict[str, Any]:
        """One of them."""
        ctype = CTYPES[port.dtype][0]
        return {
            "name": port.name,
            "c_name": self._ports(f"{port.name} {port.buffer}", port.name),
            "ctype": ctype,
            "shape": "".join(f"[{n}]" for n in port.shape) or "[1]",
            "count": int(np.prod(port.shape, dtype=np.int64)),
            "bytes": port.bytes,
        }

    def _weight(self, buffer: Buffer) -> dict[str, Any]:
        return {
            "name": buffer.name,
            "c_name": self._weights(buffer.name),
            "ctype": buffer.ctype,
            "count": buffer.size,
            "bytes": buffer.bytes,
            "shape": "".join(f"[{n}]" for n in buffer.shape) or "[1]",
            "layout": buffer.layout.name if buffer.layout else None,
            "trained": buffer.trained,
            "values": lambda: _array_text(buffer.image()),
        }

    def _function(self, function: Function) -> dict[str, Any]:
        names = Names()
        spans = sorted(lifetimes(function), key=lambda s: (function.offsets[s.name], s.first))
        arena = [
            {
                "macro": names(span.name).upper(),
                "at": "OWN" if self._in_own_arenas(function) and span.name not in function.kept else "AT",
                "ctype": function.buffers[span.name].ctype,
                "offset": function.offsets[span.name],
                "shape": "".join(f"[{n}]" for n in function.buffers[span.name].shape) or "[1]",
                "first": span.first,
                "last": span.last,
                "bytes": span.bytes,
            }
            for span in spans
        ]
        macros = {span.name: f"{names(span.name).upper()}" for span in spans}
        steps = [self._step(function, step, macros) for step in function.steps]
        turns = 0
        for step in steps:
            step["turn"] = turns
            turns += step["in_turn"]
        return {
            "name": function.name,
            "arena": arena,
            "steps": steps,
            "peak": function.peak,
            "lower_bound": function.lower_bound,
            "macs": function.macs,
            "parts": function.parts,
            "turns": turns,
            "own": self._in_own_arenas(function),
            "arguments": self._arguments(function),
            "uses_params": any(
                function.buffers[function.storage[p.buffer]].place is Place.PARAMS
                for step in function.steps
                for p in step.pointers()
            ),
        }

    def _in_own_arenas(self, function: Function) -> bool:
        """Whether threads walk."""
        return self._threads and function.parts > 1

    def _arguments(self, function: Function) -> list[dict[str, str]]:
        """Of the function in C, after the context: as fields of a struct."""
        label = self.program.label
        inputs = [self.port(port) for port in self.program.inputs]
        fields = [("const ", each["ctype"], each["c_name"]) for each in inputs]
        if function.name == "infer":
            outputs = [self.port(port) for port in self.program.outputs]
            fields += [("", each["ctype"], each["c_name"]) for each in outputs]
        elif function.name == "train_step" and label is not None:
            fields += [("const ", self.port(label)["ctype"], "label"), ("", "float", "loss")]
        else:
            fields = []
        return [{"name": name, "declaration": f"{const}{ctype} *{name}"} for const, ctype, name in fields]

    def _step(self, function: Function, step: Step, macros: Mapping[str, str]) -> dict[str, Any]:
        arguments = ", ".join(self._argument(function, argument, macros) for argument in step.arguments)
        shared = self._threads and function.parts == 1 and step.kernel in shared_kernels()
        return {"call": f"{step.kernel}({arguments})", "node": _comment(step.node), "shared": shared, "last": step.last,
                "in_turn": step.last or not function.kept.isdisjoint(step.writes())}

    def _argument(self, function: Function, argument: Argument, macros: Mapping[str, str]) -> str:
        if isinstance(argument, Pointer):
            return self._pointer(function, argument, macros)
        if isinstance(argument, Literal):
            return argument.text
        if isinstance(argument, RuntimeArgument):
            return f"m->{argument.field}"
        if isinstance(argument, ByPart):
            if (argument.first, argument.later) == ("false", "true"):
                return "part != 0"
            return f"part == 0 ? {argument.first} : {argument.later}"
        if isinstance(argument, Struct):
            return f"&{self._struct(argument)}"
        return self._table(argument.table, argument.name)

    def _pointer(self, function: Function, pointer: Pointer, macros: Mapping[str, str]) -> str:
        root = function.storage[pointer.buffer]
        buffer = function.buffers[root]
        if buffer.place is Place.ARENA:
            return macros[root]
        if buffer.place is Place.PARAMS:
            return f"m->params->{self._weights(root)}"
        if buffer.place is Place.FLASH:
            return f"{self.program.name}_{self._weights(root)}"
        if buffer.place is Place.LOSS:
            return "loss"
        advance = f" + {buffer.size} * part" if function.parts > 1 else ""
        if buffer.place is Place.INPUT:
            port = next(port for port in self.program.inputs if port.buffer == root)
            return f"{self.port(port)['c_name']}{advance}"
        if buffer.place is Place.OUTPUT:
            port = next(port for port in self.program.outputs if function.storage[port.buffer] == root)
            return f"{self.port(port)['c_name']}{advance}"
        return f"label{advance}"

    def _struct(self, struct: Struct) -> str:
        key = (struct.type, struct.fields)
        if key not in self._structs:
            name = self._constants(f"struct {len(self._structs)}", struct.name)
            lines = []
            for field, value in struct.fields:
                if isinstance(value, Table):
                    text = self._table(value, f"{struct.name}_{field}") if value.rows else "NULL"
                else:
                    text = _number(value)
                lines.append(f".{field} = {text}")
            self._structs[key] = name
            self._definitions.append(f"static const {struct.type} {name} = {{\n{_wrapped(lines)}\n}};")
        return self._structs[key]

    def _table(self, table: Table, wanted: str) -> str:
        if table not in self._tables:
            name = self._constants(f"table {len(self._tables)}", wanted)
            rows = [
                "{" + ", ".join(map(_number, row)) + "}" if isinstance(row, tuple) else _number(row)
                for row in table.rows
            ]
            self._tables[table] = name
            self._definitions.append(
                f"static const {table.ctype} {name}[{len(rows)}] = {{\n{_wrapped(rows)}\n}};"
            )
        return self._tables[table]


def _wrapped(items: list[str], width: int = 112) -> str:
    """Items separated by commas, in lines of a bounded width."""
    lines, line = [], ""
    for item in items:
        if line and len(line) + len(item) + 2 > width:
            lines.append(line)
            line = ""
        line += f"{' ' if line else ''}{item},"
    return "\n".join(f"    {text}" for text in [*lines, line] if text)


def _comment(text: str) -> str:
    return text.replace("*/", "* /")


def _array_text(values: Array) -> str:
    spell = _float_text if values.dtype == np.float32 else str
    texts = [spell(v) for v in values.tolist()]
    rows = range(0, len(texts), _VALUES_PER_LINE)
    return ",\n".join("    " + ", ".join(texts[i : i + _VALUES_PER_LINE]) for i in rows)


def _number(value: float) -> str:
    return _float_text(float(np.float32(value))) if isinstance(value, float) else str(value)


def _float_text(value: float) -> str:
    """Nine significant digits read back as the same float32."""
    text = f"{value:.9g}"
    if text in ("inf", "-inf"):
        return "-ET_INFINITY" if text[0] == "-" else "ET_INFINITY"
    if "." not in text and "e" not in text:
        text += ".0"
    return text + "f"

