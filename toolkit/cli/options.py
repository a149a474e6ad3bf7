"""Options that several commands share, and what they say together: a Request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial, wraps
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from toolkit.cli.repeat import repeated
from toolkit.errors import UserError

if TYPE_CHECKING:
    from codegen.board import Board
    from codegen.program import Program
    from toolkit.ir import Array, TensorType
    from toolkit.pipeline import Compiled, Options
    from toolkit.report.memory import Budget, Memory

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
compiler_option = click.option("--compiler", help="gcc, clang, zig or a command; default: the best that is found.")


@dataclass(frozen=True)
class Request:
    """What the shared options ask for.

    Attributes:
        batch: as given; None where it was not.
        walk: as given; None where it was not.
        fma: "on", "off", or "target": what the target's hardware does.
    """

    model: str
    batch: int | None
    shapes: dict[str, tuple[int, ...]]
    until: str | None
    quant: str
    calibrate: str | None
    train: str
    loss: str
    optimizer: str
    accumulate: int
    atomic: bool
    batch_norm: str
    save: str
    fma: str
    opt: Literal["speed", "size"]
    walk: int | None
    target: str
    profile: str | None

    def board(self) -> Board:
        """The target, with the profile asked for.

        Raises:
            BackendError: there is no such target or profile.
        """
        from codegen.board import load_board

        return load_board(self.target).with_profile(self.profile)

    def for_target(self, target: str) -> tuple[Compiled, Board]:
        """The model compiled for another target, and that target without a profile."""
        other = replace(self, target=target, profile=None)
        return other.compiled(), other.board()

    def with_target(self, target: str) -> Request:
        """The same for another target."""
        return replace(self, target=target)

    def options(self) -> Options:
        """For the pipeline."""
        from toolkit.pipeline import Options
        from toolkit.quant import parse_plan
        from toolkit.train.codecs import parse_save
        from toolkit.train.step import TrainingOptions

        if self.train == "auto":
            raise UserError("auto is for `edgetrain plan`, which says what to put in its place", where="--train auto",
                            hint="edgetrain plan MODEL --train auto --data DATA --ram 64K")  # fmt: skip
        if self.save and self.train == "none":
            raise UserError("nothing is trained, so nothing waits for a backward pass", where=f"--save {self.save}",
                            hint="add --train all")  # fmt: skip
        board = self.board()
        fma = board.fma if self.fma == "target" else self.fma == "on"
        training = TrainingOptions(self.loss, self.optimizer, self.accumulate, self.atomic, self.batch_norm)
        plan = parse_plan(self.quant)
        samples = None if self.calibrate is None else partial(_samples, self.calibrate)
        return Options(
            self.train, training, fma, self.batch, self.shapes, self.until, quant=plan, samples=samples,
            isa=board.cpu.isa, save=parse_save(self.save), opt=self.opt, cache=board.cpu.cache, walk=self.walk,
        )  # fmt: skip

    def compiled(self) -> Compiled:
        """The model through the whole pipeline."""
        from toolkit.pipeline import compile_model

        return compile_model(self.model, self.options())

    def words(self) -> str:
        """The options that differ from the defaults, to repeat a command."""
        words = [f"--quant {self.quant}"] if self.quant != "none" else []
        words += [f"--calibrate {self.calibrate}"] if self.calibrate else []
        words += [f"--train {self.train}"] if self.train else []
        words += [f"--batch {self.batch}"] if self.batch is not None else []
        words += [f"--shape {name}={','.join(map(str, shape))}" for name, shape in self.shapes.items()]
        words += [f"--until {self.until}"] if self.until else []
        words += [f"--loss {self.loss}"] if self.loss != "cross-entropy" else []
        words += [f"--optimizer {self.optimizer}"] if self.optimizer != "sgd" else []
        words += [f"--accumulate {self.accumulate}"] if self.accumulate != 1 else []
        words += ["--atomic"] if self.atomic else []
        words += [f"--batch-norm {self.batch_norm}"] if self.batch_norm != "batch" else []
        words += [f"--save {quote(self.save)}"] if self.save else []
        words += [f"--opt {self.opt}"] if self.opt != "speed" else []
        words += [f"--walk {self.walk}"] if self.walk is not None else []
        words += [f"--profile {self.profile}"] if self.profile else []
        return " ".join([*words, f"--fma {self.fma}"])


def model_command(
    train: str = "none", optimizer: str = "sgd", target: str = "qemu-rv32"
) -> Callable[[Command], Command]:
    """Adds MODEL and the options about models, training and targets; the function gets them as `request`.

    Args:
        train, optimizer, target: defaults of this command.
    """

    def decorate(function: Command) -> Command:
        @wraps(function)
        def run(**values: Any) -> Any:
            values["shapes"] = dict(_parse_shape(text) for text in values["shapes"])
            shared = {name: values.pop(name) for name in Request.__dataclass_fields__}
            return function(Request(**shared), **values)

        options = [
            click.argument("model"),
            click.option("--batch", type=click.IntRange(min=1), help="First dimension of the inputs."),
            click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,32,32", help="Shape of an input."),
            click.option("--until", metavar="NODE", help="Cut the model after this node or tensor."),
            click.option(
                "--quant", default="none", show_default=True, metavar="METHOD",
                help="How layers are quantized: a method with options, like dorefa:w1a2g6, or a .toml file.",
            ),
            click.option(
                "--calibrate", metavar="DATA",
                help="Samples that int8 finds its ranges on; the formats of `edgetrain train --data`.",
            ),
            click.option(
                "--train", default=train, show_default=True, metavar="SCHEME",
                help="What is trained: all, head, last:K, bias, light:K, blocks:K, mobiletl:K, layers:a,b, NAME@RATIO "
                "or none; + joins several.",
            ),
            click.option(
                "--loss", default="cross-entropy", show_default=True,
                help="cross-entropy, soft-cross-entropy, mse or squared-hinge.",
            ),
            click.option(
                "--optimizer", default=optimizer, show_default=True,
                help="sgd or adam, with options: sgd:momentum=0.9,nesterov,weight_decay=1e-4.",
            ),
            click.option(
                "--accumulate", type=click.IntRange(min=1), default=1, show_default=True,
                help="Training calls per update.",
            ),
            click.option("--atomic", is_flag=True, help="Keep all gradients; drop a step with a non-finite one."),
            click.option(
                "--batch-norm", type=click.Choice(["batch", "running"]), default="batch", show_default=True,
                help="Statistics that trained batch normalizations use.",
            ),
            click.option(
                "--save", default="", metavar="[PATTERN=]CODEC,...",
                help="In what form tensors wait for the backward pass: fp16, or /relu*=int8; see docs/memory.md.",
            ),
            click.option(
                "--fma", type=click.Choice(["on", "off", "target"]), default="target", show_default=True,
                help="Whether a multiply-add rounds once.",
            ),
            click.option(
                "--opt", type=click.Choice(["speed", "size"]), default="speed", show_default=True,
                help="Code of few instructions, or of few bytes; the bits are the same.",
            ),
            click.option(
                "--walk", type=click.IntRange(min=0), metavar="N",
                help="Take N samples of the batch at a time through the whole step, with the bits of the whole batch; "
                "0: all. Default: as many as the target's cache has room for.",
            ),
            click.option("--target", default=target, show_default=True, help="A board; see `edgetrain targets`."),
            click.option("--profile", help="A variant of the target's core."),
        ]
        wrapped: Any = run
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorate


class Size(click.ParamType[int]):
    """Bytes, or 64K, 256KiB, 1M."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from codegen.board import parse_size

        size = parse_size(value)
        try:
            return int(size)
        except ValueError:
            where = param.opts[0] if param else None
            raise UserError(f"'{value}' is no size", where=where, hint="like 65536, 64K or 1M") from None


def budget_options(function: Command) -> Command:
    """Adds --ram and --flash."""
    ram = click.option("--ram", type=Size(), metavar="SIZE", help="RAM to stay within, like 64K, with all in it.")
    flash = click.option("--flash", type=Size(), metavar="SIZE", help="Flash to stay within, with the code.")
    return ram(flash(function))


def compiled_within(
    request: Request, board: Board, budget: Budget, compiler: str | None, build: bool = True
) -> Compiled:
    """The model, with as much scratch for the tables of its binary layers as there is memory for.

    Args:
        build: whether a firmware may be built, for what code and link take.
    """
    from toolkit import __version__
    from toolkit.pipeline import compile_model
    from toolkit.report.fitting import firmware_sizes
    from toolkit.report.table_memory import most_tables

    def sizes(program: Program) -> Mapping[str, int] | None:
        built = build and not board.is_host
        return firmware_sizes(program, board, f"edgetrain {__version__}", compiler) if built else None

    return most_tables(request.compiled(), board, budget, sizes, lambda options: compile_model(request.model, options))


def require_fit(
    context: click.Context, compiled: Compiled, board: Board, budget: Budget, compiler: str | None, trains: bool
) -> Memory:
    """The memory account of a program that fits; with a budget its firmware is built, for that has code and link too.

    Args:
        trains: whether the command is of no use without a training step.

    Raises:
        UserError: it does not fit: by how much, the largest causes, and the nearest command that does.
        BackendError: the firmware cannot be built.
    """
    from toolkit import __version__
    from toolkit.report.fitting import check_fits, firmware_sizes

    def command(options: Options) -> str:
        return "" if trains and options.train == "none" else repeated(context, options)

    built = bool(budget) and not board.is_host
    sizes = firmware_sizes(compiled.program, board, f"edgetrain {__version__}", compiler) if built else None
    return check_fits(compiled, board, budget, sizes, command)


def _samples(path: str, input_type: TensorType) -> Array:
    from toolkit.data import load_dataset

    return load_dataset(path, input_type, None).x


def _parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, numbers = text.rpartition("=")
    if not name:
        raise UserError(f"'{text}' names no input", where="--shape", hint="like --shape input=1,3,32,32")
    return name, parse_dimensions(numbers, "--shape")


def parse_dimensions(text: str, where: str) -> tuple[int, ...]:
    """1,28,28 or 1x28x28.

    Raises:
        UserError: it is neither.
    """
    try:
        shape = tuple(int(number) for number in text.replace("x", ",").split(","))
    except ValueError:
        raise UserError(f"'{text}' is no shape", where=where, hint="numbers with commas between: 1,28,28") from None
    if min(shape) < 1:
        raise UserError(f"'{text}' has a dimension below 1", where=where)
    return shape


def examples(*lines: str) -> str:
    """The end of a help page: commands that work as they stand."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
