"""Plain text tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns with two spaces between; numbers to the right, with thousands apart."""
    cells = [list(header), *([_text(value) for value in row] for row in rows)]
    columns = range(len(header))
    widths = [max(len(row[i]) for row in cells) for i in columns]
    right = [bool(rows) and all(row[i] is None or isinstance(row[i], int | float) for row in rows) for i in columns]
    lines = []
    for row in cells:
        parts = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
