"""How each method is trained for the table of accuracies: one row per method and data set.

A recipe is a few stages, each trained through generated C on this PC and handed on to the next as an ONNX file; the
last one may only compile (int8 after float training).
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Stage:
    """One training, or with `epochs` 0 one compilation for inference.

    Attributes:
        quant: as in --quant.
        scheme: of the learning rate: cosine, linear or constant.
        recalibrate: take batch-norm statistics again after training, with the weights of inference.
        save: as in --save.
    """

    quant: str
    optimizer: str
    learning_rate: float
    epochs: int
    schedule: str = "cosine"
    recalibrate: bool = False
    save: str = ""


@dataclass(frozen=True)
class Recipe:
    """A method as it is measured.

    Attributes:
        method: name of the row.
        model: of the zoo.
        bar: how many points below float32 are allowed; None where there is no bar.
    """

    method: str
    model: str
    stages: tuple[Stage, ...]
    bar: float | None = None
    batch: int = 64


_MOMENTUM = "sgd:momentum=0.9,weight_decay=1e-4"


def _float(epochs: int, quant: str = "none") -> Stage:
    return Stage(quant, _MOMENTUM, 0.05, epochs)


def _adam(quant: str, rate: float, epochs: int, schedule: str = "cosine", recalibrate: bool = False) -> Stage:
    return Stage(quant, "adam", rate, epochs, schedule, recalibrate)


def _table(
    model: str, block_model: str, epochs: int, block_epochs: tuple[int, int], plain_rate: float, batch: int = 64
) -> tuple[Recipe, ...]:
    """The methods on one model; A&B BNN on its own, which has the blocks that the method is about.

    Args:
        plain_rate: of plain SGD, for fixed8.
    """
    first, second = block_epochs
    blocks = (_adam("ab-bnn:step=1", 5e-3, first, "linear"), _adam("ab-bnn", 5e-3, second, "linear"))
    strict = (_adam("ab-bnn:strict,step=1", 5e-3, first, "linear"), _adam("ab-bnn:strict", 5e-3, second, "linear"))
    recipes = (
        Recipe("float32", model, (_float(epochs),)),
        Recipe("fp16", model, (_float(epochs, "fp16"),), 0.2),
        Recipe("bf16", model, (_float(epochs, "bf16"),), 0.2),
        Recipe("fixed16", model, (_float(epochs, "fixed16"),), 0.2),
        Recipe("int8", model, (_float(epochs), Stage("int8", "sgd", 0.0, 0)), 0.15),
        Recipe("fixed8", model, (Stage("fixed8", "sgd", plain_rate, epochs),), 0.4),
        Recipe("dorefa w2a4g8", model, (_adam("dorefa:w2a4g8", 5e-3, epochs),), 0.6),
        Recipe("dorefa w1a2g6", model, (_adam("dorefa:w1a2g6", 5e-3, epochs),), 0.8),
        Recipe("dorefa w1a2g6 int16", model, (Stage("dorefa:w1a2g6,master=int16", "sgd", 1.0, epochs),), 0.8),
        Recipe("dorefa w1a1g6", model, (_adam("dorefa:w1a1g6", 5e-3, epochs),), 1.5),
        Recipe("binaryconnect det", model, (_adam("binaryconnect:det", 3e-3, epochs),), 0.5),
        Recipe("binaryconnect stoch", model, (_adam("binaryconnect:stoch", 3e-3, epochs, recalibrate=True),), 0.8),
        Recipe("ab-bnn", block_model, blocks, 1.2),
        Recipe("ab-bnn strict", block_model, strict, 1.6),
    )
    return tuple(replace(recipe, batch=batch) for recipe in recipes)


def _without_integers(recipes: tuple[Recipe, ...]) -> tuple[Recipe, ...]:
    """Without dorefa on integers, which knows no depthwise layers."""
    return tuple(recipe for recipe in recipes if "master=int16" not in recipe.stages[0].quant)


def _without_bars(recipes: tuple[Recipe, ...]) -> tuple[Recipe, ...]:
    return tuple(replace(recipe, bar=None) for recipe in recipes)


def _saved(model: str, rate: float, epochs: int) -> tuple[Recipe, ...]:
    """Forms of saved tensors, as a board trains: batch 1, plain SGD, every weight updated at once.

    The second row differs from the first by a millionth in its rate: how far two runs of no difference come apart.
    """
    forms = {
        "float32": ("", rate),
        "float32, nudged": ("", round(rate + 1e-6, 6)),
        "recompute": ("/relu[2-8]=recompute", rate),
        "fp16": ("fp16", rate),
        "bf16": ("bf16", rate),
        "int8": ("int8", rate),
        "fp16, recompute": ("/relu1=fp16,/relu[2-8]=recompute", rate),
    }
    return tuple(
        Recipe(name, model, (Stage("none", "sgd", learning_rate, epochs, save=save),), batch=1)
        for name, (save, learning_rate) in forms.items()
    )


def _halves(model: str, rate: float, epochs: int) -> tuple[Recipe, ...]:
    """Weights of 16 bits as a board trains them: batch 1, plain SGD, a rate that falls to 0."""
    quants = {"float32": "none", "fp16 stored": "fp16:master=stored",
              "fp16 native, stored": "fp16:accumulate=native,master=stored"}  # fmt: skip
    return tuple(
        Recipe(name, model, (Stage(quant, "sgd", rate, epochs),), batch=1) for name, quant in quants.items()
    )


RECIPES = {
    "mnist": _table("mnist-cnn", "ab-net", 8, (6, 8), 0.2),
    "mnist-flat": _halves("mlp", 0.01, 3),
    "kws": _without_bars(_without_integers(_table("ds-cnn-bn", "ds-cnn-bn", 40, (20, 20), 1.0))),
    "cifar": _without_bars(_table("resnet8-bn", "ab-net-cifar", 6, (3, 4), 0.5, batch=32)),
    "kws-saved": _saved("ds-cnn", 0.05, 40),
}
