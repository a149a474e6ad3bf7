"""The one error that a user is meant to see: what went wrong, where, and what to do about it."""

from __future__ import annotations

from codegen.errors import BackendError


class UserError(BackendError):
    """A mistake in the user's input or machine. The command line prints it without a traceback and exits with 2.

    Args:
        what: one sentence, what is wrong.
        where: the file, node, tensor or option it is about.
        hint: what to do next, as a command where there is one.
    """
