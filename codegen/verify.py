"""An independent check of schedule and plan: plays a function and watches who owns each byte.

Shares no code with schedule.py and plan.py on purpose. Memory is a list of ranges, each with one value; a step must
find every value that it reads still there, whole, and may overwrite one that it reads only where the kernel says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from codegen.program import ALIGNMENT, Function, Place, Program


class PlanError(AssertionError):
    """The planner made a plan that would corrupt memory: a defect of the tool."""


@dataclass
class _Range:
    start: int
    end: int
    value: str


def verify_program(program: Program) -> Program:
    """Checks every function; returns the program.

    Raises:
        PlanError: names the function, step and buffer of the first fault.
    """
    for function in program.functions.values():
        verify_function(function)
    return program


def verify_function(function: Function) -> None:
    """Plays the steps over the planned memory; a walk's twice, for what one part may do to the next."""
    regions: dict[str, list[_Range]] = {}
    written: set[str] = set()
    rounds = min(function.parts, 2)
    for turn in range(rounds):
        # Nothing but what is kept has a meaning in the next part.
        stale = written - function.kept
        written &= function.kept
        for region, ranges in regions.items():
            regions[region] = [held for held in ranges if held.value not in stale]
        _play(function, regions, written, last=turn == rounds - 1)


def _play(function: Function, regions: dict[str, list[_Range]], written: set[str], last: bool) -> None:
    """All steps of a part, which is the last one or not."""
    kept_before = frozenset(written)
    ran: set[str] = set()
    value_of = _values(function)
    nodes = {step.node for step in function.steps if last or not step.last}
    top = 0
    for number, step in enumerate(function.steps):
        if step.last and not last:
            continue
        where = f"{function.name}, step {number} ({step.kernel} of {step.node})"
        for node in step.after:
            if node in nodes and node not in ran:
                raise PlanError(f"{where}: must run after {node}")
        for name in (*step.reads(), *(name for name in step.writes() if name in kept_before)):
            region, start, end = _location(function, name, where)
            must_be_written = function.buffers[name].place in (Place.ARENA, Place.OUTPUT, Place.LOSS)
            if must_be_written and value_of[name] not in written:
                raise PlanError(f"{where}: reads {name}, which nothing has written")
            for held in regions.get(region, []):
                if held.start < end and start < held.end and held.value != value_of[name]:
                    raise PlanError(f"{where}: reads {name}, but {held.value} lies over it")
        allowed = {(new, old) for new, old in (*step.in_place, *step.updates)}
        for name in step.writes():
            region, start, end = _location(function, name, where)
            for other in step.reads():
                other_region, other_start, other_end = _location(function, other, where)
                if region == other_region and start < other_end and other_start < end:
                    if not any(new == name and value_of[old] == value_of[other] for new, old in allowed):
                        raise PlanError(f"{where}: writes {name} over {other}, which it reads")
                    if (start, end) != (other_start, other_end):
                        raise PlanError(f"{where}: {name} and {other} overlap, but not exactly")
            for other in step.writes():
                if other != name:
                    other_region, other_start, other_end = _location(function, other, where)
                    if region == other_region and start < other_end and other_start < end:
                        raise PlanError(f"{where}: writes both {name} and {other} to one place")
        for name in step.writes():
            if name in written and name not in kept_before:
                raise PlanError(f"{where}: writes {name} a second time")
            region, start, end = _location(function, name, where)
            untouched = [r for r in regions.get(region, []) if r.end <= start or end <= r.start]
            regions[region] = [*untouched, _Range(start, end, name)]
            written.add(name)
            if region == "arena":
                top = max(top, end)
        ran.add(step.node)
    if top > function.peak:
        raise PlanError(f"{function.name}: the arena is {function.peak} bytes, but byte {top - 1} is written")


def _values(function: Function) -> dict[str, str]:
    """For each buffer, the one whose writing made its value: views that no step writes show their target's."""
    writers = {name for step in function.steps for name in step.writes()}
    values = {}
    for name in function.buffers:
        shown = name
        while shown not in writers and shown in function.views:
            shown = function.views[shown]
        values[name] = shown
    return values


def _location(function: Function, name: str, where: str) -> tuple[str, int, int]:
    """Region and byte range of a buffer."""
    root = function.storage[name]
    buffer, size = function.buffers[root], function.buffers[name].bytes
    if buffer.place is not Place.ARENA:
        return f"{buffer.place.value} {root}", 0, size
    if root not in function.offsets:
        raise PlanError(f"{where}: {name} has no place in the arena")
    offset = function.offsets[root]
    if offset % ALIGNMENT:
        raise PlanError(f"{where}: {name} lies at {offset}, which is not aligned")
    return "arena", offset, offset + size
