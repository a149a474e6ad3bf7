"""ONNX models built from code: every shape and size known, random weights from a seed, nothing to download."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from toolkit.errors import UserError
from toolkit.zoo.models import MODELS

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["build", "describe", "nearest", "zoo_names"]


def zoo_names() -> tuple[str, ...]:
    """The models, smallest first."""
    return tuple(MODELS)


def describe(name: str) -> str:
    """One line about a model."""
    return MODELS[name].summary


def nearest(name: str) -> str:
    """The zoo model whose name resembles this one most."""
    return get_close_matches(name.lower(), zoo_names(), 1, cutoff=0.0)[0]


def build(
    name: str, input_shape: tuple[int, ...] | None = None, classes: int | None = None, seed: int = 0
) -> ModelProto:
    """A model with He-initialised weights, ONNX opset 17, batch dimension "N".

    Args:
        name: one of `zoo_names()`.
        input_shape: of one sample, as ONNX has it: (channels, height, width) or (features,). Default: the model's own.
        classes: size of the output. Default: the model's own.
        seed: of the weights; the same seed gives the same bytes.

    Raises:
        UserError: no such model, or a shape that it cannot take.
    """
    from toolkit.zoo.layers import Layers

    if name not in MODELS:
        raise UserError(
            f"the zoo has no model named '{name}'",
            hint=f"did you mean {nearest(name)}? The zoo has {', '.join(zoo_names())}",
        )
    model = MODELS[name]
    shape = tuple(input_shape) if input_shape is not None else model.input_shape
    if len(shape) != len(model.input_shape) or min(shape) < 1:
        wanted = " x ".join(("channels", "height", "width") if len(model.input_shape) == 3 else ("features",))
        raise UserError(
            f"{name} takes samples of shape {wanted}, not {'x'.join(map(str, shape))}",
            hint=f"its own is --input-shape {'x'.join(map(str, model.input_shape))}",
        )
    if classes is not None and classes < 1:
        raise UserError(f"{classes} classes", hint="--classes is 1 or more")
    layers = Layers(name, shape, seed)
    model.body(layers, classes or model.classes)
    return layers.finish()
