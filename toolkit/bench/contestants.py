"""Who takes part in `bench host`: edgetrain's C, onnxruntime, PyTorch and emx-onnx-cgen, all from one model file.

Each gives a call to be timed, and the answer that it computes, so that nothing is compared that is something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from codegen.board import load_board
from codegen.compilers import Compiler, find, host_flags
from codegen.errors import BackendError
from toolkit import __version__
from toolkit.bench.emx import EmxModel
from toolkit.bench.pytorch import NoFormError, TorchModel
from toolkit.bench.rv32 import LOSS
from toolkit.frontend.outline import read_outline
from toolkit.frontend.session import Session
from toolkit.ir import Array
from toolkit.pipeline import Options, compile_model
from toolkit.sim.host import THREADS, HostBackend, at_cache_line
from toolkit.sim.parity import random_samples
from toolkit.train.step import TrainingOptions

OWN = "edgetrain"
Phase = Literal["infer", "train"]
# The one step whose outcome is compared, and those that are timed: weights hardly change then, and no number becomes
# so small that hardware takes longer.
_COMPARED_RATE, _TIMED_RATE = 0.01, 1e-7


@dataclass(frozen=True)
class Contestant:
    """One of them, ready to run.

    Attributes:
        how: version, and what it was built or run with.
        call: computes once.
        answer: what it computes: "output", or "loss" and the change of each weight by its name in the model file.
    """

    name: str
    version: str
    how: str
    call: Callable[[], object]
    answer: Mapping[str, Array]


@dataclass(frozen=True)
class Race:
    """A model in one phase.

    Attributes:
        left_out: name -> why it does not take part.
    """

    model: str
    phase: Phase
    batch: int
    contestants: tuple[Contestant, ...]
    left_out: Mapping[str, str]


@contextmanager
def race(
    model: str, path: Path, phase: Phase, batch: int, folder: Path, compiler: str | None = None, threads: int = 1
) -> Iterator[Race]:
    """All that can run the model file, on one sample (or batch) of random values.

    Args:
        model: its name in the zoo, which says the loss.
        folder: where others may leave files.
        threads: for each of them; if it is more than one, edgetrain takes part with one as well.
    """
    loss = LOSS.get(model, "cross-entropy")
    scheme, cache = "all" if phase == "train" else "none", load_board("host").cpu.cache
    options = Options(scheme, TrainingOptions(loss), batch=batch, name="model", cache=cache)
    compiled = compile_model(path, options)
    side = compiled.model.interface[compiled.model.inputs[0]]
    out = compiled.model.interface[compiled.model.outputs[0]]
    given, label = next(random_samples(compiled, 0))
    # Where tensors of their own would begin.
    inputs, outside = [at_cache_line(value) for value in given], at_cache_line(side.outward(given[0]))
    found: list[Contestant] = []
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        chosen = find(compiler, "host")
        for count in sorted({threads, 1}, reverse=True):
            backend = stack.enter_context(HostBackend(compiled, compiler, threads=count))
            flags = (*host_flags("-O3"), *chosen.native_flags(), *(THREADS if count > 1 else ()))
            built = f"{chosen.version()}, {' '.join(flags)}"
            if label is None:
                answer = {"output": out.outward(backend.infer(inputs)[0])}
            else:
                answer = _own_step(backend, inputs, label)
            name = OWN if count == threads else f"{OWN}, one thread"
            found.append(Contestant(name, __version__, built, backend.bound(inputs, label), answer))
        others: dict[str, Callable[[], list[Contestant]]] = {
            "PyTorch": lambda: [_pytorch(path, phase, outside, label, loss, threads)]
        }
        if phase == "infer":
            others["onnxruntime"] = lambda: _onnxruntime(path, outside, threads)
        if phase == "infer" and batch == 1:
            others["emx-onnx-cgen"] = lambda: [_emx(path, outside, folder, chosen, out.shape)]
        for name, prepared in others.items():
            try:
                found += prepared()
            except ImportError:
                left_out[name] = "not installed"
            except (NoFormError, BackendError) as error:
                left_out[name] = str(error)
        yield Race(model, phase, batch, tuple(found), left_out)


def _own_step(backend: HostBackend, inputs: list[Array], label: Array) -> dict[str, Array]:
    """Loss and changes of one step; the weights are as before it."""
    before = backend.state()
    backend.learning_rate = _COMPARED_RATE
    status, loss = backend.train_step(inputs, label)
    if status != "ET_OK":
        raise AssertionError(f"a training step of random values gave {status}")
    after = backend.state()
    backend.set_state(before)
    backend.learning_rate = _TIMED_RATE
    answer: dict[str, Array] = {"loss": np.float32(loss).reshape(1)}
    for name, origin in backend.compiled.model.origins.items():
        if name in after:
            change = np.zeros(origin.shape, np.float32).reshape(-1)
            change[origin.index.reshape(-1)] = (after[name] - before[name]).reshape(-1)
            answer[origin.name] = change.reshape(origin.shape)
    return answer


def _onnxruntime(path: Path, x: Array, threads: int) -> list[Contestant]:
    """As most people call it, and with buffers that it need not make again and again."""
    other = Session(path, x, threads)
    how, answer = "float32, CPU, all optimizations of its graph", {"output": other.output()}
    return [
        Contestant("onnxruntime", other.version, f"run(), {how}", other.plain_call(), answer),
        Contestant("onnxruntime, bound", other.version, f"run_with_iobinding(), {how}", other.call(), answer),
    ]


def _emx(path: Path, x: Array, folder: Path, compiler: Compiler, output_shape: tuple[int, ...]) -> Contestant:
    other = EmxModel(path, folder, compiler, output_shape)
    call = other.call(x)
    call()
    how = f"{compiler.version()}, {' '.join(other.flags)}"
    return Contestant("emx-onnx-cgen", other.version, how, call, {"output": other.output()})


def _pytorch(path: Path, phase: Phase, x: Array, label: Array | None, loss: str, threads: int) -> Contestant:
    model = TorchModel(read_outline(path), threads)
    if phase == "infer":
        infer = model.inference(x)
        return Contestant("PyTorch", model.version, "eager, inference_mode", infer, {"output": infer().numpy()})
    assert label is not None
    before = {name: weight.detach().numpy().copy() for name, weight in model.weights.items()}
    reached = model.training(x, label, _COMPARED_RATE, loss)()
    answer: dict[str, Array] = {"loss": np.float32(reached.item()).reshape(1)}
    for name, weight in model.weights.items():
        answer[name] = weight.detach().numpy() - before[name]
        weight.data.copy_(model.torch.from_numpy(before[name]))
    call = model.training(x, label, _TIMED_RATE, loss)
    return Contestant("PyTorch", model.version, "eager, SGD: zero_grad, forward, backward, step", call, answer)
