"""How much memory the tables of binary layers get: as much as there is, for more means fewer instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from codegen.board import Board
from codegen.program import Program
from toolkit.ops.sign_forms import LEAST_SCRATCH, MOST_SCRATCH
from toolkit.pipeline import Compiled, Options
from toolkit.quant.table_memory import has_tables
from toolkit.report.memory import Budget, memory_of, shortfalls


def most_tables(
    compiled: Compiled,
    board: Board,
    budget: Budget,
    sizes: Callable[[Program], Mapping[str, int] | None],
    compile: Callable[[Options], Compiled],
) -> Compiled:
    """The model with the largest tables that fit.

    Without a budget of RAM they are what is usual, less where weights, arena and stack need more than the board has.
    Where nothing fits, it is the model that needs least.

    Args:
        compiled: with the usual tables.
        sizes: sections of the firmware of a program (codegen.build), or None; those of all forms are taken to be alike.
            Asked for where there is a budget.
        compile: the same model with other options.
    """
    if not has_tables(compiled.graphs.values()):
        return compiled
    sections = None if budget.ram is None else sizes(compiled.program)

    def fits(each: Compiled) -> bool:
        return not shortfalls(memory_of(each.program, board, sections), board, budget)

    if budget.ram is None and fits(compiled):
        return compiled
    most = MOST_SCRATCH if budget.ram is None else budget.ram
    tried = []
    for limit in (most, *(limit for limit in LEAST_SCRATCH if limit < most)):
        tried.append(compile(replace(compiled.options, tables=limit)))
        if fits(tried[-1]):
            return tried[-1]
    return min(tried, key=lambda each: each.program.arena_bytes)
