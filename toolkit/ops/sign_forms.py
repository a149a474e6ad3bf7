"""Which kernel runs a convolution of int8 codes with packed signs: candidates, what they cost, and the choice.

All forms give the same bits. What they differ in is instructions and scratch memory:

    multiply   signs become int8 in scratch, inputs are gathered side by side, products are summed (et_conv_i8)
    tables     the 16 signed sums of four channels of a pixel are made once and looked up (et_conv_tables_i8); for all
               columns of outputs at a time, or for a strip of them where that needs too much memory
    dense      tables for blocks of inputs of a 1x1 image
    planes     ones of bit planes of the inputs are counted under the bits of each filter (et_conv_planes_i8), for codes
               of few bits that are not negative

Instructions are estimates for RV32IM without vectors, counted in the loops of the kernels (-O2); what follows on the
sums (scale, thresholds) is the same for all forms and left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from toolkit.ops.geometry import ConvGeometry
from toolkit.ops.sign_planes import planes_instructions, planes_of, planes_refusal, planes_scratch

MOST_SCRATCH = 24 * 1024  # bytes; beyond, tables are not worth the memory, unless there is a budget that they fit
LEAST_SCRATCH = (24 * 1024, 16 * 1024, 12 * 1024, 8 * 1024, 4 * 1024, 0)  # what is tried where memory is short
LANE_LIMIT = 2**15  # sums of magnitudes below it share a word with another
LANE_LEVELS = (1, 3)  # thresholds that make codes of sums that share a word, without parting them
LANE_CODES = {2: 16383, 3: 511}  # how many sums share a word then, and up to what magnitude
STRIPS = (14, 8, 7, 4)  # columns of outputs whose tables are held at once
SET_WORDS = 16  # sums of four channels
SUMS_BYTES = 1792  # int32 of two lanes, 14 columns, 16 channels
DENSE_BLOCK_BYTES = 2048

PRODUCT = 3.5  # per multiply-accumulate, with the loads
UNPACK = 7.0  # per weight
GATHER = 3.0  # per element of a column
BUILD = 52.0  # per four channels of two pixels
BUILD_LANE = 12.0  # more for a third pixel
LOOK_UP = 7.5  # per four weights and row of neighbouring outputs
ADD = 2.0  # per word of sums
TURN = 1.5  # per weight: bits of the gradient's convolution
UNPACKED_BYTES = 2048  # of weights that the multiplying data gradient has in scratch at a time, about
DENSE_LOOK_UP = 6.3  # per four weights


@dataclass(frozen=True)
class Form:
    """One way to run the layer.

    Attributes:
        name: multiply, tables, dense or planes.
        per_mac: estimated instructions per multiply-accumulate, padding counted.
        scratch: bytes.
        strip: columns of outputs at a time; 0 where it does not apply.
        lanes: sums in a word.
        lane_codes: whether they become codes there.
        planes: bits of a code; 0 where they do not matter.
        counts_ones: whether an instruction counts them.
    """

    name: str
    per_mac: float
    scratch: int
    strip: int = 0
    lanes: int = 1
    lane_codes: bool = False
    planes: int = 0
    counts_ones: bool = False

    @property
    def title(self) -> str:
        """What a person calls it."""
        if self.name == "planes":
            how = "an instruction" if self.counts_ones else "full adders"
            return f"{self.planes} bit plane{'s' if self.planes > 1 else ''}, ones counted by {how}"
        if self.name == "tables":
            return f"tables, {self.strip} columns, {self.lanes} sum{'s' if self.lanes > 1 else ''} a word"
        return "tables of blocks of inputs" if self.name == "dense" else "multiply"


@dataclass(frozen=True)
class Choice:
    """The candidates, cheapest in instructions first, and the chosen one with the reason.

    Attributes:
        refused: why there are no tables; empty where there are.
    """

    candidates: tuple[Form, ...]
    chosen: Form
    why: str


def choose_form(
    geometry: ConvGeometry,
    largest_x: int,
    dtype: str = "int8",
    levels: int = 0,
    most: int = MOST_SCRATCH,
    unsigned: bool = False,
    counts_ones: bool = False,
) -> Choice:
    """The form for codes of magnitudes up to `largest_x`: the fewest instructions within `most` bytes of scratch.

    Where no form takes so little, it is the one that takes least: weights that are unpacked may need more than tables.

    Args:
        levels: thresholds that make a code of a sum; 0 where it becomes something else.
        unsigned: whether no code is negative, and padding reads 0.
        counts_ones: whether the core has an instruction for that.
    """
    multiply = _multiply(geometry)
    refusal = _refusal(geometry, dtype)
    if refusal:
        return Choice((multiply,), multiply, f"no tables: {refusal}")
    planes = [] if planes_refusal(geometry, largest_x, unsigned) else [_planes(geometry, largest_x, counts_ones)]
    return _cheapest([multiply, *_tables(geometry, largest_x, levels), *planes], most)


def _cheapest(candidates: list[Form], most: int) -> Choice:
    candidates.sort(key=lambda form: (form.per_mac, form.scratch))
    fitting = [form for form in candidates if form.scratch <= most]
    chosen = fitting[0] if fitting else min(candidates, key=lambda form: form.scratch)
    why = "fewest instructions" if fitting else f"least scratch: none has at most {most:,} B"
    if fitting and chosen is not candidates[0]:
        why += f" of those with at most {most:,} B of scratch"
    if most != MOST_SCRATCH:
        why += f"; the memory that there is allows {most:,} B"
    return Choice(tuple(candidates), chosen, why)


def choose_gradient_form(
    geometry: ConvGeometry, largest_g: int, dtype: str = "int8", most: int = MOST_SCRATCH
) -> Choice:
    """The form of the data gradient of a convolution, for codes of magnitudes up to `largest_g`.

    Tables run the convolution that the gradient is (`turned_convolution`), and need its bits in scratch too.
    """
    multiply = _multiply_gradient(geometry)
    refusal = _refusal(geometry, dtype)
    if not refusal and (geometry.stride_h, geometry.stride_w) != (1, 1):
        refusal = "strides are not 1"
    other = None if refusal else turned_convolution(geometry)
    if other is None:
        return Choice((multiply,), multiply, f"no tables: {refusal or 'pads are larger than the kernel'}")
    bits = turned_bytes(other)
    turning = TURN * terms_per_output(other) * other.out_channels / _macs(other)
    forms = [replace(form, per_mac=form.per_mac + turning, scratch=form.scratch + bits)
             for form in _tables(other, largest_g)]  # fmt: skip
    return _cheapest([multiply, *forms], most)


def turned_convolution(geometry: ConvGeometry) -> ConvGeometry | None:
    """The convolution of output gradients that gives those of the inputs; None where a pad exceeds the kernel."""
    tall, wide = geometry.dilation_h * (geometry.kernel_h - 1), geometry.dilation_w * (geometry.kernel_w - 1)
    below = geometry.height - geometry.out_height + tall - (tall - geometry.pad_top)
    right = geometry.width - geometry.out_width + wide - (wide - geometry.pad_left)
    pads = (tall - geometry.pad_top, wide - geometry.pad_left, below, right)
    if min(pads) < 0:
        return None
    return ConvGeometry(
        geometry.batch, geometry.out_height, geometry.out_width, geometry.out_channels, geometry.channels,
        geometry.kernel_h, geometry.kernel_w, 1, 1, geometry.dilation_h, geometry.dilation_w, *pads,
    )  # fmt: skip


def tap_bytes(channels: int) -> int:
    """Bytes of the bits of a tap."""
    return -(-channels // 8)


def table_columns(geometry: ConvGeometry, strip: int) -> int:
    """Columns of the input that the taps of `strip` neighbouring outputs span."""
    return (strip - 1) * geometry.stride_w + (geometry.kernel_w - 1) * geometry.dilation_w + 1


def turned_bytes(geometry: ConvGeometry) -> int:
    """Bytes of the bits of a turned convolution, up to a multiple of 4."""
    bits = geometry.out_channels * geometry.kernel_h * geometry.kernel_w * tap_bytes(geometry.channels)
    return -(-bits // 4) * 4


def _refusal(geometry: ConvGeometry, dtype: str) -> str:
    """Why tables do not run the layer; empty where they do."""
    if dtype != "int8":
        return f"codes are {dtype}"
    if geometry.groups != 1:
        return f"{geometry.groups} groups"
    return ""


def terms_per_output(geometry: ConvGeometry) -> int:
    """Products of one sum."""
    return geometry.kernel_h * geometry.kernel_w * geometry.channels // geometry.groups


def _macs(geometry: ConvGeometry) -> int:
    pixels = geometry.batch * geometry.out_height * geometry.out_width
    return pixels * geometry.out_channels * terms_per_output(geometry)


def _multiply(geometry: ConvGeometry) -> Form:
    pixels = geometry.batch * geometry.out_height * geometry.out_width
    weights = terms_per_output(geometry) * geometry.out_channels
    cost = PRODUCT + (UNPACK * weights + GATHER * pixels * terms_per_output(geometry)) / _macs(geometry)
    return Form("multiply", cost, weights + terms_per_output(geometry) * (4 if pixels >= 4 else 1))


def _multiply_gradient(geometry: ConvGeometry) -> Form:
    terms = geometry.kernel_h * geometry.kernel_w * geometry.out_channels // geometry.groups
    pixels = geometry.batch * geometry.height * geometry.width
    cost = PRODUCT + UNPACK / pixels + GATHER / max(geometry.channels // geometry.groups, 1)
    column = 4 if pixels >= 4 else 0
    return Form("multiply", cost, min(terms * (geometry.channels // geometry.groups), UNPACKED_BYTES) + terms * column)


def _tables(geometry: ConvGeometry, largest_x: int, levels: int = 0) -> list[Form]:
    quads = -(-geometry.channels // 4)
    if is_dense(geometry):
        cost = (BUILD * quads / geometry.out_channels + DENSE_LOOK_UP * quads) / geometry.channels
        return [Form("dense", cost, 4 * geometry.out_channels + DENSE_BLOCK_BYTES)]
    largest = terms_per_output(geometry) * largest_x
    lanes = 2 if geometry.out_height > 1 and largest < LANE_LIMIT else 1
    together = levels in LANE_LEVELS and lanes == 2 and largest <= LANE_CODES[2]
    if together and geometry.out_height > 2 and largest <= LANE_CODES[3]:
        lanes = 3
    widths = [geometry.out_width, *(width for width in STRIPS if width < geometry.out_width)]
    return [_strips(geometry, quads, lanes, width, levels * together) for width in widths]


def _strips(geometry: ConvGeometry, quads: int, lanes: int, strip: int, levels: int) -> Form:
    """Of one width of strips; `levels`: thresholds, where sums that share a word become codes there, else 0."""
    distances = 4 * geometry.kernel_h * geometry.kernel_w * tap_bytes(geometry.channels)
    span = (geometry.kernel_h - 1) * geometry.dilation_h + 1
    thresholds = 8 * levels * geometry.out_channels
    scratch = SUMS_BYTES + thresholds + distances + span * quads * table_columns(geometry, strip) * 4 * SET_WORDS
    rows = -(-geometry.out_height // lanes)
    whole, rest = divmod(geometry.out_width, strip)
    widths = [strip] * whole + [rest] * bool(rest)
    instructions = 0.0
    for width in widths:
        built = ((rows - 1) * min(geometry.stride_h, span) + span) * table_columns(geometry, width) * quads
        words = rows * geometry.kernel_h * geometry.kernel_w * quads * geometry.out_channels
        instructions += words * (LOOK_UP * len(_pieces(width, geometry.stride_w)) + ADD * width)
        instructions += (BUILD + BUILD_LANE * (lanes == 3)) * built
    return Form("tables", geometry.batch * instructions / _macs(geometry), scratch, strip, lanes, levels > 0)


def _planes(geometry: ConvGeometry, largest_x: int, counts_ones: bool) -> Form:
    planes = planes_of(largest_x)
    cost = planes_instructions(geometry, planes, counts_ones) / _macs(geometry)
    return Form("planes", cost, planes_scratch(geometry, planes), planes=planes, counts_ones=counts_ones)


def _pieces(width: int, stride: int) -> list[int]:
    """How the kernel cuts a row of outputs into blocks."""
    pieces = []
    sizes = {1: (14, 8, 7, 4, 1), 2: (8, 4, 1)}.get(stride, (1,))
    while width:
        whole = next(n for n in sizes if n <= width and not (n == 14 < width < 22))
        pieces.append(whole)
        width -= whole
    return pieces


def is_dense(geometry: ConvGeometry) -> bool:
    """Whether et_conv_tables_i8 takes the inputs in blocks."""
    sizes = (geometry.height, geometry.width, geometry.kernel_h, geometry.kernel_w)
    unpadded = (geometry.pad_top, geometry.pad_left) == (0, 0)
    return sizes == (1, 1, 1, 1) and (geometry.out_height, geometry.out_width) == (1, 1) and unpadded
