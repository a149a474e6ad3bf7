"""Errors of the back end. The command line prints them like any other mistake of the user: what, where, hint."""

from __future__ import annotations


class BackendError(Exception):
    """What went wrong, where, and what to do next (see toolkit.errors.UserError, which the front end raises)."""

    def __init__(self, what: str, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\nhint: {self.hint}" if self.hint else text
