"""The bit-plane form of a convolution of small codes with packed signs: how its data lie, and what it costs.

The fields are those of et_planes_shape (runtime_c/et_conv_planes_i8.h). The instructions are fitted to counts in the
emulator, of gcc and zig with -O2; what follows on the sums is left out.
"""

from __future__ import annotations

from toolkit.ops.geometry import ConvGeometry

MOST_PLANES = 4
LEAST_FILTER_BYTES = 4  # else the words of a filter would reach out of the array
BLOCK = 4  # pixels whose sums wait together
WORD = 32  # bits

PACK = 57.0  # per word of codes of one or two bits
PACK_SOME = 212.0  # per word of two bits of other codes, and of what is less than a word
PIXEL = 300.0  # per output pixel
GATHER = 6.0  # per unit of a plane
MOVE = 9.0  # per word of a plane, for filters that begin in another byte
CALL = 118.0  # per pass
OUTPUT = 6.0  # per sum, however many passes make it
# A pass is of so many words of one plane, or of two, and costs so much per filter.
COUNTED = {words: (11.0 + 4 * words, 13.0 + 7 * words) for words in (8, 5, 4, 2, 1)}
ADDED = {5: (62.0, 115.0), 3: (45.0, 79.0), 1: (27.0, 38.0)}
ADDED_ALL = (24.0, 40.0)  # once for all filters of a pass, per word
ADDED_LONG, ADDED_EIGHT = (37.0, 87.0), (81.0, 141.0)  # of any number of eights, and more for each of them


def planes_of(largest_x: int) -> int:
    """Planes of codes 0 ... largest_x."""
    return max(largest_x, 1).bit_length()


def planes_refusal(geometry: ConvGeometry, largest_x: int, unsigned: bool) -> str:
    """Why bit planes do not run the layer; empty where they do."""
    if not unsigned:
        return "codes may be negative"
    if planes_of(largest_x) > MOST_PLANES:
        return f"codes of {planes_of(largest_x)} bits"
    if _filter_bytes(geometry) < LEAST_FILTER_BYTES:
        return f"filters of {_filter_bytes(geometry)} bytes"
    return ""


def planes_shape(geometry: ConvGeometry, planes: int) -> dict[str, int]:
    """The fields, in order."""
    tap = _tap_bytes(geometry)
    joined = geometry.channels % 8 == 0  # bits of neighbouring pixels lie side by side
    line = (geometry.pad_left + geometry.width + geometry.pad_right) * tap
    plane = _words((geometry.pad_top + geometry.height + geometry.pad_bottom) * line) * 4
    block = min(BLOCK, _pixels(geometry) // geometry.batch)
    together = geometry.dilation_w == 1
    words = _spanned_words(geometry)
    return {
        "batch": geometry.batch, "planes": planes,
        "image": geometry.height * geometry.width * geometry.channels, "out_channels": geometry.out_channels,
        "out_height": geometry.out_height, "out_width": geometry.out_width,
        "block": block, "block_sums": block * geometry.out_channels,
        "rows": geometry.height, "runs": 1 if joined else geometry.width,
        "run_codes": geometry.channels * (geometry.width if joined else 1), "run_bytes": tap,
        "first": geometry.pad_top * line + geometry.pad_left * tap, "line": line,
        "plane": plane, "all_planes": planes * plane,
        "padded": int(any((geometry.pad_top, geometry.pad_left, geometry.pad_bottom, geometry.pad_right))),
        "step_h": geometry.stride_h * line, "step_w": geometry.stride_w * tap,
        "taps_h": geometry.kernel_h, "taps_w": 1 if together else geometry.kernel_w,
        "tap_row": geometry.dilation_h * line, "tap_step": geometry.dilation_w * tap,
        "tap_bytes": tap * (geometry.kernel_w if together else 1), "unit": next(n for n in (4, 2, 1) if tap % n == 0),
        "filter_bytes": _filter_bytes(geometry), "words": words, "all_words": planes * words,
    }  # fmt: skip


def planes_scratch(geometry: ConvGeometry, planes: int) -> int:
    """et_conv_planes_i8_scratch_bytes."""
    shape = planes_shape(geometry, planes)
    return 4 * (shape["block_sums"] + 2 * shape["all_words"] + 2 * shape["words"]) + shape["all_planes"]


def planes_instructions(geometry: ConvGeometry, planes: int, counts_ones: bool) -> float:
    """An estimate for the whole layer.

    Args:
        counts_ones: whether the core has an instruction for that.
    """
    shape = planes_shape(geometry, planes)
    words, pairs = _words(shape["filter_bytes"]), -(-planes // 2)
    whole, rest = divmod(shape["run_codes"], WORD) if planes <= 2 else (0, shape["run_codes"])
    packing = shape["rows"] * shape["runs"] * (PACK * whole + PACK_SOME * pairs * -(-rest // WORD))
    starts = min({0: 1, 2: 2}.get(shape["filter_bytes"] % 4, 4), geometry.out_channels)
    units = shape["filter_bytes"] // shape["unit"]
    passes = _passes(words, counts_ones)
    filters = sum(planes % 2 * one + planes // 2 * two for one, two in passes)
    calls = len(passes) * pairs * starts
    once = 0.0 if counts_ones else words * (planes % 2 * ADDED_ALL[0] + planes // 2 * ADDED_ALL[1])
    pixel = PIXEL + (GATHER * units + MOVE * (starts - 1) * words) * planes + CALL * calls + once * starts
    pixel += OUTPUT * geometry.out_channels + filters * geometry.out_channels
    return geometry.batch * packing + _pixels(geometry) * pixel


def _passes(words: int, counts_ones: bool) -> list[tuple[float, float]]:
    """What each of the passes over so many words costs per filter, of one plane and of two."""
    passes, sizes = [], COUNTED if counts_ones else ADDED
    if not counts_ones and words >= 8:
        one, two = (start + words // 8 * more for start, more in zip(ADDED_LONG, ADDED_EIGHT, strict=True))
        passes, words = [(one, two)], words % 8
    while words > 0:
        size = next(size for size in sizes if size <= words)
        passes.append(sizes[size])
        words -= size
    return passes


def _tap_bytes(geometry: ConvGeometry) -> int:
    return -(-geometry.channels // 8)


def _filter_bytes(geometry: ConvGeometry) -> int:
    return geometry.kernel_h * geometry.kernel_w * _tap_bytes(geometry)


def _spanned_words(geometry: ConvGeometry) -> int:
    """Words that hold a filter, wherever it begins."""
    return _words(_filter_bytes(geometry) + 3)


def _pixels(geometry: ConvGeometry) -> int:
    return geometry.batch * geometry.out_height * geometry.out_width


def _words(bytes: int) -> int:
    return -(-bytes // 4)
