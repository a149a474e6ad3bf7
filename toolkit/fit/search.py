"""`--train auto`: schemes and codecs that fit a budget, each probed on the user's data; then unions of the best; then,
where that is asked for, the best few on all samples. Without data, what fits and trains most parameters.

Everything is counted before anything is measured: what does not fit is never probed. Probes depend on the seed alone;
only where the time limit ends the search early does the outcome depend on how fast the machine is, and that is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from codegen.board import Board
from toolkit.data import Dataset
from toolkit.errors import UserError
from toolkit.fit.candidates import Candidate, forms, schemes, union
from toolkit.fit.front import Tried, best, most
from toolkit.fit.probe import Measured, ProbeSettings, probe
from toolkit.ir import Graph
from toolkit.pipeline import Compiled, Options, compile_graph, load
from toolkit.quant import parse_plan
from toolkit.report.fitting import firmware_sizes
from toolkit.report.memory import Budget, Memory, Shortfall, memory_of, shortfalls
from toolkit.report.work import estimate
from toolkit.train.schemes import read_scheme

_UNIONS = 4

# (what is being done, how far, out of how much)
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Limits:
    """What a plan may use.

    Attributes:
        macs: of one training step.
        seconds: of the search.
        arena: bytes of the arena alone, where weights have a memory of their own.
    """

    budget: Budget
    macs: int | None = None
    seconds: float = 120.0
    arena: int | None = None

    @property
    def on_memory(self) -> bool:
        """Whether there is any on memory."""
        return bool(self.budget) or self.arena is not None


@dataclass(frozen=True)
class Known:
    """What searches of one model with the same options, data and settings need to do only once between them.

    Attributes:
        compiled: None for what cannot be compiled.
    """

    compiled: dict[Candidate, Compiled | None] = field(default_factory=dict)
    measured: dict[Candidate, Measured] = field(default_factory=dict)
    finals: dict[Candidate, Measured] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        tried: all candidates, those that do not fit among them.
        chosen: what learns most of all that fits; without data, what trains most.
        complete: the time limit did not end it.
    """

    tried: list[Tried]
    chosen: Tried
    complete: bool


class Search:
    """One model, one board, one budget.

    Args:
        data: None for a choice by numbers alone.
        options: where they quantize frozen layers alone (int8:frozen), candidates do so or not, whichever is better;
            without samples they calibrate on the data.
        build: gives code and link of a firmware; they are taken to be the same for all candidates, as that of all
            weights trained, and what is chosen is counted again by `plan`.
        known: of earlier searches that differ in limits alone; this one adds to it.
    """

    def __init__(
        self, source: str, options: Options, board: Board, limits: Limits, data: Dataset | None,
        settings: ProbeSettings, progress: Progress, compiler: str | None = None, build: bool = True,
        known: Known | None = None,
    ) -> None:  # fmt: skip
        self._source, self._options, self._board, self._limits = source, options, board, limits
        self._data, self._settings, self._progress, self._compiler = data, settings, progress, compiler
        self._build = build and not board.is_host
        self._end = time.monotonic() + limits.seconds
        self._graph: Graph = load(source, replace(options, train="none"))
        self._known = known or Known()
        self._frozen = options.quant.text if options.quant.of_frozen else ""
        if self._frozen and data is not None:
            samples = data.x
            self._options = replace(options, quant=parse_plan("none"), samples=options.samples or (lambda _: samples))
        self._link = self._text = 0

    def run(self) -> Outcome:
        """The whole search.

        Raises:
            UserError: not even inference fits, or nothing that fits learns anything.
        """
        self._check_inference()
        fitting, tried = self._count()
        if self._data is None:
            counted = [each for each, _ in fitting]
            trains_most = most(counted)
            if trains_most is None:
                raise self._nothing(tried, [])
            return Outcome(tried + counted, trains_most, True)
        complete = True
        measured: list[Tried] = []
        for number, (each, compiled) in enumerate(fitting):
            self._progress("probing", number, len(fitting))
            if measured and time.monotonic() > self._end:
                tried.append(replace(each, why="no time was left"))
                complete = False
                continue
            measured.append(self._probed(each, compiled))
        self._progress("probing", len(fitting), len(fitting) or 1)
        if complete:
            complete = self._join(measured) and self._finals(measured)
        chosen = best(measured)
        if chosen is None:
            raise self._nothing(tried, measured)
        return Outcome(tried + measured, chosen, complete)

    def _check_inference(self) -> None:
        """Counts code and link once, and refuses a budget that only inference would break."""
        if self._build:
            self._progress("building the firmware", 0, None)
            program = self._compile(Candidate("all")).program
            account = memory_of(program, self._board, firmware_sizes(program, self._board, "edgetrain"))
            self._link, self._text = account.link, account.text
        falls = self._counted(self._compile(Candidate("none")))[1]
        if falls and self._frozen:
            falls = self._counted(self._compile(Candidate("none", quant=self._frozen)))[1]
        if falls:
            what = "; ".join(f"{f.region} needs {f.needs:,} B of {f.size:,} B" for f in falls)
            raise UserError(f"not even inference fits: {what}", where="--train auto", hint="a larger --ram or --flash")

    def _counted(self, compiled: Compiled) -> tuple[Memory, list[Shortfall]]:
        memory = replace(memory_of(compiled.program, self._board), link=self._link, text=self._text)
        falls = shortfalls(memory, self._board, self._limits.budget)
        size = self._limits.arena
        if size is not None and memory.arena > size:
            falls.append(Shortfall("the arena (--arena)", memory.arena, size, {"arena": memory.arena}))
        return memory, falls

    def _compile(self, candidate: Candidate) -> Compiled:
        return compile_graph(self._graph, candidate.options(self._options), self._source)

    def _compiled(self, candidate: Candidate) -> Compiled | None:
        """None where there is a codec that this model has no tensor for, or nothing is frozen."""
        known = self._known.compiled
        if candidate not in known:
            try:
                known[candidate] = self._compile(candidate)
            except UserError:
                known[candidate] = None
        return known[candidate]

    def _count(self) -> tuple[list[tuple[Tried, Compiled]], list[Tried]]:
        """Those that fit, and the others, exact forms first.

        A form that saves nothing is left out, and under a limit on memory one that a more exact form of the same scheme
        makes needless by fitting.
        """
        fitting: list[tuple[Tried, Compiled]] = []
        others: list[Tried] = []
        counted: dict[str, list[Tried]] = {scheme: [] for scheme in schemes(self._graph)}
        candidates = [Candidate(scheme, *form) for form in forms(self._frozen) for scheme in counted]
        for number, candidate in enumerate(candidates):
            self._progress("counting", number, len(candidates))
            exact = [each for each in counted[candidate.scheme] if each.candidate.is_as_exact_as(candidate)]
            if any((self._limits.on_memory and each.fits) or self._never_fits(each) for each in exact):
                continue
            compiled = self._compiled(candidate)
            if compiled is None:
                continue
            each = self._tried(candidate, compiled)
            if any(each.ram >= other.ram for other in exact):
                continue
            counted[candidate.scheme].append(each)
            if each.fits:
                fitting.append((each, compiled))
            else:
                others.append(each)
        self._progress("counting", len(candidates), len(candidates))
        return fitting, others

    def _never_fits(self, each: Tried) -> bool:
        """Whether another form of the scheme is in vain: without any arena, too, it would be too large."""
        ram = self._limits.budget.ram
        return ram is not None and each.ram - each.arena > ram

    def _tried(self, candidate: Candidate, compiled: Compiled) -> Tried:
        program = compiled.program
        memory, falls = self._counted(compiled)
        macs = program.functions["train_step"].macs
        over = self._limits.macs is not None and macs > self._limits.macs
        why = f"{falls[0].excess:,} B of {falls[0].region} too much" if falls else "too many MACs" if over else ""
        fits = not falls and not over
        parameters = read_scheme(self._graph, candidate.scheme).trained
        trains = sum(self._graph.data[name].size for name in parameters)
        told = estimate(program.functions["train_step"], self._board, program.forms)
        return Tried(
            candidate, memory.ram, memory.flash, macs, program.arena_bytes, program.lower_bound, fits, why=why,
            trains=trains, instructions=told.instructions if told else None,
        )  # fmt: skip

    def _probed(self, each: Tried, compiled: Compiled) -> Tried:
        measured = self._known.measured
        if each.candidate not in measured:
            measured[each.candidate] = self._measure(compiled, self._settings)
        return replace(each, measured=measured[each.candidate])

    def _measure(self, compiled: Compiled, settings: ProbeSettings) -> Measured:
        assert self._data is not None  # else nothing is measured
        return probe(compiled, self._data, settings, self._compiler)

    def _join(self, measured: list[Tried]) -> bool:
        """Joins the best with what gives most per byte, as long as that fits and learns more; False out of time."""
        base = best(measured)
        if base is None:
            return True
        partners = sorted(measured, key=lambda each: (-each.gain / each.ram, each.candidate.words))
        probed = 0
        for partner in partners:
            if probed == _UNIONS:
                break
            joined = union(self._graph, base.candidate.scheme, partner.candidate.scheme)
            if partner.gain <= 0 or joined is None:
                continue
            found = self._first_that_fits(joined)
            if found is None:
                continue
            if time.monotonic() > self._end:
                return False
            probed += 1
            self._progress("probing unions", probed, _UNIONS)
            each = self._probed(*found)
            measured.append(each)
            if each.gain > base.gain:
                base = each
        self._progress("probing unions", _UNIONS, _UNIONS)
        return True

    def _finals(self, measured: list[Tried]) -> bool:
        """Measures the best on all samples, in place; False out of time."""
        count = min(self._settings.finals, len(measured))
        order = sorted(range(len(measured)), key=lambda index: (-measured[index].gain, measured[index].ram))
        known, settings = self._known.finals, self._settings.of_finals()
        for number, index in enumerate(order[:count]):
            if time.monotonic() > self._end:
                return False
            self._progress("training the best", number, count)
            candidate = measured[index].candidate
            if candidate not in known:
                compiled = self._compiled(candidate)
                assert compiled is not None  # it was probed
                known[candidate] = self._measure(compiled, settings)
            measured[index] = replace(measured[index], final=known[candidate])
        if count:
            self._progress("training the best", count, count)
        return True

    def _first_that_fits(self, scheme: str) -> tuple[Tried, Compiled] | None:
        """The most exact form of a scheme that fits."""
        for form in forms(self._frozen):
            candidate = Candidate(scheme, *form)
            compiled = self._compiled(candidate)
            if compiled is None:
                continue
            each = self._tried(candidate, compiled)
            if each.fits:
                return each, compiled
        return None

    def _nothing(self, tried: list[Tried], measured: list[Tried]) -> UserError:
        if measured:
            hint = "another learning rate with --lr, or more samples with --probe"
            return UserError("nothing that fits lowers the loss", where="--train auto", hint=hint)
        least = min(tried, key=lambda each: each.ram)
        what = f"inference fits, but no way of training does: {least.candidate.words} needs {least.ram:,} B of RAM"
        return UserError(f"{what} and {least.macs:,} MACs a step", where="--train auto", hint="a larger budget")
