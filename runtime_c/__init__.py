"""Hand-written C99: kernels, numerics, link and device loop. Packaged as data."""
