"""The Python interface in one page: train a model in generated C, save it, and write firmware that goes on learning.

    python examples/train_and_compile.py OUTPUT_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from codegen.board import load_board
from codegen.emit import emit
from codegen.project import write_project
from toolkit.data.digits import load_digits
from toolkit.frontend.export import export_model
from toolkit.pipeline import Options, compile_model
from toolkit.sim.backend import open_backend
from toolkit.sim.trainer import accuracy, train
from toolkit.train.step import TrainingOptions

if len(sys.argv) != 2:
    sys.exit(__doc__)
folder = Path(sys.argv[1])
folder.mkdir(parents=True)
training, test = load_digits().split(0.2, seed=0)

# On this PC: the model becomes a shared library, and batches of 32 go through it.
compiled = compile_model("digits-cnn", Options("all", TrainingOptions(optimizer="adam"), batch=32))
with open_backend(compiled, on="host") as backend:
    for epoch in train(backend, training.x, training.y, epochs=10, learning_rate=0.005):
        print(f"epoch {epoch.epoch}: loss {epoch.loss:.4f}")
    print(f"accuracy on {len(test)} digits: {accuracy(backend, test.x, test.y):.1%}")
    export_model("digits-cnn", compiled.model, backend.state(), folder / "digits.onnx")

# For the board: one sample at a time, and only the last layer goes on learning; the others stay in flash.
board = load_board("hifive1")
firmware = compile_model(folder / "digits.onnx", Options("last:1", fma=board.fma))
program = firmware.program
print(f"on {board.id}: arena {program.arena_bytes} B, trained weights {program.params_bytes} B of RAM")
(folder / "firmware").mkdir()
emit(program, folder / "firmware", tool="examples/train_and_compile.py")
write_project(folder / "firmware", program, board, tool="examples/train_and_compile.py")
print(f"make -C {folder / 'firmware'}")
