"""Worst-case stack of a linked firmware, counted from its own instructions.

The machine code says what every compiler reports in a format of its own, and also what none of them reports: the frames
of the compiler's library and of hand-written start-up code. Each function is walked once from its entry along all its
branches; the distance of the stack pointer from its value at entry is known at every instruction, so a call costs the
depth at the call, not the whole frame. Then the longest path over the call graph is taken.

* A call through a pointer may reach every function that the caller can know: whose address it makes itself, that a
  constant table holds whose address it makes, or that so is known to a function from which direct calls lead here. What
  is entered through a pointer is taken to be given no other pointers. Where this finds none, every function whose
  address the firmware holds counts. A pointer does not lead back to a function that is running, nor to one whose direct
  calls do: the runtime has no recursion.
* A jump through a pointer is a call of that kind in tail position, or a switch: whatever of the function is not reached
  otherwise is then reached with the depth of that jump.
* What a ROM takes cannot be seen: firmware calls one through et_rom_call alone, and each such call counts 1 KiB.
* Recursion has no bound, nor has a frame whose size only running tells: BackendError.
* Start-up code resets the stack pointer before it reports a trap: that is a root of its own, not added to the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from codegen.errors import BackendError
from codegen.machine_code import GLOBAL, RETURN, STACK, ZERO, Instruction, decode, signed

_TABLE_BYTES = 256
_ROM_CALL, _ROM_BYTES = "et_rom_call", 1024
# Registers that a call may change (psABI, "Integer Register Convention"): their constants are forgotten there.
_CHANGED_BY_CALLS = frozenset((1, 5, 6, 7, *range(10, 18), *range(28, 32)))


class UnknownFrame(BackendError):
    """A frame of a size that only running tells, as vectors of any length make."""


@dataclass(frozen=True)
class Code:
    """Machine code and constants of a firmware.

    Attributes:
        bits: 32 or 64.
        sections: (address, bytes) of those that are executed.
        constants: (address, bytes) of those that are only read or written.
        functions: name -> (address, bytes); 0 bytes where the symbol has no size: up to the next function then.
        objects: the same of constants and variables.
        global_pointer: what start-up code puts into gp; None where it is not used.
    """

    bits: int
    sections: Sequence[tuple[int, bytes]]
    constants: Sequence[tuple[int, bytes]]
    functions: Mapping[str, tuple[int, int]]
    objects: Mapping[str, tuple[int, int]]
    global_pointer: int | None = None


@dataclass(frozen=True)
class Frame:
    """One function.

    Attributes:
        bytes: the deepest that it moves the stack pointer itself.
        calls: (depth at the call, called function).
        pointer_calls: depths at calls through pointers.
        switches: depths at jumps through pointers, which may be calls or not.
        addresses: those that it makes.
    """

    bytes: int
    calls: frozenset[tuple[int, str]]
    pointer_calls: frozenset[int]
    switches: frozenset[int]
    addresses: frozenset[int]


@dataclass(frozen=True)
class StackUse:
    """The longest path over the calls.

    Attributes:
        bytes: at its end.
        path: (function, bytes of stack below its caller's frame at the call), from the root on.
    """

    bytes: int
    path: tuple[tuple[str, int], ...]


def count_stack(code: Code, roots: Iterable[str]) -> StackUse:
    """The most stack that any of the roots needs; each starts with an empty one.

    Raises:
        BackendError: recursion.
        UnknownFrame: a frame of a size that only running tells.
    """
    graph = CallGraph(code, roots)
    return max((graph.need(root) for root in graph.roots), key=lambda use: use.bytes)


class CallGraph:
    """Frames and calls of a firmware; functions are read when they are first asked for."""

    def __init__(self, code: Code, roots: Iterable[str]) -> None:
        self._code = code
        self.roots = tuple(root for root in roots if root in code.functions)
        self._names: dict[int, str] = {}
        for name, (address, _) in sorted(code.functions.items()):
            self._names.setdefault(address, name)
        self._starts = sorted(self._names)
        self._frames: dict[str, Frame] = {}
        self._needs: dict[str, StackUse] = {}
        self._knows: dict[str, set[str]] = {}
        self._objects = sorted(set(code.objects.values()))
        self._object_starts = {start for start, _ in self._objects}
        self._open: list[str] = []

    def names(self) -> tuple[str, ...]:
        """All functions."""
        return tuple(self._code.functions)

    def frame(self, name: str) -> Frame:
        """One function's own; "name+8" is what follows its first 8 bytes."""
        if name not in self._frames:
            whole, _, offset = name.partition("+")
            start, size = self._code.functions[whole]
            place, text = next(s for s in self._code.sections if s[0] <= start < s[0] + len(s[1]))
            following = bisect_right(self._starts, start)
            end = self._starts[following] if following < len(self._starts) else place + len(text)
            end = min(start + size if size and not offset else end, place + len(text))
            start += int(offset or "0", 16)
            walk = _Walk(self._code, text, place, start, end, self._names, self._starts, name)
            self._frames[name] = walk.frame()
        return self._frames[name]

    @cached_property
    def pointed_at(self) -> frozenset[str]:
        """Functions that any pointer may hold."""
        held = {name for at, content in self._code.constants for name in self._held(at, at + len(content))}
        return frozenset(held.union(*(self._known(name) for name in self._names.values())) - set(self.roots))

    @cached_property
    def _callers(self) -> Mapping[str, frozenset[str]]:
        callers: dict[str, set[str]] = {}
        for name in self._names.values():
            for _, target in self.frame(name).calls:
                callers.setdefault(target, set()).add(name)
        return {name: frozenset(found) for name, found in callers.items()}

    def _held(self, start: int, end: int) -> set[str]:
        """Functions whose addresses lie in a piece of the constants, or in what that points to: tables of tables."""
        found: set[str] = set()
        seen: set[tuple[int, int]] = set()
        waiting = [(start, end)]
        while waiting:
            piece = waiting.pop()
            if piece in seen:
                continue
            seen.add(piece)
            for value in self._words(*piece):
                if value in self._names:
                    found.add(self._names[value])
                elif value in self._object_starts:
                    waiting.append(self._object_at(value))
        return found

    def _words(self, start: int, end: int) -> Iterator[int]:
        word = self._code.bits // 8
        for place, content in self._code.constants:
            for at in range(max(start, place) - place, min(end, place + len(content)) - place - word + 1, 4):
                yield int.from_bytes(content[at : at + word], "little")

    def _known(self, name: str) -> set[str]:
        """Functions that one makes the address of, or of a table with them."""
        if name not in self._knows:
            found = set()
            for address in self.frame(name).addresses:
                if address in self._names:
                    found.add(self._names[address])
                elif not self._is_of_switch(name, address) and self._is_constant(address):
                    found |= self._held(*self._object_at(address))
            self._knows[name] = found
        return self._knows[name]

    def _is_constant(self, address: int) -> bool:
        return any(start <= address < start + len(content) for start, content in self._code.constants)

    def _is_of_switch(self, name: str, address: int) -> bool:
        """Whether at an address there are the places that a switch of this function jumps to: all inside it."""
        start, size = self._code.functions[name]
        first = next(self._words(address, address + self._code.bits // 8), None)
        return address not in self._object_starts and first is not None and start < first < start + size

    def _object_at(self, address: int) -> tuple[int, int]:
        """Start and end of the constant at an address; tables without a symbol end where the next one begins."""
        index = bisect_right(self._objects, (address, 1 << 64)) - 1
        if index >= 0:
            start, size = self._objects[index]
            if address < start + size:
                return start, start + size
        following = self._objects[index + 1][0] if index + 1 < len(self._objects) else address + _TABLE_BYTES
        return address & ~3, min(following, address + _TABLE_BYTES)

    def candidates(self, name: str) -> frozenset[str]:
        """Functions that a pointer may hold which one calls."""
        known = set(self._known(name))
        seen, waiting = {name}, [name]
        while waiting:
            for caller in self._callers.get(waiting.pop(), ()):
                if caller not in seen:
                    seen.add(caller)
                    waiting.append(caller)
                    known |= self._known(caller)
        return frozenset(known - set(self.roots))

    def need(self, name: str) -> StackUse:
        """The worst case of a function with all that it calls.

        Raises:
            BackendError: recursion.
        """
        return self._need(name)[0]

    def _need(self, name: str) -> tuple[StackUse, bool]:
        """The worst case, and whether it is so for all callers: no pointer was left out for leading back to one."""
        if name in self._needs:
            return self._needs[name], True
        frame = self.frame(name)
        if name == _ROM_CALL:
            return StackUse(frame.bytes + _ROM_BYTES, ((name, 0),)), True
        calls = set(frame.calls)
        if frame.pointer_calls or frame.switches:
            targets = self.candidates(name)
            calls |= {(depth, target) for depth in frame.switches for target in targets}
            calls |= {(depth, target) for depth in frame.pointer_calls for target in targets or self.pointed_at}
        self._open.append(name)
        best, whole = frame.bytes, True
        path: tuple[tuple[str, int], ...] = ((name, 0),)
        for depth, target in sorted(calls):
            direct = (depth, target) in frame.calls
            if target in self._open or (not direct and self._leads_back(target)):
                if direct:
                    circle = " -> ".join((*self._open[self._open.index(target) :], target))
                    raise BackendError("the stack has no bound: functions call each other in a circle", where=circle)
                whole = False
                continue
            below, complete = self._need(target)
            whole = whole and complete
            if depth + below.bytes > best:
                best = depth + below.bytes
                path = ((name, 0), (target, depth), *below.path[1:])
        self._open.pop()
        found = StackUse(best, path)
        if whole:
            self._needs[name] = found
        return found, whole

    def _leads_back(self, name: str) -> bool:
        """Whether direct calls lead from a function to one that is running: then no pointer can have held it."""
        seen, waiting = {name}, [name]
        while waiting:
            for _, target in self.frame(waiting.pop()).calls:
                if target in self._open:
                    return True
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        return False


class _Walk:
    """Along all branches of one function, with the depth of the stack and the constants in registers."""

    def __init__(
        self, code: Code, text: bytes, place: int, start: int, end: int,
        names: Mapping[int, str], starts: Sequence[int], name: str,
    ) -> None:  # fmt: skip
        self._code, self._text, self._place, self._starts = code, text, place, starts
        self._start, self._end, self._names, self._name = start, end, names, name
        self._depth_at: dict[int, int] = {}
        self._calls: set[tuple[int, str]] = set()
        self._pointers: set[int] = set()
        self._addresses: set[int] = set()
        self._switches: set[int] = set()
        self._unpaired: set[int] = set()

    def frame(self) -> Frame:
        """Walks it."""
        self._follow([(self._start, 0)])
        if self._switches:
            at = self._start
            while at < self._end:
                if at not in self._depth_at:
                    self._follow([(at, max(self._switches))])
                at += self._decode(at).size
        self._pair()
        return Frame(
            max(self._depth_at.values()), frozenset(self._calls), frozenset(self._pointers),
            frozenset(self._switches), frozenset(self._addresses),
        )  # fmt: skip

    def _pair(self) -> None:
        """Addresses whose upper part is made in another branch than the lower one.

        Pairs through one register that some way connects, of which those count that give the start of an object or of a
        function.
        """
        objects = {start for start, _ in self._code.objects.values()}
        mask = (1 << self._code.bits) - 1
        uppers: dict[int, dict[int, list[int]]] = {}
        decoded = [(at, self._decode(at)) for at in sorted(self._depth_at)]
        for at, one in decoded:
            if one.kind in ("constant", "here"):
                value = one.value + (at if one.kind == "here" else 0)
                uppers.setdefault(one.rd, {}).setdefault(value, []).append(at)
        for at, one in decoded:
            if at not in self._unpaired:
                continue
            for upper, places in uppers.get(one.rs, {}).items():
                address = (upper + one.value) & mask
                # What is loaded from is no function.
                known = address in objects or (one.kind != "load" and address in self._names)
                if known and any(self._reaches(place, at, one.rs) for place in places):
                    self._addresses.add(address)

    def _reaches(self, made: int, used: int, register: int) -> bool:
        """Whether some way leads from one instruction to another on which nothing else changes a register."""
        waiting, seen = [made + self._decode(made).size], {made}
        while waiting:
            at = waiting.pop()
            if at == used:
                return True
            if at in seen or not self._start <= at < self._end:
                continue
            seen.add(at)
            one = self._decode(at)
            returns = one.rd != ZERO
            if one.kind == "pointer" and not returns and one.rs != RETURN:
                return True  # a switch: where it leads is not followed
            if one.kind == "jump" and not returns:
                waiting.append(at + one.value)
            elif one.kind in ("jump", "pointer"):
                if returns and register not in _CHANGED_BY_CALLS:
                    waiting.append(at + one.size)
            else:
                if one.kind == "branch":
                    waiting.append(at + one.value)
                if one.kind == "branch" or one.rd != register:
                    waiting.append(at + one.size)
        return False

    def _follow(self, waiting: list[tuple[int, int]]) -> None:
        while waiting:
            at, depth = waiting.pop()
            # Of registers: a known value, or for those that point into the frame the distance below the entry.
            values = {} if self._code.global_pointer is None else {GLOBAL: self._code.global_pointer}
            frames: dict[int, int] = {}
            while self._start <= at < self._end and self._depth_at.get(at, -1) < depth:
                self._depth_at[at] = depth
                frames[STACK] = depth
                one = self._decode(at)
                if one.kind in ("jump", "pointer"):
                    target = one.value + at if one.kind == "jump" else None
                    if one.kind == "pointer" and one.rs in values:
                        target = values[one.rs] + one.value
                    ends = one.rd == ZERO
                    if target is None and ends and one.rs == RETURN:
                        break
                    self._jump(target, ends, depth, waiting)
                    if ends:
                        break
                    for register in _CHANGED_BY_CALLS:
                        values.pop(register, None)
                        frames.pop(register, None)
                elif one.kind == "branch":
                    waiting.append((at + one.value, depth))
                else:
                    self._compute(one, at, values, frames)
                    if frames.get(STACK) is None:
                        what = "the stack has no bound: a frame's size is known only when running"
                        raise UnknownFrame(what, where=f"{self._name} at 0x{at:x}")
                    depth = frames[STACK]
                at += one.size
            if at == self._end and at in self._names:  # falls into the next one
                self._calls.add((depth, self._names[at]))

    def _jump(self, target: int | None, ends: bool, depth: int, waiting: list[tuple[int, int]]) -> None:
        if target is None:
            (self._switches if ends else self._pointers).add(depth)
        elif self._start <= target < self._end and not (target == self._start and not ends):
            waiting.append((target, depth))
        else:
            begin = self._starts[bisect_right(self._starts, target) - 1]
            middle = f"+{target - begin:x}" if target > begin else ""  # as hand-written code may
            self._calls.add((depth, self._names[begin] + middle))

    def _compute(self, one: Instruction, at: int, values: dict[int, int], frames: dict[int, int]) -> None:
        value: int | None = None
        frame: int | None = None
        if one.kind in ("add", "load") and one.rs not in values and one.rs not in frames:
            self._unpaired.add(at)
        if one.kind == "constant":
            value = one.value
        elif one.kind == "here":
            value = at + one.value
        elif one.kind == "add":
            if one.rs == ZERO:
                value = one.value
            elif one.rs in values:
                value = values[one.rs] + one.value
            elif one.rs in frames:
                frame = frames[one.rs] - one.value
        elif one.kind in ("sum", "difference"):
            sign = 1 if one.kind == "sum" else -1
            if one.rs in frames and one.rt in values:
                frame = frames[one.rs] - sign * signed(values[one.rt], self._code.bits)
            elif one.rt in frames and one.rs in values and sign > 0:
                frame = frames[one.rt] - signed(values[one.rs], self._code.bits)
            elif one.rs in values and one.rt in values:
                value = values[one.rs] + sign * values[one.rt]
        elif one.kind == "align" and one.rs in frames:
            frame = frames[one.rs] - one.value - 1  # at most so much deeper: value is minus the alignment
        elif one.kind == "load" and one.rs in values:
            self._addresses.add((values[one.rs] + one.value) & ((1 << self._code.bits) - 1))
        elif one.rd == ZERO:
            return
        value = None if value is None else value & ((1 << self._code.bits) - 1)
        if one.rd == STACK and value is not None:
            frame = 0  # start-up code sets it to its top
        values.pop(one.rd, None)
        frames.pop(one.rd, None)
        if value is not None and (one.rd not in (ZERO, STACK) or one.kind == "here"):
            values[one.rd] = value
            if one.kind == "add":
                self._addresses.add(value)
        if frame is not None:
            frames[one.rd] = frame

    def _decode(self, at: int) -> Instruction:
        return decode(self._text, at - self._place, self._code.bits)
