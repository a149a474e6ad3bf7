"""Pad with a constant. Negative padding takes elements away and is imported as Slice; other modes are BorderPad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, UnsupportedError, op, require
from toolkit.ops.border_pad import MODES, BorderPad
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.slice_ import Slice, slice_walk


@op
@dataclass(frozen=True)
class Pad(Op):
    """y has before[i] + after[i] more elements along axis i than x, all of them equal to `value`. float32."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float = 0.0

    onnx = ("Pad",)
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        require(len(x.shape) == len(self.before) == len(self.after), f"padding for {len(self.before)} axes, but {x}")
        require(min((*self.before, *self.after), default=0) >= 0, "negative padding is a Slice")
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        return TensorType(tuple(n + b + a for n, b, a in zip(x.shape, self.before, self.after, strict=True)))

    def reference(self, run: Run, x: Array) -> Array:
        return np.pad(x, tuple(zip(self.before, self.after, strict=True)), constant_values=np.float32(self.value))

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        shape = back.type(back.input(0)).shape
        return (back.apply(Slice(self.before, shape, (1,) * len(shape)), dy),)

    def lower(self, to: Lowering) -> None:
        x, y = to.input_type(0).shape, to.output_type()
        walk = to.struct("et_walk", slice_walk(y.shape, self.before, x, (1,) * len(x)), "inside")
        to.call("et_pad_f32", walk, to.size(y.size), to.real(self.value), to.read(0), to.write(0))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        mode = node.attribute("mode", "constant")
        if mode not in ("constant", *MODES):
            raise UnsupportedError(f"mode {mode}; supported are constant, {', '.join(MODES)}")
        shape = node.shape(0)
        if node.opset < 11:
            pads = node.attribute("pads") or node.attribute("paddings")
            value = float(node.attribute("value", 0.0))
        else:
            pads = node.value(1, "pads").reshape(-1).tolist()
            value = float(node.value(2, "constant_value").reshape(-1)[0]) if node.has(2) else 0.0
        axes = node.value(3, "axes").reshape(-1).tolist() if node.has(3) else range(len(shape))
        both = {int(a) % len(shape): (int(pads[i]), int(pads[i + len(axes)])) for i, a in enumerate(axes)}
        x, order = node.stored(0)
        stored = [both.get(axis, (0, 0)) for axis in order]
        sizes = tuple(shape[axis] + min(b, 0) + min(a, 0) for axis, (b, a) in zip(order, stored, strict=True))
        if min(sizes, default=1) <= 0:
            raise UnsupportedError(f"pads {list(pads)} leave nothing of {list(shape)}")
        if sizes != tuple(shape[axis] for axis in order):
            (x,) = node.apply(Slice(tuple(max(-b, 0) for b, _ in stored), sizes, (1,) * len(sizes)), x)
        if any(b > 0 or a > 0 for b, a in stored):
            before, after = (tuple(max(pair[side], 0) for pair in stored) for side in (0, 1))
            (x,) = node.apply(cls(before, after, value) if mode == "constant" else BorderPad(before, after, mode), x)
        return (node.emit(0, x, order),)
