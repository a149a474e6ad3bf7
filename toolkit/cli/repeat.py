"""A command once more, with some options changed: what a person may paste."""

from __future__ import annotations

from collections.abc import Collection
from shlex import quote
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from toolkit.pipeline import Options


def repeated(context: click.Context, options: Options, without: Collection[str] = ()) -> str:
    """The command that runs, with other options of compiling.

    Args:
        options: scheme, batch, optimizer and saved tensors are taken from them.
        without: parameters to leave out.
    """
    changed: dict[str, object] = {
        "train": options.train, "batch": options.batch, "optimizer": options.training.optimizer,
        "save": options.save.text,
    }  # fmt: skip
    words = [context.command_path]
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name in changed and changed[name] != value:
            value, given = changed[name], changed[name] != parameter.get_default(context)
        if given and value is not None and name not in without:
            words += _words(parameter, value)
    return " ".join(words)


def _words(parameter: click.Parameter, value: object) -> list[str]:
    option = [max(parameter.opts, key=len)] if isinstance(parameter, click.Option) else []
    if isinstance(parameter, click.Option) and parameter.is_flag and isinstance(value, bool):
        return option if value else []
    each = value if isinstance(value, tuple) else (value,)
    return [word for one in each for word in (*option, quote(str(one)))]

