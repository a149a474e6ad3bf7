"""The house: who may import whom, and what the back end may not know."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up. A package may import those on its own floor's list and below.
FLOORS = [
    {"toolkit.errors", "codegen", "runtime_c", "targets"},
    {"toolkit.ir"},
    {"toolkit.numerics"},
    {"toolkit.ops"},
    {"toolkit.lower", "toolkit.walk"},
    {"toolkit.train"},
    {"toolkit.quant"},
    {"toolkit.frontend", "toolkit.zoo"},
    {"toolkit.pipeline"},
    {"toolkit.link"},
    {"toolkit.data", "toolkit.sim"},
    {"toolkit.fit", "toolkit.report"},
    {"toolkit.bench"},
    {"toolkit.cli"},
]


def _package(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] in ("codegen", "runtime_c", "targets"):
        return parts[0]
    return ".".join(parts[:2]) if parts[0] == "toolkit" and len(parts) > 1 else None


def _floor(package: str) -> int:
    for number, packages in enumerate(FLOORS):
        if package in packages:
            return number
    raise AssertionError(f"{package} has no floor: add it to FLOORS")


def _imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def _sources() -> list[Path]:
    return sorted(p for top in ("toolkit", "codegen") for p in (ROOT / top).rglob("*.py"))


def test_no_file_imports_from_a_floor_above() -> None:
    wrong = []
    for path in _sources():
        own = _package(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if own is None:
            continue
        for module in _imports(path):
            other = _package(module)
            if other and other in {p for floor in FLOORS for p in floor} and _floor(other) > _floor(own):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_codegen_never_imports_toolkit() -> None:
    wrong = [p.name for p in (ROOT / "codegen").rglob("*.py") for m in _imports(p) if m.split(".")[0] == "toolkit"]
    assert not wrong


def test_only_frontend_and_zoo_import_onnx() -> None:
    allowed = ("toolkit/frontend", "toolkit/zoo")
    wrong = [
        str(p.relative_to(ROOT))
        for p in _sources()
        if not str(p.relative_to(ROOT)).startswith(allowed)
        and any(m.split(".")[0] in ("onnx", "onnxruntime") for m in _imports(p))
    ]
    assert not wrong


def test_the_back_end_knows_no_op_by_name() -> None:
    from toolkit.ops.base import all_ops

    # Names that are also English words of this code are looked for as quoted strings and identifiers only.
    names = sorted({cls.__name__ for cls in all_ops()} | {name for cls in all_ops() for name in cls.onnx})
    pattern = re.compile(r"\b(" + "|".join(names) + r")\b")
    wrong = []
    for path in (ROOT / "codegen").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            text = node.id if isinstance(node, ast.Name) else getattr(node, "value", None)
            if isinstance(text, str) and "\n" not in text and pattern.fullmatch(text):
                wrong.append(f"{path.name}: {text}")
    assert not wrong


def test_every_op_has_a_gradient_or_says_why_not() -> None:
    from toolkit.ops.base import Op, all_ops

    silent = [cls.__name__ for cls in all_ops() if cls.gradient is Op.gradient and not cls.no_gradient]
    assert not silent


def test_every_op_states_what_it_computes() -> None:
    from toolkit.ops.base import all_ops

    assert not [cls.__name__ for cls in all_ops() if not cls.__doc__]


@pytest.mark.parametrize("suffix", [".py", ".c", ".h", ".j2"])
def test_files_stay_small(suffix: str) -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines}"
        for top in ("toolkit", "codegen", "runtime_c", "targets", "tests")
        for path in (ROOT / top).rglob(f"*{suffix}")
        if (lines := len(path.read_text().splitlines())) > 560
    ]
    assert not long
