"""Boards: target.toml, read and validated. Memory budgets, ISA flags and linker scripts come from this file."""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from codegen.errors import BackendError
from codegen.resources import folder

_UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def parse_size(value: Any) -> Any:
    """Bytes from 327680 or "320KiB"; anything else is left for the validator to refuse."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+)\s*([KMG]?i?B?)\s*", value)
        unit = {"K": "KiB", "M": "MiB", "G": "GiB"}.get(match[2], match[2]) if match else ""
        if match and unit in _UNITS:
            return int(match[1]) * _UNITS[unit]
    return value


Size = Annotated[int, BeforeValidator(parse_size)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MemoryRegion(_Strict):
    """A memory of the chip.

    Attributes:
        use: "text" holds code and constants, "data" what is written (weights, arena, stack).
    """

    name: str
    origin: int
    size: Size
    attr: str = "rwx"
    use: tuple[Literal["text", "data"], ...] = ("text", "data")


class BoardFacts(_Strict):
    """Who makes it, and what its firmware is linked with.

    Attributes:
        stack_bytes: reserved at the top of the data memory.
        sources: files of the board's own folder or of targets/common.
    """

    id: str
    name: str
    vendor: str
    url: str
    stack_bytes: Size = 4096
    sources: tuple[str, ...] = ()


class Cpu(_Strict):
    """The core. `fma` is derived from the ISA where absent: a core with F has a fused multiply-add."""

    isa: str
    abi: str
    f_hz: int | None = None
    fma: bool | None = None


class Link(_Strict):
    """The cable. `frame_bytes` is the largest payload that the board takes."""

    transport: str = "uart"
    baud: int = 115200
    frame_bytes: int = 1024


class RunFacts(_Strict):
    """How it is run here: an emulator's machine and CPU, or the tool that flashes the board."""

    emulator: str | None = None
    machine: str | None = None
    cpu: str | None = None
    semihosting: bool = False
    spike: bool = False
    flash: str | None = None


class Profile(_Strict):
    """A variant of the core: what replaces the values of [cpu] and [run]."""

    isa: str
    abi: str
    cpu: str | None = None


class Toolchain(_Strict):
    """Compilers that may build for it, best first, and flags beyond those of the ISA."""

    compilers: tuple[str, ...] = ("gcc", "zig")
    flags: tuple[str, ...] = ()


class Board(_Strict):
    """One target."""

    board: BoardFacts
    cpu: Cpu
    memory: tuple[MemoryRegion, ...] = ()
    link: Link = Link()
    run: RunFacts | None = None
    toolchain: Toolchain = Toolchain()
    profiles: dict[str, Profile] = {}
    folder: Path = Path()

    @property
    def id(self) -> str:
        """The name that --target takes."""
        return self.board.id

    @property
    def is_host(self) -> bool:
        """Whether code for it runs on this PC as it is."""
        return self.cpu.isa == "native"

    def with_profile(self, name: str | None) -> Board:
        """The board with a profile's ISA; the board itself for None.

        Raises:
            BackendError: there is no such profile.
        """
        if name is None:
            return self
        if name not in self.profiles:
            known = ", ".join(self.profiles) or "none"
            raise BackendError(f"{self.id} has no profile '{name}'", where="--profile", hint=f"it has: {known}")
        profile = self.profiles[name]
        cpu = self.cpu.model_copy(update={"isa": profile.isa, "abi": profile.abi, "fma": None})
        run = self.run.model_copy(update={"cpu": profile.cpu or self.run.cpu}) if self.run else None
        return self.model_copy(update={"cpu": cpu, "run": run})

    @property
    def fma(self) -> bool:
        """Whether the core has a fused multiply-add for float32: a constant of every Program made for it."""
        return self.cpu.fma if self.cpu.fma is not None else "f" in base_letters(self.cpu.isa)

    def region(self, use: Literal["text", "data"]) -> MemoryRegion:
        """The memory for code, or for data.

        Raises:
            BackendError: target.toml names none.
        """
        for region in self.memory:
            if use in region.use:
                return region
        raise BackendError(f"{self.id} has no memory for {use}", where="target.toml, [[memory]]")


def base_letters(isa: str) -> str:
    """The single-letter extensions of an ISA string: rv32imafc_zba -> imafc."""
    return re.sub(r"^rv(32|64)", "", isa.split("_")[0])


@cache
def load_board(name_or_path: str) -> Board:
    """A board by name, or by the path of a target.toml or of its folder.

    Raises:
        BackendError: unknown, unreadable or invalid; the hint names the nearest.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or (path / "target.toml").is_file():
        path = path if path.suffix == ".toml" else path / "target.toml"
    else:
        path = folder("targets") / name_or_path / "target.toml"
        if not path.is_file():
            near = get_close_matches(name_or_path, list_boards(), n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(list_boards())}, or a target.toml"
            raise BackendError(f"unknown target '{name_or_path}'", where="--target", hint=hint)
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise BackendError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise BackendError(f"is not TOML: {error}", where=str(path)) from None
    try:
        return Board.model_validate({**data, "folder": path.parent})
    except ValidationError as error:
        raise _explained(error, path) from None


def list_boards() -> list[str]:
    """The boards that come with edgetrain."""
    return sorted(p.parent.name for p in folder("targets").glob("*/target.toml"))


def _explained(error: ValidationError, path: Path) -> BackendError:
    """The first fault of a target.toml, with the nearest key for one that is not known."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return BackendError(f"{place}: {first['msg']}", where=str(path))
    known = _fields_at(tuple(first["loc"])[:-1])
    near = get_close_matches(str(first["loc"][-1]), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
    return BackendError(f"unknown key {place}", where=str(path), hint=hint)


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "board": BoardFacts, "cpu": Cpu, "memory": MemoryRegion, "link": Link, "run": RunFacts,
        "toolchain": Toolchain, "profiles": Profile,
    }
    model = models.get(str(location[0]), Board) if location else Board
    return [name for name in model.model_fields if name != "folder"]
