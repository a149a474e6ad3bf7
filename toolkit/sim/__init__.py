"""Three ways to run a compiled model: NumPy reference, C on the host, firmware in an emulator; parity compares bits."""
