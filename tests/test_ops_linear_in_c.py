"""Conv, Dense and MatMul: the kernels that the lowering calls give the bits of the reference, whatever the shape."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from codegen.kernels import runtime_for
from codegen.resources import folder
from tests import support
from tests.support import assert_parity, assert_same_bits, floats, floats_with_special, run_in_c
from tests.test_ops_conv_dense import Case, conv_cases, matmul_cases
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, StepAborted
from toolkit.ops.conv import Conv, ConvGradInput, ConvGradWeight
from toolkit.ops.dense import Dense, DenseGradInput, DenseGradWeight
from toolkit.ops.matmul import MatMul
from toolkit.ops.sgd import Sgd

PARTS = ("", "_grad_input", "_grad_weight", "_update")
KERNELS = (*(f"et_{layer}{part}_f32" for layer in ("conv", "depthwise", "dense") for part in PARTS),
           "et_matmul_f32", "et_permute_f32")  # fmt: skip
STRUCTS = ("et_segment", "et_conv_shape", "et_dense_shape", "et_matmul_shape")


@pytest.fixture(scope="module", autouse=True)
def one_library_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All linear kernels in one library per kind of multiply-add, so that few are compiled."""

    @cache
    def library(fma: int, scalar: int) -> tuple[Any, Any]:
        from cffi import FFI

        place = tmp_path_factory.mktemp("linear-kernels")
        (place / "et_config.h").write_text(f"#define ET_FMA {fma}\n#define ET_SCALAR_CORE {scalar}\n")
        files, runtime, ffi = runtime_for(KERNELS), folder("runtime_c"), FFI()
        texts = [(runtime / name).read_text() for name in files.headers if name.endswith(".h")]
        text = re.sub(r"/\*.*?\*/", "", "\n".join(texts), flags=re.DOTALL)
        declarations = ["typedef int et_status;"]
        for struct in STRUCTS:
            found = re.search(rf"typedef struct \{{[^}}]*\}} {struct};", text)
            assert found, struct
            declarations.append(found.group())
        for kernel in KERNELS:
            found = re.search(rf"^ET_CHECKED (et_status\s+{kernel}\([^;{{]*\);)", text, re.MULTILINE)
            assert found, kernel
            declarations.append(found.group(1))
        ffi.cdef("\n".join(declarations))
        sources = [str(runtime / name) for name in sorted({*files.sources, "et_math.c"})]
        flags = ["-std=c99", "-O1", "-march=native", "-fPIC", "-shared", "-ffp-contract=off"]
        command = ["gcc", *flags, f"-I{place}", f"-I{runtime}", *sources, "-o", str(place / "kernels.so")]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return ffi, ffi.dlopen(str(place / "kernels.so"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(support, "kernel_library", lambda kernel, fma, scalar, forms: library(fma, scalar))
        yield


def attributes(op: Conv) -> tuple[Any, ...]:
    return op.strides, op.dilations, op.before, op.after, op.groups


def check(op: Op, inputs: list[Array | None]) -> None:
    while inputs[-1] is None:
        inputs = inputs[:-1]
    assert_parity(op, inputs)


def check_gradient(gradient: Op, x: Array, dy: Array) -> None:
    """The gradient of a weight, and its update, some of whose gradients may not be finite."""
    check(gradient, [x, dy])
    for decay in (0.0, 0.01):
        op = gradient.fused_update(Sgd(weight_decay=decay))
        assert op is not None
        w = floats(8, *gradient.output_types((TensorType(x.shape), TensorType(dy.shape)))[0].shape)
        inputs: list[Array | None] = [x, dy, w, np.asarray(np.float32(0.3))]
        for fma in (True, False):
            try:
                (expected,), status = op.run(Run(fma), *inputs), "ET_OK"
            except StepAborted as stop:
                (expected,), status = stop.updated, stop.status
            found, (updated,) = run_in_c(op, inputs, fma, {2: 0})
            assert found == status
            assert_same_bits(updated, expected, f"{op} fma={fma}")


@given(conv_cases())
def test_convolutions_and_their_gradients_give_the_same_bits(case: Case) -> None:
    op, x, w, bias = case
    check(op, [x, w, bias])
    (y,) = op.run(Run(), x, w, bias)
    dy = floats(7, *y.shape)
    check(ConvGradInput(*attributes(op), sizes=x.shape[1:-1]), [dy, w])
    check_gradient(ConvGradWeight(*attributes(op), kernel=w.shape[:-2]), x, dy)


LAYERS = {
    "first layer": ((1, 12, 11, 3), (3, 3, 3, 16), ((1, 1), (1, 1), (1, 1), (1, 1), 1)),
    "one channel": ((1, 13, 10, 1), (10, 4, 1, 33), ((2, 2), (1, 1), (4, 1), (5, 1), 1)),
    "wide": ((2, 5, 5, 40), (3, 3, 40, 70), ((1, 1), (1, 1), (1, 1), (1, 1), 1)),
    "pointwise, stride 2": ((1, 7, 7, 16), (1, 1, 16, 32), ((2, 2), (1, 1), (0, 0), (0, 0), 1)),
    "grouped": ((1, 6, 6, 12), (3, 3, 4, 57), ((2, 1), (1, 1), (1, 1), (0, 2), 3)),
    "depthwise": ((2, 9, 8, 24), (3, 3, 1, 24), ((1, 1), (1, 1), (1, 1), (1, 1), 24)),
    "depthwise, stride 2": ((1, 9, 8, 19), (3, 3, 1, 19), ((2, 2), (1, 1), (0, 0), (1, 1), 19)),
    "depthwise, dilated": ((1, 9, 9, 5), (3, 2, 1, 5), ((1, 2), (2, 3), (2, 0), (1, 3), 5)),
    "two filters per channel": ((1, 5, 5, 6), (3, 3, 1, 12), ((1, 1), (1, 1), (1, 1), (1, 1), 6)),
    "one axis": ((2, 21, 5), (4, 5, 18), ((3,), (2,), (3,), (2,), 1)),
    "more padding than image": ((1, 2, 2, 2), (2, 2, 2, 3), ((3, 3), (1, 1), (5, 4), (4, 5), 1)),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("special", [False, True])
def test_layers_of_every_kind_give_the_same_bits(layer: str, special: bool) -> None:
    xs, ws, way = LAYERS[layer]
    draw = floats_with_special if special else floats
    op = Conv(*way)
    x, w, bias = draw(1, *xs), draw(2, *ws), draw(3, ws[-1])
    (y,) = op.run(Run(), x, w, bias)
    dy = draw(4, *y.shape)
    check(op, [x, w, bias])
    check(ConvGradInput(*way, sizes=xs[1:-1]), [dy, w])
    check_gradient(ConvGradWeight(*way, kernel=ws[:-2]), x, dy)


@given(st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 70)), st.booleans(), st.booleans())
def test_dense_layers_and_their_gradients_give_the_same_bits(
    sizes: tuple[int, int, int], biased: bool, special: bool
) -> None:
    (n, k, m), draw = sizes, floats_with_special if special else floats
    x, w, dy = draw(1, n, k), draw(2, k, m), draw(3, n, m)
    check(Dense(), [x, w, draw(4, m) if biased else None])
    check(DenseGradInput(), [dy, w])
    check_gradient(DenseGradWeight(), x, dy)


@given(matmul_cases())
def test_products_give_the_same_bits(case: tuple[MatMul, Array, Array]) -> None:
    op, a, b = case
    batches = [value.shape[:-2] for value in (a, b)]
    count = np.prod(np.broadcast_shapes(*batches))
    assume(all(np.prod(batch) in (1, count) for batch in batches))  # the import spreads the others out
    check(op, [a, b])
