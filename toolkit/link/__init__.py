"""The serial line between a PC and a board (docs/SPEC.md): frames, and sessions of requests and answers."""
