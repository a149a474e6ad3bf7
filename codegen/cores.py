"""How many cycles the instructions of a core take: tables of targets/cores, from public documents."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Literal

from codegen.errors import BackendError
from codegen.resources import folder


@dataclass(frozen=True)
class Latency:
    """Cycles from the issue of an instruction until another may use its result; 1 for all that is not named."""

    load: int
    narrow_load: int
    multiply: int
    divide: int
    csr: int


@dataclass(frozen=True)
class Cost:
    """What holds up instructions that need no result.

    Attributes:
        multiply_blocks, divide_blocks: the unit takes the next operation only when it has finished.
        jump: cycles of an unconditional jump.
        mispredicted: cycles on top for a conditional branch that went the other way.
        predictor: "two-bit" counters, one for each branch; or the "last-backward" branch that was taken is predicted
            taken, all others not taken.
        store_waits: for what is stored, where that was loaded just before.
    """

    multiply_blocks: bool
    divide_blocks: bool
    jump: int
    mispredicted: int
    predictor: Literal["two-bit", "last-backward"]
    store_waits: bool = True


@dataclass(frozen=True)
class Core:
    """A pipeline that issues one instruction in a cycle, in order; memory answers at once.

    Attributes:
        source: the document that says so.
    """

    id: str
    name: str
    source: str
    latency: Latency
    cost: Cost


@cache
def load_core(name: str) -> Core:
    """A core by the name of its table.

    Raises:
        BackendError: there is no such table, or it is not valid.
    """
    path = folder("targets") / "cores" / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(list_cores())
        raise BackendError(f"no cycles are known of a core '{name}'", where="cpu.core", hint=f"known are {known}")
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        return Core(name, data.pop("name"), data.pop("source"), Latency(**data["latency"]), Cost(**data["cost"]))
    except (KeyError, TypeError) as error:
        raise BackendError(f"is no table of cycles: {error}", where=str(path)) from None


def list_cores() -> list[str]:
    """The names of all tables."""
    return sorted(path.stem for path in (folder("targets") / "cores").glob("*.toml"))
