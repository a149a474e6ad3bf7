"""The convolution, depthwise, dense and matmul kernels stay inside their memory, as sanitizers see it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_kernels_conv import (
    DEPTHWISE_3X3,
    DEPTHWISE_STRIDED,
    HEADERS,
    KERNELS,
    MANY_OUTPUTS,
    RUNTIME,
    SAME_3X3,
    STRIDED_1X1,
)
from toolkit.ops.geometry import ConvGeometry, conv_shape_fields, matmul_shape_fields

SANITIZED = (
    SAME_3X3,
    STRIDED_1X1,
    MANY_OUTPUTS,
    replace(SAME_3X3, batch=1, height=5, width=7, channels=6, out_channels=10, stride_h=3, dilation_w=2, groups=2),
    ConvGeometry(1, 1, 9, 3, 5, 1, 4, stride_w=2, pad_left=3, pad_right=1),
    ConvGeometry(1, 2, 2, 1, 17, 4, 4, pad_top=3, pad_left=2, pad_bottom=1, pad_right=3),
    DEPTHWISE_3X3,
    DEPTHWISE_STRIDED,
    replace(DEPTHWISE_3X3, channels=5, out_channels=5, groups=5, kernel_w=4, dilation_h=2),
)


def sanitized_program() -> str:
    """C: every kernel on the shapes of SANITIZED, in blocks of exactly the right size."""
    text = [f'#include "et_{name}.h"' for name in (*HEADERS, "dense_batch")]
    text += ["#include <stdlib.h>", "static float *made(size_t count)", "{"]
    text += ["    float *block = calloc(count, sizeof(float));"]
    text += ["    for (size_t i = 0; i < count; i += 3)", "        block[i] = 1.0f;", "    return block;", "}"]
    text += ["#define NEW(n) made((size_t)(n))"]
    main = []
    for index, g in enumerate(SANITIZED):
        fields = []
        for name, value in conv_shape_fields(g).items():
            if isinstance(value, int):
                fields.append(f".{name} = {value}")
            else:
                rows = ", ".join("{" + ", ".join(map(str, row)) + "}" for row in value)
                text.append(f"static const et_segment {name}{index}[] = {{{rows}}};")
                fields.append(f".{name} = {name}{index}")
        text.append(f"static const et_conv_shape shape{index} = {{{', '.join(fields)}}};")
        family = "depthwise" if g.depthwise else "conv"
        sizes = {
            "x": g.batch * g.height * g.width * g.channels,
            "y": g.batch * g.out_height * g.out_width * g.out_channels,
            "w": g.kernel_h * g.kernel_w * (g.channels // g.groups) * g.out_channels,
            "b": g.out_channels,
        }
        main += [
            "    {",
            *(f"        float *{name} = NEW({size});" for name, size in {**sizes, "dx": sizes["x"]}.items()),
            f"        bad |= (int)et_{family}_f32(&shape{index}, x, w, b, y);",
            f"        bad |= (int)et_{family}_grad_input_f32(&shape{index}, y, w, x);",
            f"        bad |= (int)et_{family}_grad_input_gated_f32(&shape{index}, 1e-45f, 1.0f, y, w, x, dx);",
            f"        bad |= (int)et_{family}_grad_weight_f32(&shape{index}, x, y, w, 1);",
            f"        bad |= (int)et_{family}_update_f32(&shape{index}, 0.1f, 0.0f, x, y, w);",
            f"        bad |= (int)et_{family}_update_f32(&shape{index}, 0.1f, 0.1f, x, y, w);",
            *(f"        free({name});" for name in (*sizes, "dx")),
            "    }",
        ]
    small, large = [(1, 7, 21), (3, 5, 16), (7, 6, 3)], [(33, 70, 19), (16, 48, 32)]
    for kernel, (batch, inputs, outputs) in [("dense", s) for s in small] + [("dense_batch", s) for s in small + large]:
        shape = f"(et_dense_shape){{{batch}, {inputs}, {outputs}}}"
        main += [
            f"    {{ float *x = NEW({batch * inputs}), *y = NEW({batch * outputs}), *w = NEW({inputs * outputs});",
            f"    bad |= (int)et_{kernel}_f32(&{shape}, x, w, NULL, y);",
            f"    bad |= (int)et_{kernel}_grad_input_f32(&{shape}, y, w, x);",
            f"    bad |= (int)et_{kernel}_update_f32(&{shape}, 0.1f, 0.0f, x, y, w);",
            f"    bad |= (int)et_{kernel}_update_f32(&{shape}, 0.1f, 0.1f, x, y, w);",
            f"    bad |= (int)et_{kernel}_grad_weight_f32(&{shape}, x, y, w, 0); free(x); free(y); free(w); }}",
        ]
    for flags in ((0, 0), (0, 1), (1, 0), (1, 1)):
        shape = ", ".join(map(str, matmul_shape_fields(2, 7, 5, 19, *map(bool, flags)).values()))
        main += [
            "    { float *a = NEW(2 * 7 * 5), *b = NEW(2 * 5 * 19), *c = NEW(2 * 7 * 19);",
            f"    bad |= (int)et_matmul_f32(&(et_matmul_shape){{{shape}}}, a, b, c); free(a); free(b); free(c); }}",
        ]
    return "\n".join([*text, "int main(void)", "{", "    int bad = 0;", *main, "    return bad;", "}", ""])


@pytest.mark.parametrize("variant", ["-DET_FORCE_SCALAR", "-march=native"])
def test_kernels_stay_inside_their_memory(tmp_path: Path, variant: str) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    (tmp_path / "et_config.h").write_text("#define ET_FMA 0\n#define ET_FORM_GATE 1\n")
    (tmp_path / "main.c").write_text(sanitized_program())
    include = [f"-I{tmp_path}", f"-I{RUNTIME}"]
    sources = [str(RUNTIME / f"et_{name}.c") for name in (*KERNELS, "dense_batch")]
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O0", variant]
    program = tmp_path / "main"
    command = ["gcc", "-std=c99", "-ffp-contract=off", *sanitize, *include, *sources, "main.c", "-o", str(program)]
    subprocess.run(command, check=True, cwd=tmp_path)
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
