"""edgetrain: ONNX in, C out, for inference and training on RISC-V microcontrollers."""

__version__ = "0.1.0"
