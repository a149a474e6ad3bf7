"""ONNX in, ONNX out. Together with toolkit/zoo the only place that imports onnx, and only inside functions."""

from __future__ import annotations

from toolkit.frontend.export import export_model
from toolkit.frontend.load import load_model

__all__ = ["export_model", "load_model"]
