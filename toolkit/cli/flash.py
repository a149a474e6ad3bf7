"""`edgetrain flash`: a built firmware onto its board, by the board's own tool."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click

from toolkit.cli.options import examples, json_option
from toolkit.cli.output import file_at_once, note, result
from toolkit.errors import UserError

# Where make, cmake and build_firmware leave it.
_BUILT = ("build/firmware.elf", "firmware.elf")


@click.command(
    epilog=examples("edgetrain flash lenet-firmware --port /dev/ttyUSB0", "edgetrain flash lenet-firmware --dry-run")
)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--port", help="The serial port, for tools that flash through one.")
@click.option("--dry-run", is_flag=True, help="Write the image and show the commands; start no tool.")
@json_option
def command(folder: Path, port: str | None, dry_run: bool, as_json: bool) -> None:
    """Put the firmware in FOLDER, written by `edgetrain compile` and built, onto its board."""
    facts = _facts(folder)
    flash = facts["flash"]
    if flash is None:
        hint = "it runs on this PC or in an emulator"
        raise UserError(f"{facts['target']} is not flashed", where=str(folder), hint=hint)
    elf = _firmware(folder)
    commands = _commands(flash, elf, port)
    tool = shutil.which(flash["tool"])
    if tool is None and not dry_run:
        raise UserError(f"{flash['tool']} is not installed", where=facts["target"], hint=flash["install"])
    written = _write_image(elf, flash)
    for line in commands if not dry_run else ():
        note(" ".join((flash["tool"], *line)))
        code = _run(str(tool), line)
        if code:
            raise UserError(f"{flash['tool']} ended with {code}", where=facts["target"], hint="what it said is above")
    shown = [" ".join((flash["tool"], *line)) for line in commands]
    data = {
        "target": facts["target"], "image": str(_image_path(elf, flash)), "bytes": written, "commands": shown,
        "flashed": not dry_run,
    }  # fmt: skip
    done = "would run" if dry_run else "ran"
    text = [f"{data['image']}: {written:,} B for {facts['target']}", *(f"  {done}: {line}" for line in shown)]
    result(as_json, data, "\n".join(text))


def _facts(folder: Path) -> dict[str, Any]:
    """What `compile` noted of the board."""
    try:
        facts: dict[str, Any] = json.loads((folder / "target.json").read_text(encoding="utf-8"))
        return {"target": facts["target"], "flash": facts["flash"]}
    except OSError:
        hint = "edgetrain compile MODEL --target BOARD -o FOLDER writes one"
        raise UserError("is no folder of a firmware: it has no target.json", where=str(folder), hint=hint) from None
    except (ValueError, KeyError, TypeError):
        raise UserError("is damaged", where=str(folder / "target.json"), hint="compile again with --force") from None


def _firmware(folder: Path) -> Path:
    for name in _BUILT:
        if (folder / name).is_file():
            return folder / name
    raise UserError("is not built yet", where=str(folder), hint=f"make -C {folder}")


def _image_path(elf: Path, flash: dict[str, Any]) -> Path:
    return elf.with_suffix(f".{flash['image']}")


def _write_image(elf: Path, flash: dict[str, Any]) -> int:
    """Makes what the tool takes; its size in bytes."""
    from codegen.images import flat_binary, uf2

    if flash["image"] != "elf":
        address, content = flat_binary(elf)
        if flash["image"] == "uf2":
            content = uf2(address, content, flash["family"])
        with file_at_once(_image_path(elf, flash)) as part:
            part.write_bytes(content)
    return _image_path(elf, flash).stat().st_size


def _run(tool: str, arguments: list[str]) -> int:
    """The tool's exit code. What it says, progress bars too, goes to stderr as it comes: stdout is ours."""
    with subprocess.Popen([tool, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert isinstance(process.stdout, io.BufferedReader)
        while said := process.stdout.read1():
            click.echo(said, nl=False, err=True)
    return process.returncode


def _commands(flash: dict[str, Any], elf: Path, port: str | None) -> list[list[str]]:
    """The arguments of each call."""
    needs_port = any("{port}" in word for line in flash["commands"] for word in line)
    if needs_port and port is None:
        raise UserError(f"{flash['tool']} needs a port", where="--port", hint="like --port /dev/ttyUSB0")
    values = {
        "elf": str(elf), "folder": str(elf.parent), "image": str(_image_path(elf, flash)), "port": port or ""
    }  # fmt: skip
    lines = []
    for line in flash["commands"]:
        for name, value in values.items():
            line = [word.replace(f"{{{name}}}", value) for word in line]
        lines.append(list(line))
    return lines
