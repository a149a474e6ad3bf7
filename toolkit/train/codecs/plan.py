"""Which tensor is kept in which form: one text for all, or patterns.

    fp16                                every float activation that waits for the backward pass
    /relu*=fp16,/conv3=recompute        by name; of several patterns that match, the most specific wins

A pattern matches the name of a float activation, or of the node that makes it, as file names are matched (* and ?);
other tensors are only meant where they are named in full. Of several that match, the one with the most characters that
are not wildcards counts, and of equals the later one. What no pattern matches and only activations ask for is kept as
an exact mask (see mask.py), else as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from toolkit.errors import UserError
from toolkit.train.codecs.codec import WHERE, Codec, parse_codec
from toolkit.train.codecs.mask import EXACT_MASK
from toolkit.train.codecs.saved import Saved, Step

_SHOWN = 8


@dataclass(frozen=True)
class SavePlan:
    """Codecs by pattern.

    Attributes:
        text: as the user gave it, for messages and for the manifest; "" where nothing was asked for.
        default: for activations that no pattern matches; None leaves them alone.
        patterns: (pattern, codec), in the order given.
    """

    text: str = ""
    default: Codec | None = None
    patterns: tuple[tuple[str, Codec], ...] = ()

    def choose(self, step: Step, masks: bool = True) -> dict[str, Codec]:
        """Tensor -> codec, for all that is not kept as it is.

        Args:
            masks: whether exact masks are made where nobody asked for them.

        Raises:
            UserError: a pattern matches nothing that is kept, or a codec does not apply to what it matches.
        """
        self._check_patterns(step)
        chosen: dict[str, Codec] = {}
        used = self.default is None
        for saved in step.saved.values():
            pattern, found = self._find(saved)
            if found is not None:
                reason = found.refusal(step, saved)
                if reason is not None:
                    where = f"{WHERE} {pattern}={found.keyword}"
                    raise UserError(f"{saved.name} cannot be kept as {found.keyword}: {reason}", where=where)
                chosen[saved.name] = found
                continue
            if masks and EXACT_MASK.refusal(step, saved) is None:
                chosen[saved.name] = EXACT_MASK
            elif self.default is not None and saved.activation:
                used = True
                if self.default.refusal(step, saved) is None and self.default.worth_it(step, saved, chosen):
                    chosen[saved.name] = self.default
        if not used:
            raise UserError("no float activation waits for the backward pass", where=f"{WHERE} {self.text}")
        return chosen

    def _check_patterns(self, step: Step) -> None:
        names = list(dict.fromkeys(name for saved in step.saved.values() for name in _names(saved)))
        for pattern, _ in self.patterns:
            if not any(_matches(saved, pattern) for saved in step.saved.values()):
                near = get_close_matches(pattern, names, n=3)
                some = [saved.producer.name for saved in step.saved.values() if saved.activation][:_SHOWN]
                hint = f"did you mean {' or '.join(near)}?" if near else f"kept are {', '.join(some) or 'none'}"
                what = f"nothing that is kept for the backward pass is called '{pattern}'"
                raise UserError(what, where=f"{WHERE} {self.text}", hint=hint)

    def _find(self, saved: Saved) -> tuple[str, Codec | None]:
        best: tuple[int, str, Codec | None] = (-1, "", None)
        for pattern, codec in self.patterns:
            literal = len(pattern.replace("*", "").replace("?", ""))
            if _matches(saved, pattern) and literal >= best[0]:
                best = (literal, pattern, codec)
        return best[1:]


def parse_save(text: str) -> SavePlan:
    """The plan that an option asks for; "" asks for nothing.

    Raises:
        UserError: a codec is not known.
    """
    default: Codec | None = None
    patterns: list[tuple[str, Codec]] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        pattern, equals, codec = part.rpartition("=")
        if equals:
            patterns.append((pattern, parse_codec(codec)))
        elif default is not None:
            what = "two codecs for all activations"
            raise UserError(what, where=f"{WHERE} {text}", hint="use patterns, like /relu*=fp16")
        else:
            default = parse_codec(part)
    return SavePlan(text, default, tuple(patterns))


def _names(saved: Saved) -> tuple[str, ...]:
    return (saved.producer.name, *saved.views) if saved.activation else saved.views


def _matches(saved: Saved, pattern: str) -> bool:
    """Whether a pattern means a tensor; what is no activation must be called by its name."""
    return any(fnmatchcase(name, pattern) if saved.activation else name == pattern for name in _names(saved))
