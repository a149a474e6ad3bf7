"""The one error that a user is meant to see: what went wrong, where, and what to do about it."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the user's input or machine. The command line prints it without a traceback and exits with 2.

    Args:
        what: one sentence, what is wrong.
        where: the file, node, tensor or option it is about.
        hint: what to do next, as a command where there is one.
    """

    def __init__(self, what: str, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\nhint: {self.hint}" if self.hint else text
