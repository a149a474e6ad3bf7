"""Training: what is computed, what is not, and what happens when a number is not finite (numerics N8)."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.errors import UserError
from toolkit.ir import Array
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim.backend import Backend, open_backend
from toolkit.train.schemes import select
from toolkit.train.step import TrainingOptions

BACKENDS = ["reference", "host"]


def _compiled(model: str = "digits-cnn", train: str = "all", **training: object) -> Compiled:
    return compile_model(model, Options(train=train, training=TrainingOptions(**training)))  # type: ignore[arg-type]


def _sample(compiled: Compiled, seed: int = 0) -> tuple[list[Array], Array]:
    generator = np.random.default_rng(seed)
    label = compiled.program.label
    assert label is not None
    inputs = [generator.standard_normal(p.shape).astype(np.float32) for p in compiled.program.inputs]
    return inputs, np.ones(label.shape, label.dtype)


def _unchanged(backend: Backend, before: dict[str, Array]) -> bool:
    after = backend.state()
    return all(after[name].tobytes() == before[name].tobytes() for name in before)


@pytest.mark.parametrize("on", BACKENDS)
def test_a_loss_that_is_not_finite_changes_nothing(on: str) -> None:
    compiled = _compiled("mlp", optimizer="adam")
    with open_backend(compiled, on) as backend:
        inputs, label = _sample(compiled)
        before = backend.state()
        inputs[0].reshape(-1)[3] = np.inf
        assert backend.train_step(inputs, label)[0] == "ET_NONFINITE_LOSS"
        assert _unchanged(backend, before)
        assert backend.step == 0


@pytest.mark.parametrize("on", BACKENDS)
@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_out_of_range_changes_nothing(on: str, label: int) -> None:
    compiled = _compiled()
    with open_backend(compiled, on) as backend:
        before = backend.state()
        inputs, _ = _sample(compiled)
        assert backend.train_step(inputs, np.array([label], np.int32))[0] == "ET_BAD_LABEL"
        assert _unchanged(backend, before)


@pytest.mark.parametrize("on", BACKENDS)
@pytest.mark.parametrize("training", [{"atomic": True}, {"accumulate": 2}, {}])
def test_a_gradient_that_is_not_finite_is_never_applied(on: str, training: dict[str, object]) -> None:
    compiled = _compiled("mlp", batch_norm="batch", **training)
    inputs, label = _sample(compiled)
    inputs = [np.full_like(inputs[0], 3e38)]
    with open_backend(compiled, on) as backend:
        names = list(backend.state())
        first = next(n for n in names if backend.state()[n].shape[:1] == (784,) and "accumulated" not in n)
        second = next(n for n in names if backend.state()[n].shape == (128, 10) and "accumulated" not in n)
        state = backend.state()
        backend.set_state({first: state[first] * np.float32(1e-38), second: np.sign(state[second]) * np.float32(1e3)})
        label[:] = np.argmin(backend.infer(inputs)[0])
        before = backend.state()
        status, _ = backend.train_step(inputs, label)
        if "accumulate" in training:
            assert status == "ET_OK"
            assert backend.update() == "ET_NONFINITE_GRADIENT"
            assert _unchanged(backend, before), "weights as before, accumulators emptied"
        else:
            assert status == "ET_NONFINITE_GRADIENT"
            assert backend.state()[first].tobytes() == before[first].tobytes()
            if "atomic" in training:
                assert _unchanged(backend, before)
        assert all(np.isfinite(value).all() for value in backend.state().values())


def _with_one_huge_input(backend: Backend, inputs: list[Array]) -> tuple[str, int]:
    """Makes products with one input overflow in the weight gradient, and nothing else; gives (weight, its row)."""
    state, row = backend.state(), 5
    first = next(name for name in state if state[name].shape == (784, 128))
    second = next(name for name in state if state[name].shape == (128, 10))
    weights = state[first].copy()
    weights[row] = 0
    backend.set_state({first: weights, second: state[second] * np.float32(100)})
    inputs[0].reshape(-1)[row] = 3e38
    return first, row


@pytest.mark.parametrize("optimizer", ["sgd", "sgd:weight_decay=0.01"])
def test_updates_at_once_leave_out_the_weights_whose_gradient_is_not_finite(optimizer: str) -> None:
    compiled = _compiled("mlp", optimizer=optimizer)
    results = []
    for on in BACKENDS:
        inputs, label = _sample(compiled)
        with open_backend(compiled, on) as backend:
            first, row = _with_one_huge_input(backend, inputs)
            before = backend.state()[first]
            assert backend.train_step(inputs, label)[0] == "ET_NONFINITE_GRADIENT"
            assert backend.step == 0
            results.append(backend.state())
        after = results[-1][first]
        changed = after.view(np.uint32) != before.view(np.uint32)
        assert np.isfinite(after).all()
        learning = changed[:row].any(axis=0) | changed[row + 1 :].any(axis=0)
        assert (learning & ~changed[row]).any(), "elsewhere their columns were updated"
    for name, value in results[0].items():
        assert value.tobytes() == results[1][name].tobytes(), name


@pytest.mark.parametrize("fma", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "sgd:weight_decay=0.01"])
@pytest.mark.parametrize(("model", "batch", "on"), [
    ("mlp", 1, "reference"), ("mlp", 1, "host"), ("mlp", 3, "host"), ("digits-cnn", 2, "reference"),
    ("lenet", 1, "host"), ("ds-cnn", 1, "host"), ("small-resnet", 1, "host"),
])  # fmt: skip
def test_an_update_without_a_gradient_in_memory_gives_the_same_bits(
    model: str, batch: int, on: str, optimizer: str, fma: bool
) -> None:
    states = []
    for atomic in (False, True):
        training = TrainingOptions(optimizer=optimizer, atomic=atomic)
        compiled = compile_model(model, Options(train="all", batch=batch, fma=fma, training=training))
        steps = [step.kernel for step in compiled.program.functions["train_step"].steps]
        assert any("_update_" in kernel for kernel in steps) is not atomic
        assert any("_grad_weight_" in kernel for kernel in steps) is atomic
        with open_backend(compiled, on) as backend:
            for seed in (0, 1):
                assert backend.train_step(*_sample(compiled, seed))[0] == "ET_OK"
            states.append(backend.state())
    for name, value in states[0].items():
        assert value.tobytes() == states[1][name].tobytes(), name


def test_training_the_mlp_needs_little_more_than_its_weights() -> None:
    assert _compiled("mlp").program.arena_bytes < 16 * 1024


def test_what_is_not_trained_costs_nothing() -> None:
    everything, head = _compiled("lenet"), _compiled("lenet", train="head")
    inference = head.program.functions["infer"].macs
    last = 84 * 10
    assert head.program.functions["train_step"].macs == inference + last
    assert head.program.params_bytes == (84 * 10 + 10) * 4
    assert everything.program.functions["train_step"].macs > 2 * inference
    assert head.program.functions["train_step"].peak <= head.program.functions["infer"].peak
    assert head.program.arena_bytes == head.program.functions["infer"].peak < everything.program.arena_bytes


def test_the_lowest_trained_layer_computes_no_data_gradient() -> None:
    kernels = [step.kernel for step in _compiled("mlp").program.functions["train_step"].steps]
    assert sum("grad_input" in kernel for kernel in kernels) == 1


def test_accumulation_is_the_mean_of_the_gradients() -> None:
    one, two = _compiled(batch_norm="batch"), compile_model("digits-cnn", Options(train="all", batch=2))
    accumulating = _compiled(accumulate=2)
    a, b = _sample(one, 1), _sample(one, 2)
    with open_backend(two, "reference") as batch, open_backend(accumulating, "reference") as steps:
        batch.train_step([np.concatenate([a[0][0], b[0][0]])], np.concatenate([a[1], b[1]]))
        for inputs, label in (a, b):
            assert steps.train_step(inputs, label)[0] == "ET_OK"
        assert steps.update() == "ET_OK"
        for name, value in batch.state().items():
            assert np.abs(value - steps.state()[name]).max() < 1e-6


@pytest.mark.parametrize(
    ("scheme", "count"),
    [("all", 6), ("head", 2), ("last:2", 4), ("bias", 3), ("layers:*", 6), ("none", 0), ("bias+head", 4)],
)
def test_schemes_select_what_they_say(scheme: str, count: int) -> None:
    from toolkit.pipeline import load

    assert len(select(load("digits-cnn", Options()), scheme)) == count


@pytest.mark.parametrize("scheme", ["everything", "last:0", "last:9", "last:x", "layers:", "layers:nothing", ""])
def test_a_scheme_that_names_nothing_is_the_users_mistake(scheme: str) -> None:
    with pytest.raises(UserError) as error:
        _compiled(train=scheme)
    assert error.value.hint


@pytest.mark.parametrize("optimizer", ["sgdd", "sgd:momentun=0.9", "sgd:momentum=x", "sgd:nesterov", "adam:beta1"])
def test_an_optimizer_that_is_not_understood_is_the_users_mistake(optimizer: str) -> None:
    with pytest.raises(UserError):
        _compiled(optimizer=optimizer)


@pytest.mark.parametrize("on", BACKENDS)
def test_training_learns(on: str) -> None:
    compiled = _compiled(optimizer="adam")
    inputs, label = _sample(compiled)
    with open_backend(compiled, on) as backend:
        losses = [float(backend.train_step(inputs, label)[1]) for _ in range(20)]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.oracle
def test_one_step_of_lenet_is_pytorchs() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'edgetrain[oracle]')")
    compiled = compile_model("lenet", Options(train="all", batch=4))
    inputs, _ = _sample(compiled)
    label = np.array([3, 1, 4, 1], np.int32)
    with open_backend(compiled, "host") as backend:
        before = backend.state()
        backend.learning_rate = 0.5
        _, loss = backend.train_step(inputs, label)
        after = backend.state()
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in before.items()}
    matrices = [w for w in weights.values() if w.ndim > 1]
    biases = [w for w in weights.values() if w.ndim == 1]
    x = torch.tensor(inputs[0]).permute(0, 3, 1, 2)
    for number, (w, b) in enumerate(zip(matrices, biases, strict=True)):
        if w.ndim == 4:
            x = torch.nn.functional.conv2d(x, w.permute(3, 2, 0, 1), b, padding=2 if number == 0 else 0)
            x = torch.nn.functional.max_pool2d(torch.relu(x), 2)
        else:
            # Rows of the first dense weight follow the channels-last order of what is flattened.
            x = (x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else torch.relu(x)) @ w + b
    expected = torch.nn.functional.cross_entropy(x, torch.tensor(label).long())
    expected.backward()
    assert abs(expected.item() - loss) < 1e-5
    for name, weight in weights.items():
        gradient = (before[name] - after[name]) / 0.5
        assert np.abs(gradient - weight.grad.numpy()).max() < 2e-4 * max(1.0, np.abs(gradient).max()), name
