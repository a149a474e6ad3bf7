"""The back end: steps, buffers and kernels become a folder of C. Knows no ONNX, no quantizer and no op by name."""
