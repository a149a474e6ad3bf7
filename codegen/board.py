"""Boards: target.toml, read and validated. Every budget, compiler flag and linker script comes from this file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

from codegen.errors import BackendError
from codegen.resources import folder

Use = Literal["text", "rodata", "data", "weights", "arena", "stack", "store"]
_WRITTEN: tuple[Use, ...] = ("data", "weights", "arena", "stack")
# Every answer of fixed size fits the one (ET_DEVICE_LEAST_PAYLOAD in et_device.h); a length field holds the other.
_LEAST_FRAME, _LARGEST_FRAME = 192, 65535
# ET_STORE_LARGEST_WRITE, and the block that et_store.c reads.
_WRITE_BYTES, _READ_BYTES = tuple(1 << bit for bit in range(9)), 64
_UNITS = {"": 1, "B": 1, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3, "K": 1024, "M": 1024**2, "G": 1024**3}
_ISA = re.compile(r"native|rv(32|64)[ie][a-z]*(_[a-z][a-z0-9]*)*")


def parse_size(value: Any) -> Any:
    """Bytes from 327680 or "320KiB"; anything else is handed on for the validator to refuse."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]*)\s*", value)
        if match and match[2].upper() in _UNITS:
            return int(match[1]) * _UNITS[match[2].upper()]
    return value


class _SizeText:
    """Tells pydantic to read sizes with `parse_size`, by its protocol: it is imported only where boards are loaded."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(parse_size, handler(source))


Size = Annotated[int, _SizeText()]


class _Strict:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


@dataclass(frozen=True)
class MemoryRegion(_Strict):
    """A memory of the chip.

    Attributes:
        attr: as in a linker script: r, w and x.
        use: "text" is code and constants (frozen weights among them), "rodata" the constants where the core reads them
            through another region than code, "data" small variables, "weights" trained weights and optimizer states,
            "arena" and "stack" what they say, "store" flash that keeps states. The first region that names a use gets
            it. Text in a region with w is put there by a loader, and variables with it; from any other, start-up code
            copies variables.
        page_bytes, write_bytes: of a store: what is erased and what is programmed at once.
        same_as: the region whose bytes this one shows at other addresses.
    """

    name: str
    origin: int
    size: Size
    attr: str = "rwx"
    use: tuple[Use, ...] = ("text", "data", "weights", "arena", "stack")
    same_as: str | None = None
    page_bytes: Size | None = None
    write_bytes: Size | None = None

    @property
    def slot_bytes(self) -> int:
        """The largest state that a store keeps: two slots, each with a page for its header (et_store.h)."""
        page = self.page_bytes or self.size
        return max(self.size // page // 2 - 1, 0) * page


@dataclass(frozen=True)
class BoardFacts(_Strict):
    """Who makes it, and what its firmware consists of.

    Attributes:
        stack_bytes: reserved at the top of the stack's memory.
        sources: files of the board's own folder or of targets/common.
        note: what a user has to know before flashing.
    """

    id: str
    name: str
    vendor: str
    url: str
    stack_bytes: Size = 4096
    sources: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Cpu(_Strict):
    """The core.

    Attributes:
        f_hz: the clock that start-up code sets.
        fma: derived from the ISA where absent: a core with F has a fused multiply-add.
        harts: cores that run from reset; all but number 0 are put to sleep.
        core: the table of its cycles in targets/cores; None where none is known.
        cache: bytes of a core's own cache; None where all memory is as fast.
    """

    isa: str
    abi: str
    f_hz: int | None = None
    fma: bool | None = None
    harts: int = 1
    core: str | None = None
    cache: Size | None = None


@dataclass(frozen=True)
class LinkFacts(_Strict):
    """The cable.

    Attributes:
        frame_bytes: the largest payload that the board takes in one frame.
        codes: samples may travel as bytes, for which the firmware keeps a table of 1 KiB in RAM.
        uart: address of the serial port's registers, where the driver serves more than one.
        uart_hz: clock of the serial port, where it is not the core's.
    """

    transport: str = "uart"
    baud: int = 115200
    frame_bytes: Size = 1024
    codes: bool = True
    uart: int | None = None
    uart_hz: int | None = None


@dataclass(frozen=True)
class RunFacts(_Strict):
    """The emulator that runs it, with its machine and CPU.

    Attributes:
        cpu: the emulator's own spelling, where it does not follow from the ISA.
        semihosting: the firmware ends through semihosting.
        memory_backend: the emulator can keep the RAM in a file that the PC reads directly.
        spike: the firmware also runs on the Spike simulator.
    """

    emulator: str | None = None
    machine: str | None = None
    cpu: str | None = None
    semihosting: bool = False
    memory_backend: bool = False
    spike: bool = False


@dataclass(frozen=True)
class FlashFacts(_Strict):
    """How a firmware gets onto the board.

    Attributes:
        tool: the program that does it, as it is called on the PATH.
        image: what it takes: the ELF file as linked, a flat binary from the lowest load address, or UF2.
        commands: its arguments, one list per call; {image}, {elf} and {folder} are filled in, and {port} if given.
        install: the command that installs the tool.
        family: of the UF2 file.
    """

    tool: str
    commands: tuple[tuple[str, ...], ...]
    install: str
    image: Literal["elf", "bin", "uf2"] = "elf"
    family: int | None = None


@dataclass(frozen=True)
class PlatformIo(_Strict):
    """What PlatformIO calls the board: the values of its platformio.ini."""

    platform: str
    board: str | None = None
    framework: str | None = None


@dataclass(frozen=True)
class EspIdf(_Strict):
    """What ESP-IDF calls the chip, and the clock that it sets."""

    target: str
    cpu_mhz: int


@dataclass(frozen=True)
class Toolchain(_Strict):
    """Compilers that may build for it, best first, and flags beyond those of the ISA."""

    compilers: tuple[Literal["zig", "gcc", "clang"], ...] = ("zig", "gcc", "clang")
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile(_Strict):
    """A variant of the core: what replaces the values of [cpu], [run] and [toolchain]."""

    isa: str
    abi: str
    cpu: str | None = None
    compilers: tuple[Literal["zig", "gcc", "clang"], ...] | None = None


@dataclass(frozen=True)
class Board(_Strict):
    """One target: the tables of its target.toml, and the folder that it lies in."""

    board: BoardFacts
    cpu: Cpu
    memory: tuple[MemoryRegion, ...] = ()
    link: LinkFacts = LinkFacts()
    run: RunFacts | None = None
    flash: FlashFacts | None = None
    platformio: PlatformIo | None = None
    esp_idf: EspIdf | None = None
    toolchain: Toolchain = Toolchain()
    profiles: dict[str, Profile] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def id(self) -> str:
        """The name that --target takes."""
        return self.board.id

    @property
    def is_host(self) -> bool:
        """Whether code for it runs on this PC as it is."""
        return self.cpu.isa == "native"

    @property
    def loads_in_place(self) -> bool:
        """Whether a loader puts code and variables into RAM, so that start-up code copies nothing."""
        return "w" in self.region("text").attr

    @property
    def store(self) -> MemoryRegion | None:
        """The part of a flash that keeps states, if the board names one."""
        return next((region for region in self.memory if "store" in region.use), None)

    @property
    def fma(self) -> bool:
        """Whether the core has a fused multiply-add for float32: a constant of every Program made for it."""
        return self.cpu.fma if self.cpu.fma is not None else "f" in extensions(self.cpu.isa)

    def with_profile(self, name: str | None) -> Board:
        """The board with a profile's core; the board itself for None.

        Raises:
            BackendError: there is no such profile.
        """
        if name is None:
            return self
        if name not in self.profiles:
            known = ", ".join(self.profiles) or "none"
            raise BackendError(f"{self.id} has no profile '{name}'", where="--profile", hint=f"it has: {known}")
        profile = self.profiles[name]
        cpu = replace(self.cpu, isa=profile.isa, abi=profile.abi, fma=None)
        run = replace(self.run, cpu=profile.cpu) if self.run else None
        compilers = profile.compilers or self.toolchain.compilers
        return replace(self, cpu=cpu, run=run, toolchain=replace(self.toolchain, compilers=compilers))

    def region(self, use: Use) -> MemoryRegion:
        """The memory for code, weights, ... Constants lie with the code unless a region is named for them.

        Raises:
            BackendError: target.toml names none.
        """
        for region in self.memory:
            if use in region.use:
                return region
        if use == "rodata":
            return self.region("text")
        raise BackendError(f"no memory for {use}", where=str(self.folder / "target.toml"))


def extensions(isa: str) -> tuple[str, ...]:
    """The extensions of an ISA string: rv32imafc_zba -> i, m, a, f, c, zba."""
    base, *named = isa.split("_")
    letters = re.sub(r"^rv(32|64)", "", base).replace("g", "imafd") if base != "native" else ""
    return (*letters, *named)


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
            known = f"known are {', '.join(list_boards())}; or give the path of a target.toml"
            hint = f"did you mean {near[0]}? {known}" if near else known
            raise BackendError(f"unknown target '{name_or_path}'", where="--target", hint=hint)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BackendError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BackendError(f"is not TOML: {error}", where=str(path)) from None
    return _checked(_validated(data, path), path)


def list_boards() -> list[str]:
    """The boards that come with edgetrain."""
    return sorted(p.parent.name for p in folder("targets").glob("*/target.toml"))


def _validated(data: dict[str, Any], path: Path) -> Board:
    from pydantic import TypeAdapter, ValidationError

    if "folder" in data:
        raise BackendError("unknown key folder", where=str(path))
    try:
        board = TypeAdapter(Board).validate_python(data)
    except ValidationError as error:
        # A misspelt key also leaves the right one missing: the misspelling is what to show.
        faults = sorted(error.errors(), key=lambda fault: fault["type"] != "unexpected_keyword_argument")
        place = ".".join(str(part) for part in faults[0]["loc"])
        if faults[0]["type"] != "unexpected_keyword_argument":
            raise BackendError(f"{place}: {faults[0]['msg']}", where=str(path)) from None
        known = _keys_at(faults[0]["loc"][:-1])
        near = get_close_matches(str(faults[0]["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
        raise BackendError(f"unknown key {place}", where=str(path), hint=hint) from None
    return replace(board, folder=path.parent)


def _checked(board: Board, path: Path) -> Board:
    """What types cannot say."""
    for isa in (board.cpu.isa, *(profile.isa for profile in board.profiles.values())):
        if not _ISA.fullmatch(isa):
            raise BackendError(f"'{isa}' is no ISA", where=str(path), hint="like rv32imafc_zba, or native")
    if not board.is_host:
        _check_memories(board, path)
    if not _LEAST_FRAME <= board.link.frame_bytes <= _LARGEST_FRAME:
        where = f"{path}: link.frame_bytes"
        raise BackendError(f"{board.link.frame_bytes} is not in {_LEAST_FRAME}..{_LARGEST_FRAME}", where=where)
    if board.flash and board.flash.image == "uf2" and board.flash.family is None:
        raise BackendError("a UF2 image needs a family", where=f"{path}: flash", hint="family = 0xe48bff5a")
    return board


def _check_memories(board: Board, path: Path) -> None:
    regions = {region.name: region for region in board.memory}
    if len(regions) != len(board.memory):
        raise BackendError("two memories have the same name", where=str(path))
    for use in _WRITTEN:
        if "w" not in board.region(use).attr:
            raise BackendError(f"{use} is in {board.region(use).name}, which is not writable", where=str(path))
    text, rodata = board.region("text"), board.region("rodata")
    if rodata.name not in (text.name, text.same_as) and rodata.same_as != text.name:
        raise BackendError(
            f"rodata is in {rodata.name}, text in {text.name}", where=str(path),
            hint=f'one memory, or two views of it: same_as = "{text.name}"',
        )  # fmt: skip
    for region in board.memory:
        other = regions.get(region.same_as or "")
        if region.same_as and (other is None or other.size != region.size):
            raise BackendError(f"{region.name} is not the same as {region.same_as}", where=str(path),
                               hint="same_as names a memory of the same size")
        if ("store" in region.use) != (region.page_bytes is not None and region.write_bytes is not None):
            raise BackendError(f"{region.name}: a store, and only a store, has page_bytes and write_bytes",
                               where=str(path), hint="what the flash erases and programs at once, like 4096 and 256")
        _check_store(region, path)
    ordered = sorted(board.memory, key=lambda region: region.origin)
    for first, second in pairwise(ordered):
        if first.origin + first.size > second.origin:
            raise BackendError(f"{first.name} and {second.name} overlap", where=str(path))


def _check_store(region: MemoryRegion, path: Path) -> None:
    """What et_store.c would refuse."""
    page, unit = region.page_bytes, region.write_bytes
    if page is None or unit is None:
        return
    if unit not in _WRITE_BYTES or page == 0 or page % unit or page % _READ_BYTES or region.size < 4 * page:
        raise BackendError(
            f"{region.name} cannot keep states", where=str(path),
            hint=f"write_bytes: a power of 2 up to {_WRITE_BYTES[-1]}; page_bytes: a multiple of it and of"
            f" {_READ_BYTES}; four pages at least",
        )  # fmt: skip


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that a table of target.toml may have."""
    kind: Any = Board
    for part in location:
        if is_dataclass(kind):
            kind = get_type_hints(kind).get(str(part), kind)
        kinds = [k for k in (kind, *_arguments(kind)) if is_dataclass(k)]
        kind = kinds[0] if kinds else kind
    return [f.name for f in fields(kind) if f.name != "folder"] if is_dataclass(kind) else []


def _arguments(kind: Any) -> list[Any]:
    found = []
    for argument in getattr(kind, "__args__", ()):
        found += [argument, *_arguments(argument)]
    return found
