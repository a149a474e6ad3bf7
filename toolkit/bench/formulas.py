"""Formulas of kernels, fitted to counts of single steps: which terms a kernel's instructions go by, and how much.

A term is taken if steps of models that the fit has not seen are then told better; factors are never below zero, and
make the relative errors small: of each step, the more so the larger its share of the function that it is in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from toolkit.ir import Array
from toolkit.report.terms import ANY

MOST_TERMS = 6
_LEAST_GAIN = 0.03  # of the squared errors, for a term more
_LEAST_SHARE = 0.01  # what a step that is next to nothing of its function counts as
_OWN_WAY = 3  # steps, from which on a way through a kernel has a formula of its own
# Terms, those first that a kernel of which little was seen most likely goes by.
_FIRST = (1, 3, 2, 0)


@dataclass(frozen=True)
class Sample:
    """One step of one model.

    Attributes:
        case: model, method and phase.
        features: as `toolkit.report.terms.NAMES` has them.
        cycles: core -> cycles.
        way: through the kernel, as `toolkit.report.terms.way` tells it.
        share: of its function's instructions.
    """

    case: str
    kernel: str
    features: tuple[float, ...]
    instructions: int
    cycles: Mapping[str, int] = field(default_factory=dict)
    way: str = ""
    share: float = 1.0

    @property
    def model(self) -> str:
        """The first word of the case."""
        return self.case.split()[0]


def fit(samples: Sequence[Sample]) -> tuple[float, ...]:
    """Factors of a kernel, none below zero."""
    counts = np.array([each.instructions for each in samples], np.float64)
    weights = np.sqrt(_LEAST_SHARE + np.array([each.share for each in samples]))
    matrix = np.array([each.features for each in samples]) * (weights / counts)[:, None]
    scale = np.linalg.norm(matrix, axis=0)
    first = [term for term in _FIRST if term < matrix.shape[1]]
    usable = [term for term in (*first, *range(len(first), matrix.shape[1])) if scale[term] > 0]
    scale[scale == 0] = 1.0
    groups = _groups(samples)
    parts = _Parts(matrix / scale, weights, groups)
    most = min(MOST_TERMS, len({each.features for each in samples}) - 1, len(groups) - 2)
    chosen: list[int] = []
    least = float("inf")
    while len(chosen) < max(most, 1):
        # A constant alone would say the same of all sizes.
        errors = {term: parts.error([*chosen, term]) for term in usable if term not in chosen and (term or chosen)}
        if not errors:
            break
        best = min(errors, key=lambda term: errors[term])
        if not errors[best] < least * (1 - _LEAST_GAIN) - 1e-9:
            break
        least = errors[best]
        chosen.append(best)
    factors = np.zeros(matrix.shape[1])
    factors[chosen] = parts.factors(chosen)
    return tuple(float(f"{factor:.5g}") for factor in factors / scale)


def _groups(samples: Sequence[Sample]) -> list[list[int]]:
    """Numbers of the samples that are left out together: those of a model; each by itself where there is one model."""
    models: dict[str, list[int]] = {}
    for number, each in enumerate(samples):
        models.setdefault(each.model, []).append(number)
    return list(models.values()) if len(models) > 1 else [[number] for number in range(len(samples))]


class _Parts:
    """Least squares of all samples, and of all but each group, by sums of products that are made once."""

    def __init__(self, matrix: Array, wanted: Array, groups: Sequence[Sequence[int]]) -> None:
        self._matrix, self._wanted, self._groups = matrix, wanted, groups
        self._products = matrix.T @ matrix
        self._sums = matrix.T @ wanted
        own = [matrix[group] for group in groups]
        self._less_products = self._products - np.array([part.T @ part for part in own])
        self._less_sums = self._sums - np.array(
            [part.T @ wanted[group] for part, group in zip(own, groups, strict=True)]
        )  # fmt: skip

    def factors(self, chosen: Sequence[int]) -> Array:
        """Of the chosen terms, for all samples."""
        return np.asarray(_solve(self._products[np.ix_(chosen, chosen)], self._sums[chosen]))

    def error(self, chosen: Sequence[int]) -> float:
        """Squared, of what the others say of each group; infinite where a factor would be below zero."""
        if (self.factors(chosen) < 0).any():
            return float("inf")
        if len(self._groups) == 1:
            return float(np.sum((self._matrix[:, chosen] @ self.factors(chosen) - self._wanted) ** 2))
        index = np.ix_(range(len(self._groups)), chosen, chosen)
        each = _solve(self._less_products[index], self._less_sums[:, chosen])
        return float(
            sum(
                np.sum((self._matrix[np.ix_(group, chosen)] @ factors - self._wanted[group]) ** 2)
                for group, factors in zip(self._groups, each, strict=True)
            )
        )


def _solve(products: Array, sums: Array) -> Array:
    """Normal equations of columns of length 1, with a trace of a ridge: terms may be alike, or 0 in what is left."""
    return np.asarray(np.linalg.solve(products + 1e-9 * np.eye(products.shape[-1]), sums[..., None])[..., 0])


def formulas(samples: Sequence[Sample]) -> dict[str, dict[str, tuple[float, ...]]]:
    """Kernel -> way through it -> factors. ANY is of all ways together, for those that were seen too little."""
    own: dict[str, dict[str, list[Sample]]] = {}
    for each in samples:
        if each.instructions > 0:
            ways = own.setdefault(each.kernel, {ANY: []})
            ways[ANY].append(each)
            ways.setdefault(each.way, []).append(each)
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for kernel, ways in sorted(own.items()):
        seen = {name: all_of for name, all_of in ways.items() if name == ANY or len(all_of) >= _OWN_WAY}
        if len(ways) == 2:  # there is one way
            seen = {ANY: ways[ANY]}
        found[kernel] = {
            name: fit(seen[name])
            for name in sorted(seen)
        }  # fmt: skip
    return found


def told(found: Mapping[str, Mapping[str, Sequence[float]]], sample: Sample) -> float:
    """What the formulas say of a step; they know its kernel."""
    ways = found[sample.kernel]
    return float(np.dot(ways.get(sample.way, ways[ANY]), sample.features))


def errors(found: Mapping[str, Mapping[str, Sequence[float]]], samples: Sequence[Sample]) -> dict[str, float]:
    """Case -> relative error of its sum; only where the formulas know all of its kernels."""
    sums: dict[str, list[float]] = {}
    unknown = {each.case for each in samples if each.kernel not in found}
    for each in samples:
        if each.case not in unknown:
            own = sums.setdefault(each.case, [0.0, 0.0])
            own[0] += told(found, each)
            own[1] += each.instructions
    return {case: said / counted - 1 for case, (said, counted) in sums.items()}


def left_out(samples: Sequence[Sample], apart: str = "") -> dict[str, float]:
    """The errors where the formulas are fitted to the other models.

    Args:
        apart: how the names of models begin that are fitted to, and not asked for.
    """
    found: dict[str, float] = {}
    for model in dict.fromkeys(each.model for each in samples):
        if apart and model.startswith(apart):
            continue
        own = [each for each in samples if each.model == model]
        kernels = {each.kernel for each in own}
        found |= errors(formulas([each for each in samples if each.model != model and each.kernel in kernels]), own)
    return found
