"""Which forms of inner loops are compiled in: those whose share of saved instructions is larger than that of the flash.

A form is code that only some shapes have a use for. Without it their layers take a longer way to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

INSTRUCTIONS_PER_MAC = 2.0  # of a whole function: where it takes more, a form's share is less than is thought here
CODE_BYTES = 40 * 1024  # of a firmware without any forms, about


@dataclass(frozen=True)
class Form:
    """What a step would use.

    Attributes:
        macro: of et_base.h.
        bytes: of code, on a scalar core with an FPU, or with integers alone; 0 where the kernel cannot do without.
        saves: instructions of this step, about.
    """

    macro: str
    bytes: int = 0
    saves: float = 0.0


def worthwhile(functions: Iterable[tuple[int, Iterable[Form]]], flash_bytes: int) -> tuple[str, ...]:
    """Macros of the forms that are worth their code in any of the functions, sorted.

    Args:
        functions: multiply-accumulates of each, and the forms of all its steps.
        flash_bytes: of constants and of the first values of weights.
    """
    chosen = set()
    for macs, forms in functions:
        saved: dict[tuple[str, int], float] = {}
        for form in forms:
            key = form.macro, form.bytes
            saved[key] = saved.get(key, 0.0) + form.saves
        for (macro, size), instructions in saved.items():
            if instructions / (INSTRUCTIONS_PER_MAC * max(macs, 1)) >= size / (CODE_BYTES + flash_bytes):
                chosen.add(macro)
    return tuple(sorted(chosen))
