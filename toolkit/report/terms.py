"""What the formulas of `toolkit.report.work` multiply: sizes of a step that say how often its loops turn and begin.

They are read from what every step has: its buffers, and the fields of the shapes that it is given. Products with zeros
are fewer instructions where floats are made of integers, and where kernels leave them out; how many there are is not
known before a model runs, so half of what leaves a ReLU is taken to be 0, and of a max pool's gradient all but one in
each window.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod

from codegen.program import Access, Function, Place, Pointer, Step, Struct

# Name -> what it is of, for a layer of `inputs` and `outputs` channels a group; work is MACs, or what windows of a pool
# look at.
NAMES = (
    "one",
    "macs",
    "read",  # bytes
    "written",
    "live_macs",  # with neither factor 0, about
    "window",  # work without MACs
    "by_output",  # work / outputs
    "by_input",  # work / inputs
    "runs",  # work / (inputs * kernel width)
    "runs_back",  # work / (outputs * kernel width)
    "rows",  # work / width of the output
    "columns",  # work / (kernel * height)
    "lines",  # work / (kernel * width)
    "channels",  # work / (kernel * height * width)
    "outputs_left",  # work of outputs that four at a time leave over
    "inputs_left",
    "strided",  # work at a stride
)
ANY = "any"  # in place of a way: the formula of all ways through a kernel
_ALIASES = {
    "kernel_height": "kernel_h", "kernel_width": "kernel_w", "stride_height": "stride_h", "stride_width": "stride_w",
    "out_height": "out_h", "out_width": "out_w", "out_channels": "out_c", "outputs": "out_c", "inputs": "channels",
}  # fmt: skip
_FLAGS = ("stored", "bfloat16", "pattern_bits")  # fields of shapes that choose other loops where they are 1
_HALF = 0.5


def terms(function: Function) -> list[tuple[float, ...]]:
    """Of each step, as NAMES has them."""
    live = _live_shares(function)
    return [_terms(function, step, live) for step in function.steps]


def way(step: Step, forms: Collection[str] | None) -> str:
    """The way that a step takes through its kernel: kind of layer, and the forms that suit it, compiled in or not.

    Args:
        forms: macros of those that are; None for all.
    """
    suited = sorted({form.macro for form in step.forms if form.bytes})
    known = _layer_of(step)
    kind = ""
    if known is not None and known.groups > 1:
        kind = "depthwise" if known.groups == known.channels == known.out_c else "grouped"
    elif known is not None and known.batch * known.out_h * known.out_w == 1:
        kind = "pixel"
    flags = [name for name, value in _fields(step).items() if value == 1 and name in _FLAGS]
    words = [word for word in (kind, *flags) if word]
    words += [("" if forms is None or macro in forms else "no ") + macro.removeprefix("ET_FORM_") for macro in suited]
    return ", ".join(words)


@dataclass(frozen=True)
class _Layer:
    """Of a convolution, a dense layer or a pool; 1 where a field is missing."""

    batch: int = 1
    kernel_h: int = 1
    kernel_w: int = 1
    stride_h: int = 1
    stride_w: int = 1
    out_h: int = 1
    out_w: int = 1
    channels: int = 1
    out_c: int = 1
    groups: int = 1
    height: int = 0  # 0 where it is not said
    width: int = 0
    pad_top: int = 0
    pad_left: int = 0
    dilation_h: int = 1
    dilation_w: int = 1

    def inside(self) -> float:
        """The share of its work that does not meet padding."""
        rows = _inside(self.out_h, self.kernel_h, self.stride_h, self.dilation_h, self.pad_top, self.height)
        return rows * _inside(self.out_w, self.kernel_w, self.stride_w, self.dilation_w, self.pad_left, self.width)


def _inside(results: int, taps: int, stride: int, dilation: int, pad: int, size: int) -> float:
    if not size:
        return 1.0
    met = sum(0 <= i * stride + tap * dilation - pad < size for i in range(results) for tap in range(taps))
    return met / (results * taps)


def _terms(function: Function, step: Step, live: Mapping[str, float]) -> tuple[float, ...]:
    reads, writes = step.reads(), step.writes()
    read, written = (sum(function.buffers[name].bytes for name in names) for names in (reads, writes))
    basic = 1.0, float(step.macs), float(read), float(written)
    known = _layer(function, step)
    if known is None:
        return *basic, float(step.macs), *[0.0] * (len(NAMES) - 5)
    outputs, inputs = known.out_c / known.groups, known.channels / known.groups
    kernel, width, height = known.kernel_h * known.kernel_w, known.out_w, known.out_h
    work = float(step.macs)
    window = 0.0
    if not step.macs:
        work = window = float(known.batch * height * width * known.channels * kernel)
        inputs, outputs = 1.0, float(known.channels)
    alive = prod(live.get(_source(function, name), 1.0) for name in reads)
    return (
        *basic, step.macs * alive * known.inside(), window, work / outputs, work / inputs,
        work / (inputs * known.kernel_w), work / (outputs * known.kernel_w),
        work / width, work / (kernel * height), work / (kernel * width),
        work / (kernel * height * width), work * (outputs % 4) / outputs, work * (inputs % 4) / inputs,
        work * (known.stride_h * known.stride_w > 1),
    )  # fmt: skip


def _layer(function: Function, step: Step) -> _Layer | None:
    """None for what is none."""
    known = _layer_of(step)
    if known is not None or not step.macs:
        return known
    weights = [function.buffers[name] for name in (*step.reads(), *step.writes())]
    shapes = [each.shape for each in weights if each.place in (Place.PARAMS, Place.FLASH) and len(each.shape) > 1]
    return _Layer(channels=shapes[0][-2], out_c=shapes[0][-1]) if shapes else None


def _layer_of(step: Step) -> _Layer | None:
    """As the shape says that it is given."""
    for argument in step.arguments:
        if not isinstance(argument, Struct):
            continue
        named = {_ALIASES.get(name, name): value for name, value in argument.fields}
        own = {name: value for name, value in named.items() if name in _Layer.__dataclass_fields__}
        whole = {name: value for name, value in own.items() if isinstance(value, int)}
        if "channels" in whole and ("out_c" in whole or "out_h" in whole):
            return _Layer(**whole)
    return None


def _live_shares(function: Function) -> dict[str, float]:
    """Buffer -> the share of its numbers that is not 0, about; 1 for those that are not named."""
    shares: dict[str, float] = {}
    for step in function.steps:
        reads = [name for name in step.reads() if function.buffers[name].place is not Place.FLASH]
        for pointer in step.pointers():
            if pointer.access is Access.WRITE:
                known = {name: shares.get(_source(function, name), 1.0) for name in reads}
                share = _share_of(function, step, pointer, known)
                if share < 1.0:
                    shares[pointer.buffer] = share
    return shares


def _share_of(function: Function, step: Step, result: Pointer, read: Mapping[str, float]) -> float:
    size, buffers = function.buffers[result.buffer].size, function.buffers
    if size == 1 or step.zeros == "none":
        return 1.0
    if step.zeros == "scattered":
        name, share = next(iter(read.items()), ("", 1.0))
        return min(share * buffers[name].size / size, 1.0) if name else 1.0
    alike = [share for name, share in read.items() if buffers[name].size == size and not step.macs]
    if step.zeros == "half" and (taps := _fields(step).get("taps")) and isinstance(taps, int) and taps > 1:
        return 1.0 - _HALF**taps
    if step.zeros == "gated" and len(alike) > 1:
        # The gradient of a ReLU behind a max pool meets few zeros in what the pool has let through.
        return min(alike)
    if step.zeros in ("half", "gated"):
        return min([_HALF, *alike])
    return alike[0] if len(alike) == 1 else 1.0


def _fields(step: Step) -> dict[str, object]:
    """Of all shapes that it is given."""
    return {name: value for each in step.arguments if isinstance(each, Struct) for name, value in each.fields}


def _source(function: Function, name: str) -> str:
    """The buffer that was written, of those that share its memory as views."""
    while name in function.views:
        name = function.views[name]
    return name
