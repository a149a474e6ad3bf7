"""`edgetrain doctor`: what is installed, and the one command that installs what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import click

from toolkit.cli.options import examples, json_option
from toolkit.cli.output import result

# Distribution -> what it is for; None where everything needs it.
_PACKAGES: dict[str, str | None] = {
    "numpy": None, "jinja2": None, "onnx": None, "pyserial": None, "cffi": None, "cobs": None, "click": None,
    "rich": None, "pydantic": None,
    "ziglang": "compiles for RISC-V and for this PC without a package of the system",
    "pyelftools": "sizes of a firmware",
    "matplotlib": "plan --plot",
    "pillow": "data in folders of images",
    "scikit-learn": "demo",
    "torch": "tests of gradients against PyTorch",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        found: version or path; None where it is missing.
        purpose: what does not work without it.
        install: the command that installs it.
        required: nothing works without it.
    """

    kind: str
    name: str
    found: str | None
    purpose: str
    install: str
    required: bool


@click.command(epilog=examples("edgetrain doctor"))
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Look for packages, compilers and the emulator; exits with 1 if something is missing that everything needs."""
    from toolkit.report.tables import table

    findings = [*_python(), *_packages(), *_compilers(), *_emulators()]
    rows = [(f.kind, f.name, f.found or "missing", f.purpose) for f in findings]
    missing = [f for f in findings if f.found is None]
    lines = [table(("", "name", "found", "for"), rows)]
    lines += ["", "To install what is missing:"] if missing else ["", "Nothing is missing."]
    lines += [f"  {command}" for command in dict.fromkeys(f.install for f in missing)]
    result(as_json, {"findings": [asdict(f) for f in findings], "ok": not _broken(findings)}, "\n".join(lines))
    if _broken(findings):
        context.exit(1)


def _broken(findings: list[Finding]) -> bool:
    return any(f.required and f.found is None for f in findings)


def _python() -> list[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    return [Finding("python", "python", found, "everything", "apt-get install python3", True)]


def _packages() -> list[Finding]:
    findings = []
    for name, purpose in _PACKAGES.items():
        try:
            found: str | None = version(name)
        except PackageNotFoundError:
            found = None
        install = f"{sys.executable} -m pip install {name}"
        findings.append(Finding("package", name, found, purpose or "everything", install, purpose is None))
    return findings


def _compilers() -> list[Finding]:
    from codegen.compilers import find_host_compilers, find_riscv_compilers

    host = [" ".join(compiler.command) for compiler in find_host_compilers()]
    riscv = [" ".join(compiler.command) for compiler in find_riscv_compilers()]
    pip = f"{sys.executable} -m pip install ziglang pyelftools"
    return [
        Finding("compiler", "for this PC", " · ".join(host) or None, "train, verify", "apt-get install gcc", True),
        Finding("compiler", "for RISC-V", " · ".join(riscv) or None, "firmware", pip, False),
    ]


def _emulators() -> list[Finding]:
    from toolkit.sim.spike import spike_command

    command, spike = "qemu-system-riscv32", spike_command()
    found = None
    if shutil.which(command):
        said = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout
        found = said.splitlines()[0].strip() if said else "does not start"
    install = "apt-get install --no-install-recommends qemu-system-misc"
    if found is None and spike:
        found = f"{spike} is used instead"
    return [Finding("emulator", command, found, "--on qemu-rv32", install, False)]
