"""`edgetrain monitor`: what a board measures of itself, as it goes on."""

from __future__ import annotations

import time
from itertools import repeat

import click

from toolkit.cli.options import examples, json_option
from toolkit.cli.output import note, result
from toolkit.errors import UserError


@click.command(
    epilog=examples(
        "edgetrain monitor --port /dev/ttyUSB0",
        "edgetrain monitor --port socket://localhost:5000 --every 0.2 --count 10 --json",
    )
)
@click.option("--port", required=True, help="A board with firmware of edgetrain, or a URL of pyserial.")
@click.option("--baud", type=click.IntRange(min=1), default=115200, show_default=True)
@click.option("--every", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Seconds between two rows.")
@click.option("--count", type=click.IntRange(min=1), help="Rows; without it until Ctrl-C.")
@json_option
def command(port: str, baud: int, every: float, count: int | None, as_json: bool) -> None:
    """Show STATS of a board, live: its step, and instructions, stack and arena. It changes nothing on the board."""
    from toolkit.link.session import Session

    if as_json and count is None:
        raise UserError("needs --count, for it is one object", where="--json")
    rows: list[dict[str, float | int]] = []
    with Session.open(port, baud) as session:
        board = session.board
        note(f"{board.name}, sha256 {board.sha256.hex()[:8]}..., on {port}")
        if not as_json:
            click.echo(f"{'seconds':>8} {'step':>8} {'rate':>10} {'instructions':>14} {'stack':>8} {'arena':>9}")
        start = time.monotonic()
        try:
            for number in repeat(0) if count is None else range(count):
                if number or rows:
                    time.sleep(every)
                stats, scalars = session.stats(), session.scalars()
                row = {
                    "seconds": round(time.monotonic() - start, 3),
                    "step": scalars.step,
                    "learning_rate": scalars.learning_rate,
                    "instructions": stats.instructions,
                    "stack_bytes": stats.stack_bytes,
                    "arena_bytes": stats.arena_bytes,
                }
                rows = [*(rows if as_json else []), row]
                if not as_json:
                    click.echo(
                        f"{row['seconds']:8.1f} {row['step']:8,} {row['learning_rate']:10.3g} "
                        f"{row['instructions']:14,} {row['stack_bytes']:8,} {row['arena_bytes']:9,}"
                    )
        except KeyboardInterrupt:
            note("stopped; the board runs on")
    if as_json:
        result(True, {"name": board.name, "port": port, "rows": rows}, "")
