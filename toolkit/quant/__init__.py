"""Quantizers: one file per method, each a rewrite of a Graph that makes quantization explicit."""

from __future__ import annotations

from toolkit.quant.method import Context, Method, methods
from toolkit.quant.plan import QuantizationPlan, parse_plan, quantize

__all__ = ["Context", "Method", "QuantizationPlan", "methods", "parse_plan", "quantize"]
