"""The command `edgetrain`: one file per command, imported when it is called, so that --help is quick.

Exit codes: 0 done; 1 an internal error, or a check that did not hold; 2 the user's input or machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from toolkit import __version__

# Command -> what it does. The module of the same name in this package holds it, as `command`.
COMMANDS = {
    "inspect": "Operators, shapes, parameters and MACs of a model, and what training it would need",
    "train": "Train a model on data in generated C on this PC; writes a new ONNX file",
    "plan": "RAM and flash of a model on a board, to the byte, before anything is flashed",
    "compile": "Write a folder of C for a model and a board",
    "flash": "Put a built firmware onto its board, by the board's own tool",
    "verify": "Compare every bit of reference, host C and emulated firmware, step by step",
    "simulate": "Run a model on inputs from a file",
    "finetune": "Train on a board over its cable; states outlive resets; bring the weights home as ONNX",
    "monitor": "Watch a board: its step, instructions, stack and arena, as they change",
    "bench": "Measure: instructions on emulated RISC-V, accuracy of the methods on real data",
    "targets": "The boards, and what each offers",
    "doctor": "What is installed, and the one command that installs what is missing",
    "zoo": "Models built from code",
    "data": "Handwritten digits as files, to try the other commands with",
    "demo": "All of it on handwritten digits, in a few minutes",
}


class _Commands(click.Group):
    """A group that imports a command only when it runs."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"toolkit.cli.{name}").command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command '{args[0]}'; {hint}", context)
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgetrain", message="%(prog)s %(version)s")
def program() -> None:
    """ONNX in, C out, for inference and for training, with the same bits on the PC and on the board."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives the exit code and never a traceback (EDGETRAIN_DEBUG=1 shows it).

    Args:
        arguments: as in sys.argv[1:], which is the default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = program.main(given, prog_name="edgetrain", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.Abort:
        click.echo("interrupted", err=True)
        return 1
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context is not None else "edgetrain --help"
        return _refuse(given, error.format_message(), None, hint, 2)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing to say, and no complaint when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _report(given, error)


def _report(arguments: list[str], error: Exception) -> int:
    from codegen.errors import BackendError

    if isinstance(error, BackendError):
        return _refuse(arguments, error.what, error.where, error.hint, 2)
    if os.environ.get("EDGETRAIN_DEBUG"):
        raise error
    if isinstance(error, OSError) and error.filename and error.strerror:
        hint = "is there room on the disk, and may the file be read or written?"
        return _refuse(arguments, error.strerror, str(error.filename), hint, 2)
    what = f"internal error: {type(error).__name__}: {error}"
    return _refuse(arguments, what, None, "EDGETRAIN_DEBUG=1 shows where; please report it", 1)


def _refuse(arguments: list[str], what: str, where: str | None, hint: str | None, code: int) -> int:
    """Prints what went wrong, where, and what to do; with --json, on stdout as an object too."""
    click.echo(f"error: {where}: {what}" if where else f"error: {what}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    if "--json" in arguments:
        import json

        problem: dict[str, Any] = {"error": {"what": what, "where": where, "hint": hint}}
        click.echo(json.dumps(problem))
    return code
