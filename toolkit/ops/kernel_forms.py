"""Forms of inner loops that a layer would use: what they save per multiply-accumulate, and how large their code is.

Sizes and savings are those of gcc 12 on rv32imafc and of the shapes of `edgetrain bench kernels`, rounded. Whether a
form is compiled in is decided for a whole model: codegen/forms.py.
"""

from __future__ import annotations

from math import gcd
from typing import Literal

from codegen.forms import Form
from toolkit.ops.geometry import PANEL, ConvGeometry

Way = Literal["forward", "input", "weight"]  # which kernel: the convolution, or the gradient of its input or weights

# What kernels need, whatever it saves.
RECTIFY = Form("ET_FORM_RECTIFY")
CEILING = Form("ET_FORM_CEILING")
GATE = Form("ET_FORM_GATE")

# Forms of binary16 on Zfh, in speed's code wherever a layer has a use for them: they are what brings its training steps
# down to the instructions of float32. By worth cnn, lenet and ds-cnn would do without the tiles (4,970 bytes for 1.4 to
# 2.8 % of a step), and resnet8 without the three channels (2,590 bytes for 0.3 %).
HALF_THREE = Form("ET_FORM_HALF_THREE")
HALF_TILES = Form("ET_FORM_HALF_TILES")
HALF_TRIPLES = Form("ET_FORM_HALF_TRIPLES")

# Macro -> bytes of code.
_BYTES = {
    "ET_FORM_ADDEND": 650,
    "ET_FORM_ADDEND_NARROW": 900,
    "ET_FORM_CODES": 4300,
    "ET_FORM_CODES_FLAT": 560,
    "ET_FORM_CODES_NARROW": 620,
    "ET_FORM_CODES_SLIDE": 2600,
    "ET_FORM_DEPTHWISE": 3700,
    "ET_FORM_DEPTHWISE_ROLLS": 1100,
    "ET_FORM_DEPTHWISE_STRIDES": 1050,
    "ET_FORM_DEPTHWISE_WEIGHTS": 2350,
    "ET_FORM_DOT": 1200,
    "ET_FORM_GROUPED": 10500,
    "ET_FORM_HALF_SLIDES": 1550,
    "ET_FORM_NARROW": 1850,
    "ET_FORM_NARROW_GRADIENT": 5000,
    "ET_FORM_STILL": 3750,
    "ET_FORM_TAPS": 6700,
    "ET_FORM_TEN": 660,
}


def _form(name: str, saves: float) -> Form:
    macro = f"ET_FORM_{name}"
    return Form(macro, _BYTES[macro], saves)


def conv_forms(geometry: ConvGeometry, way: Way) -> tuple[Form, ...]:
    """Of a float32 convolution or one of its gradients."""
    g, macs = geometry, geometry.macs()
    if g.depthwise:
        return _depthwise_forms(g, way)
    channels, outputs = g.channels // g.groups, g.out_channels // g.groups
    if way == "weight":
        return (_form("TAPS", 1.4 * macs),) if channels <= 2 and g.kernel_w > 1 and outputs % 8 else ()
    if g.groups > 1 and outputs < PANEL:
        return (_form("GROUPED", (3.0 if outputs < 4 else 0.2) * macs),)
    columns = outputs if way == "forward" else channels
    rest = columns % 4 if columns % 4 > 1 else 0
    if way == "forward":
        return (_form("NARROW", 1.5 * rest / columns * macs),) if rest else ()
    if (channels == 1 and outputs <= 8) or (outputs <= 4 and (channels == 2 or g.kernel_h * g.kernel_w == 1)):
        return (_form("STILL", 1.7 * macs),)
    narrow = outputs % PANEL
    # Of two channels left over less is counted than is saved: 2 % of lenet's step is not worth 9 % more code.
    of_rest, of_narrow = (1.2, 0.8) if columns < 4 else (1.7 if rest == 3 else 0.4, 0.2)
    saves = of_rest * rest / columns + of_narrow * narrow / outputs
    return (_form("NARROW_GRADIENT", saves * macs),) if saves else ()


def sum_forms(geometry: ConvGeometry) -> tuple[Form, ...]:
    """Of a float32 convolution that ends with the addition of a tensor, against a kernel of its own for that."""
    outputs = geometry.out_channels // geometry.groups
    results = geometry.batch * geometry.out_height * geometry.out_width * geometry.out_channels
    in_panels = results * (outputs - outputs % PANEL) / outputs
    narrow = (_form("ADDEND_NARROW", 2.3 * (results - in_panels)),) if outputs % PANEL else ()
    return _form("ADDEND", 2.3 * in_panels), *narrow


def _depthwise_forms(geometry: ConvGeometry, way: Way) -> tuple[Form, ...]:
    g, macs = geometry, geometry.macs()
    usual = (g.kernel_h, g.kernel_w, g.dilation_h, g.dilation_w) == (3, 3, 1, 1) and g.stride_h <= 2
    slides = usual and max(g.pad_top, g.pad_left, g.pad_bottom, g.pad_right) <= 1
    if way == "weight":
        if (slides and g.stride_w == 1) or g.kernel_w == 1:
            return ()
        forms = [_form("DEPTHWISE_WEIGHTS", 0.9 * macs)]
        if g.kernel_w == 3 or g.kernel_w > 4:  # else there are no three taps to take at once
            if g.stride_w == g.dilation_w:
                forms.append(_form("DEPTHWISE_ROLLS", 0.35 * macs))
            elif g.stride_w == 2 * g.dilation_w:
                forms.append(_form("DEPTHWISE_STRIDES", 0.2 * macs))
        return tuple(forms)
    strides = g.stride_h * g.stride_w if way == "input" else 1
    taps = g.kernel_h * g.kernel_w / strides  # that a result meets
    if taps > 10 or (slides and strides == 1):
        return ()
    return (_form("DEPTHWISE", (2.5 if strides > 1 and taps <= 5 else 0.5) * macs),)


def dense_forms(inputs: int, outputs: int, way: Way) -> tuple[Form, ...]:
    """Of a dense layer at batch 1 or of one of its gradients."""
    if outputs == 10 and way != "forward":
        return (_form("TEN", 0.4 * inputs * outputs),)
    return (_form("DOT", (4.0 if way == "weight" else 2.0) * inputs),) if outputs == 1 else ()


def code_forms(geometry: ConvGeometry, to_codes: bool = False) -> tuple[Form, ...]:
    """Of a convolution of integer codes.

    Args:
        to_codes: whether its sums are requantized.
    """
    g = geometry
    channels, outputs = g.channels // g.groups, g.out_channels // g.groups
    down = (g.kernel_h, g.kernel_w, g.stride_h, g.dilation_h, g.dilation_w) == (3, 3, 1, 1, 1) and g.width >= 3
    if g.depthwise and down:  # where CODES_SLIDE is there it takes these too, but they are quick without
        return ()
    if to_codes and channels == 1 and _slides(g):
        return (_form("CODES_SLIDE", (3.0 if g.groups == 1 else 8.0) * g.macs()),)
    gathered = outputs > (8 if channels == 1 else 7 if channels == 2 else 4)  # at little cost for each output
    no_room = min(g.kernel_h, g.kernel_w) * channels > 24  # on the stack
    if gathered or no_room or (channels > 1 and g.kernel_h * g.kernel_w == 1):
        pixels, rest = g.batch * g.out_height * g.out_width, outputs % 4
        tap = (g.kernel_h, g.kernel_w, g.stride_h, g.stride_w) == (1, 1, 1, 1)
        flat = tap and (g.out_height, g.out_width) == (g.height, g.width) and pixels >= 4
        narrow = (_form("CODES_NARROW", 1.6 * rest / outputs * g.macs()),) if pixels >= 4 and rest > 1 else ()
        return (*narrow, _form("CODES_FLAT", 40.0 * pixels * g.groups)) if flat else narrow
    return (_form("CODES", (8.0 if g.depthwise else 2.0) * g.macs()),)


def _slides(g: ConvGeometry) -> bool:
    """Whether it is one of et_slide_codes.inc."""
    down, right = (g.stride_h, g.dilation_h, g.height), (g.stride_w, g.dilation_w, g.width)
    along = [stride // gcd(stride, dilation) <= 2 for stride, dilation, _ in (down, right)]
    across = [size >= 3 * dilation for _, dilation, size in (down, right)]
    return (g.kernel_h, g.kernel_w) == (3, 3) and ((along[0] and across[1]) or (along[1] and across[0]))


def half_forms(geometry: ConvGeometry, way: Way, stored: bool) -> tuple[Form, ...]:
    """Of a convolution with sums of binary16 or one of its gradients.

    Args:
        stored: whether weights are in binary16 as well.
    """
    g = geometry
    channels, outputs = g.channels // g.groups, g.out_channels // g.groups
    if g.depthwise and way == "weight":
        middle = (g.kernel_w, g.stride_w, g.dilation_w, g.pad_left) == (3, 1, 1, 1) and g.out_width == g.width
        return (HALF_TRIPLES,) if middle and g.width >= 2 and g.channels % 8 == 0 else ()
    if g.depthwise and stored:
        down = (g.kernel_h, g.kernel_w, g.stride_h, g.stride_w, g.dilation_h, g.dilation_w) == (3, 3, 1, 1, 1, 1)
        return (_form("HALF_SLIDES", 1.0 * g.macs()),) if down else ()
    if way == "weight":
        return (HALF_THREE,) if channels % 6 == 3 and outputs >= 8 else ()
    pixels = g.out_height * g.out_width if way == "forward" else g.height * g.width
    return (HALF_TILES,) if g.batch * pixels >= 6 and (outputs if way == "forward" else channels) >= 4 else ()
