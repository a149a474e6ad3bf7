"""The models of the zoo, as sequences of layers.

The MLPerf Tiny models (ds-cnn, resnet8, mobilenetv1-0.25, autoencoder) have the shapes of the reference models with
BatchNormalization folded into weights and biases, as they are deployed; multiply-accumulates and sizes are therefore
those of the deployed models. small-resnet, mnist-cnn, the models whose name ends in -bn and those of mobilenets.py keep
theirs: those are made to be trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from toolkit.zoo.mobilenets import mobilenetv2, mobilenetv3_small, proxyless

if TYPE_CHECKING:
    from toolkit.zoo.layers import Layers


@dataclass(frozen=True)
class ZooModel:
    """One model.

    Attributes:
        input_shape: of one sample, (channels, height, width) or (features,).
        classes: size of the output.
        body: adds the layers.
    """

    summary: str
    input_shape: tuple[int, ...]
    classes: int
    body: Callable[[Layers, int], None]


def _conv_pool_twice(layers: Layers, classes: int) -> None:
    for channels in (8, 16):
        layers.conv(channels, 3)
        layers.relu()
        layers.max_pool()
    layers.flatten()
    layers.dense(classes)


def _mnist_cnn(layers: Layers, classes: int) -> None:
    for channels in (16, 32):
        layers.conv(channels, 3, bias=False)
        layers.batch_norm()
        layers.relu()
        layers.max_pool()
    layers.flatten()
    layers.dense(64, bias=False)
    layers.batch_norm()
    layers.relu()
    layers.dense(classes)


def _mlp(layers: Layers, classes: int) -> None:
    layers.dense(128)
    layers.relu()
    layers.dense(classes)


def _lenet(layers: Layers, classes: int) -> None:
    layers.conv(6, 5)
    layers.relu()
    layers.max_pool()
    layers.conv(16, 5, padding="valid")
    layers.relu()
    layers.max_pool()
    layers.flatten()
    for units in (120, 84):
        layers.dense(units)
        layers.relu()
    layers.dense(classes)


def _residual_block(layers: Layers, channels: int, stride: int, batch_norm: bool) -> None:
    """Two 3x3 convolutions and a way round them; a 1x1 convolution on it where the shape changes."""

    def conv(kernel: int, stride: int) -> None:
        layers.conv(channels, kernel, stride, bias=not batch_norm)
        if batch_norm:
            layers.batch_norm()

    entry, entry_shape = layers.value, layers.shape
    conv(3, stride)
    layers.relu()
    conv(3, 1)
    main, main_shape = layers.value, layers.shape
    layers.value, layers.shape = entry, entry_shape
    if stride != 1 or entry_shape[0] != channels:
        conv(1, stride)
    way_round = layers.value
    layers.value, layers.shape = main, main_shape
    layers.add(way_round)
    layers.relu()


def _small_resnet(layers: Layers, classes: int) -> None:
    layers.conv(8, 3, bias=False)
    layers.batch_norm()
    layers.relu()
    _residual_block(layers, 8, 1, batch_norm=True)
    _residual_block(layers, 16, 2, batch_norm=True)
    layers.global_average_pool()
    layers.dense(classes)


def _resnet8(layers: Layers, classes: int, batch_norm: bool = False) -> None:
    layers.conv(16, 3, bias=not batch_norm)
    _activation(layers, batch_norm)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        _residual_block(layers, channels, stride, batch_norm)
    layers.global_average_pool()
    layers.dense(classes)


def _single_block(layers: Layers, channels: int, stride: int) -> None:
    """One 3x3 convolution and a way round it: averages and a 1x1 convolution where the shape changes."""
    entry, entry_shape = layers.value, layers.shape
    layers.conv(channels, 3, stride, bias=False)
    main, main_shape = layers.value, layers.shape
    layers.value, layers.shape = entry, entry_shape
    if stride != 1:
        layers.average_pool(stride)
    if entry_shape[0] != channels:
        layers.conv(channels, 1, bias=False)
    way_round = layers.value
    layers.value, layers.shape = main, main_shape
    layers.add(way_round)
    layers.relu()


def _ab_net(layers: Layers, classes: int, blocks: tuple[tuple[int, int], ...]) -> None:
    layers.conv(16, 3)
    layers.average_pool()
    for channels, stride in blocks:
        _single_block(layers, channels, stride)
    layers.flatten()
    layers.dense(classes)


def _activation(layers: Layers, batch_norm: bool) -> None:
    if batch_norm:
        layers.batch_norm()
    layers.relu()


def _separable(layers: Layers, channels: int, stride: int, batch_norm: bool = False) -> None:
    layers.conv(layers.shape[0], 3, stride, groups=layers.shape[0], bias=not batch_norm)
    _activation(layers, batch_norm)
    layers.conv(channels, 1, bias=not batch_norm)
    _activation(layers, batch_norm)


def _ds_cnn(layers: Layers, classes: int, batch_norm: bool = False) -> None:
    layers.conv(64, (10, 4), 2, bias=not batch_norm)
    _activation(layers, batch_norm)
    for _ in range(4):
        _separable(layers, 64, 1, batch_norm)
    layers.global_average_pool()
    layers.dense(classes)


def _mobilenet(layers: Layers, classes: int) -> None:
    layers.conv(8, 3, 2)
    layers.relu()
    blocks = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *(((128, 1),) * 5), (256, 2), (256, 1))
    for channels, stride in blocks:
        _separable(layers, channels, stride)
    layers.global_average_pool()
    layers.dense(classes)


def _autoencoder(layers: Layers, outputs: int) -> None:
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        layers.dense(units)
        layers.relu()
    layers.dense(outputs)


MODELS: dict[str, ZooModel] = {
    "digits-cnn": ZooModel("two 3x3 convolutions on 8x8 digits", (1, 8, 8), 10, _conv_pool_twice),
    "mlp": ZooModel("784-128-10, the smallest that learns MNIST well", (784,), 10, _mlp),
    "cnn": ZooModel("two 3x3 convolutions on 28x28 images", (1, 28, 28), 10, _conv_pool_twice),
    "mnist-cnn": ZooModel("convolutions with BatchNormalization, to compare quantizers", (1, 28, 28), 10, _mnist_cnn),
    "lenet": ZooModel("LeNet-5 with ReLU and max pooling", (1, 28, 28), 10, _lenet),
    "small-resnet": ZooModel("residual blocks with BatchNormalization, 16x16 images", (3, 16, 16), 10, _small_resnet),
    "ab-net": ZooModel(
        "residual blocks of one convolution, for A&B BNN on MNIST", (1, 28, 28), 10,
        partial(_ab_net, blocks=((16, 1), (32, 2), (32, 1))),
    ),
    "ab-net-cifar": ZooModel(
        "the same for CIFAR, five blocks", (3, 32, 32), 10,
        partial(_ab_net, blocks=((16, 1), (32, 2), (32, 1), (64, 2), (64, 1))),
    ),
    "autoencoder": ZooModel("anomaly detection of MLPerf Tiny", (640,), 640, _autoencoder),
    "ds-cnn": ZooModel("keyword spotting of MLPerf Tiny", (1, 49, 10), 12, _ds_cnn),
    "ds-cnn-bn": ZooModel(
        "ds-cnn before BatchNormalization is folded", (1, 49, 10), 12, partial(_ds_cnn, batch_norm=True)
    ),
    "mobilenetv1-0.25": ZooModel("person detection of MLPerf Tiny", (3, 96, 96), 2, _mobilenet),
    "mobilenetv3-small": ZooModel(
        "squeeze-excite and hard-swish, 5/16 of the paper's channels", (3, 32, 32), 10, mobilenetv3_small
    ),
    "mobilenetv3-small-96": ZooModel(
        "the same for grey images of 96x96", (1, 96, 96), 2, mobilenetv3_small
    ),
    "mobilenetv2": ZooModel("inverted residual blocks, 1/4 of the paper's channels", (3, 32, 32), 10, mobilenetv2),
    "mobilenetv2-96": ZooModel("the same for grey images of 96x96", (1, 96, 96), 2, mobilenetv2),
    "proxyless": ZooModel("blocks with kernels of 3, 5 and 7, after ProxylessNAS", (3, 32, 32), 10, proxyless),
    "proxyless-96": ZooModel("the same for grey images of 96x96", (1, 96, 96), 2, proxyless),
    "resnet8": ZooModel("image classification of MLPerf Tiny", (3, 32, 32), 10, _resnet8),
    "resnet8-bn": ZooModel(
        "resnet8 before BatchNormalization is folded", (3, 32, 32), 10, partial(_resnet8, batch_norm=True)
    ),
}
