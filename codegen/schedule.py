"""Order of steps, and which buffers share memory: the two things that move the lower bound of the arena.

A step waits for the values that it reads, for the readers of the value that it replaces, and for the nodes named in
its `after`. Two orders are tried, the given one and a greedy one that frees memory first; the one whose bound is lower
wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from codegen.program import Function, Place, aligned


@dataclass(frozen=True)
class Lifetime:
    """A piece of arena memory over the steps of a function, both ends included."""

    name: str
    bytes: int
    first: int
    last: int


def schedule(function: Function) -> Function:
    """The function with its steps in the better of two orders and its shared storage resolved."""
    dependencies = _dependencies(function)
    orders = [_in_given_order(dependencies), _freeing_first(function, dependencies)]
    candidates = []
    for order in orders:
        ordered = replace(function, steps=tuple(function.steps[i] for i in order))
        candidates.append(_share_storage(ordered))
    bounds = [lower_bound(lifetimes(candidate)) for candidate in candidates]
    return candidates[bounds.index(min(bounds))]


def lifetimes(function: Function) -> tuple[Lifetime, ...]:
    """When each arena storage is alive, in the order of first use."""
    spans: dict[str, tuple[int, int]] = {}
    sizes: dict[str, int] = {}
    for index, step in enumerate(function.steps):
        for name in (*step.reads(), *step.writes()):
            root = function.storage.get(name, name)
            if function.buffers[root].place is Place.ARENA:
                first, _ = spans.get(root, (index, index))
                spans[root] = (first, index)
                sizes[root] = max(sizes.get(root, 0), function.buffers[name].bytes)
    for name in function.kept:
        spans[function.storage.get(name, name)] = (0, len(function.steps) - 1)
    return tuple(Lifetime(name, aligned(sizes[name]), first, last) for name, (first, last) in spans.items())


def lower_bound(spans: Sequence[Lifetime]) -> int:
    """Most bytes alive at once: no placement can need less."""
    return max(live_bytes(spans), default=0)


def live_bytes(spans: Sequence[Lifetime]) -> list[int]:
    """Bytes alive during each step."""
    count = max((span.last for span in spans), default=-1) + 1
    changes = [0] * (count + 1)
    for span in spans:
        changes[span.first] += span.bytes
        changes[span.last + 1] -= span.bytes
    live, total = [], 0
    for change in changes[:count]:
        total += change
        live.append(total)
    return live


def _dependencies(function: Function) -> list[set[int]]:
    """For each step, the steps that must come before it."""
    writer = {name: index for index, step in enumerate(function.steps) for name in step.writes()}

    def value(name: str) -> str:
        """The buffer whose writing made the value that a view shows."""
        while name not in writer and name in function.views:
            name = function.views[name]
        return name

    readers: dict[str, list[int]] = {}
    for index, step in enumerate(function.steps):
        for name in step.reads():
            readers.setdefault(value(name), []).append(index)
    steps_of: dict[str, list[int]] = {}
    for index, step in enumerate(function.steps):
        steps_of.setdefault(step.node, []).append(index)

    before: list[set[int]] = []
    for index, step in enumerate(function.steps):
        waits = {writer[value(name)] for name in step.reads() if value(name) in writer}
        for name in step.writes():
            if name in function.views:
                waits.update(readers.get(value(function.views[name]), ()))
                old = value(function.views[name])
                if old in writer:
                    waits.add(writer[old])
        for node in step.after:
            waits.update(steps_of.get(node, ()))
        waits.discard(index)
        before.append(waits)
    return before


def _in_given_order(before: Sequence[set[int]]) -> list[int]:
    """Topological order, the earliest given step first."""
    done: set[int] = set()
    order: list[int] = []
    waiting = list(range(len(before)))
    while waiting:
        index = next((i for i in waiting if before[i] <= done), None)
        if index is None:
            raise AssertionError("the steps of a function wait for each other in a circle")
        waiting.remove(index)
        order.append(index)
        done.add(index)
    return order


def _freeing_first(function: Function, before: Sequence[set[int]]) -> list[int]:
    """Greedy list scheduling: of the steps that may run, the one after which least memory is alive."""
    group = _groups(function)
    uses: dict[str, int] = {}
    touched: list[tuple[str, ...]] = []
    sizes: dict[str, int] = {}
    for step in function.steps:
        names = {group(name) for name in (*step.reads(), *step.writes())}
        names = {name for name in names if function.buffers[name].place is Place.ARENA}
        touched.append(tuple(sorted(names)))
        for name in names:
            uses[name] = uses.get(name, 0) + 1
            sizes[name] = aligned(function.buffers[name].bytes)
    alive: set[str] = set()
    done: set[int] = set()
    order: list[int] = []
    waiting = list(range(len(function.steps)))

    def growth(index: int) -> int:
        new = sum(sizes[name] for name in touched[index] if name not in alive)
        freed = sum(sizes[name] for name in touched[index] if uses[name] == 1)
        return new - freed

    while waiting:
        ready = [i for i in waiting if before[i] <= done]
        index = min(ready, key=lambda i: (growth(i), i))
        for name in touched[index]:
            uses[name] -= 1
            if uses[name]:
                alive.add(name)
            else:
                alive.discard(name)
        waiting.remove(index)
        order.append(index)
        done.add(index)
    return order


class _Groups:
    """Union-find over buffer names; the representative of a set is the one whose place counts."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        while name in self._parent:
            name = self._parent[name]
        return name

    def join(self, name: str, into: str) -> None:
        """Puts the set of `name` into that of `into`."""
        name, into = self(name), self(into)
        if name != into:
            self._parent[name] = into


def _groups(function: Function) -> _Groups:
    groups = _Groups()
    for view, target in function.views.items():
        groups.join(view, target)
    return groups


def _share_storage(function: Function) -> Function:
    """Views share by definition; a step works in place where its input dies and the memory is ours to write."""
    groups = _groups(function)
    last_use: dict[str, int] = {}
    sizes: dict[str, int] = {}  # of the largest member
    for name, buffer in function.buffers.items():
        sizes[groups(name)] = max(sizes.get(groups(name), 0), buffer.bytes)
    for index, step in enumerate(function.steps):
        for name in (*step.reads(), *step.writes()):
            last_use[groups(name)] = index
    for index, step in enumerate(function.steps):
        for written, read in step.in_place:
            source, target = groups(read), groups(written)
            if source == target or function.buffers[source].place is not Place.ARENA:
                continue
            place = function.buffers[target].place
            if function.kept.intersection((source, target)):
                continue
            if last_use[source] != index or place not in (Place.ARENA, Place.OUTPUT):
                continue
            if aligned(function.buffers[source].bytes) != aligned(function.buffers[target].bytes):
                continue
            if sizes[source] != sizes[target]:
                continue
            groups.join(source, target)
            last_use[target] = max(last_use[target], index)
            break
    return replace(function, storage={name: groups(name) for name in function.buffers})
