"""Accuracy of MLPerf Tiny's keyword spotting model on its published evaluation set, in generated C on this PC.

    python examples/keyword_spotting.py kws_float.onnx kws01

kws01 is the unpacked set of 1000 cases (from eembc/energyrunner): files of 49 x 10 MFCC features as int8, and
y_labels.csv with `file,classes,label` per line.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from toolkit.pipeline import Options, compile_model
from toolkit.sim.backend import open_backend
from toolkit.sim.trainer import accuracy

# How the reference model quantizes its input: real = (stored - ZERO_POINT) * SCALE.
SCALE, ZERO_POINT = 0.5847, 83

if len(sys.argv) != 3:
    sys.exit(__doc__)
model, folder = sys.argv[1], Path(sys.argv[2])
if not (folder / "y_labels.csv").is_file():
    sys.exit(f"error: {folder} has no y_labels.csv\nhint: unpack the set, and give the folder that holds its files")
rows = [row for row in csv.reader((folder / "y_labels.csv").open()) if row]
stored = np.stack([np.frombuffer((folder / row[0].strip()).read_bytes(), np.int8) for row in rows])
x = ((stored.astype(np.float32) - ZERO_POINT) * np.float32(SCALE)).reshape(-1, 49, 10, 1)
y = np.array([int(row[2]) for row in rows], np.int32)

with open_backend(compile_model(model, Options()), on="host") as backend:
    print(f"{accuracy(backend, x, y):.2%} of {len(y)} cases")
