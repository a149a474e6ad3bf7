"""How the tables of signed sums of a convolution lie: the fields of et_tables_shape (runtime_c/et_conv_tables_i8.h)."""

from __future__ import annotations

from toolkit.ops.geometry import ConvGeometry
from toolkit.ops.sign_forms import SET_WORDS, Form, table_columns, tap_bytes


def tables_shape(geometry: ConvGeometry, form: Form, of_gradient: bool = False) -> dict[str, int]:
    """The fields, in order.

    Args:
        form: tables or dense.
        of_gradient: whether it is the convolution that a data gradient is.
    """
    line, out_line = geometry.width * geometry.channels, geometry.out_width * geometry.out_channels
    taps = geometry.kernel_h * geometry.kernel_w
    part = -(-geometry.out_height // form.lanes)
    part_rows = part * geometry.stride_h if form.lanes > 1 else 0
    strip = form.strip
    last = geometry.out_width - (geometry.out_width - 1) // strip * strip if strip else 0
    columns = table_columns(geometry, strip)
    quad = columns * SET_WORDS
    row = -(-geometry.channels // 4) * quad
    span = (geometry.kernel_h - 1) * geometry.dilation_h + 1
    return {
        "batch": geometry.batch, "height": geometry.height, "width": geometry.width, "channels": geometry.channels,
        "line": line, "image": geometry.height * line,
        "out_height": geometry.out_height, "out_width": geometry.out_width, "out_channels": geometry.out_channels,
        "out_line": out_line, "out_image": geometry.out_height * out_line,
        "kernel_h": geometry.kernel_h, "kernel_w": geometry.kernel_w,
        "filter_bytes": taps * tap_bytes(geometry.channels),
        "layer_filter_bytes": taps * tap_bytes(geometry.out_channels) if of_gradient else 0,
        "stride_h": geometry.stride_h, "top": -geometry.pad_top, "top_line": -geometry.pad_top * line,
        "left": -geometry.pad_left, "left_codes": -geometry.pad_left * geometry.channels,
        "strip": strip, "strip_pixels": strip * geometry.stride_w,
        "strip_codes": strip * geometry.stride_w * geometry.channels,
        "columns": columns, "last_columns": table_columns(geometry, last), "lanes": form.lanes,
        "part": part, "part_rows": part_rows, "part_codes": part_rows * line, "part_elements": part * out_line,
        "lane_codes": int(form.lane_codes),
        "span": span, "quad": quad, "row": row, "table": span * row, "column": geometry.stride_w * SET_WORDS,
        "tap": geometry.dilation_w * SET_WORDS, "tap_row": geometry.dilation_h * row,
    }  # fmt: skip
