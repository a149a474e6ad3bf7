"""`edgetrain data`: samples to try the other commands with."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli.options import examples, json_option
from toolkit.cli.output import check_folder, result, written_at_once

_HELD = 0.2


@click.command(epilog=examples("edgetrain data digits -o digits"))
@click.argument("name", type=click.Choice(["digits"]))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder; new or empty.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the split.")
@json_option
def command(name: str, output: Path, seed: int, as_json: bool) -> None:
    """Write handwritten digits as files: 1,797 images of 8x8 pixels, which come with scikit-learn.

    train.npz and test.npz, a fifth of them; turned.npz and turned-test.npz are the same images turned by 90 degrees, as
    from a camera that was mounted the wrong way: something to learn on a board.
    """
    import numpy as np

    from toolkit.data.digits import load_digits, turned

    check_folder(output, force=False)
    training, test = load_digits().split(_HELD, seed)
    parts = {"train": training, "test": test, "turned": turned(training), "turned-test": turned(test)}
    with written_at_once(output) as place:
        for part, data in parts.items():
            np.savez_compressed(place / f"{part}.npz", x=data.x, y=data.y)
    samples = {part: len(data) for part, data in parts.items()}
    text = "\n".join(f"{output / part}.npz: {count:,} samples" for part, count in samples.items())
    result(as_json, {"data": name, "output": str(output), "samples": samples}, text)
