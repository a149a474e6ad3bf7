"""Three ways to run a compiled model: the NumPy reference, C on the host, firmware in an emulator; parity compares bits."""
