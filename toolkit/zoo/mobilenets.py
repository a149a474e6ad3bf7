"""MobileNetV2, MobileNetV3-Small and a network after ProxylessNAS, at widths for microcontrollers.

All are stacks of inverted residual blocks: a 1x1 convolution widens, a depthwise one filters, a 1x1 convolution narrows
again, each with its BatchNormalization; the first two with an activation; and a way round where the shape stays. The
blocks, their order and their expansions are those of the papers; channels are a fraction of theirs, in multiples of 8.

Images below 64 pixels keep their size in the first of the stages that halve it in the papers (of two in MobileNetV3),
so that 32x32 ends at 2x2 (4x4 in MobileNetV3) where 96x96 ends at 3x3.

Sandler et al., arXiv 1801.04381, table 2; Howard et al., arXiv 1905.02244, table 2; Cai et al., arXiv 1812.00332,
figure 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.zoo.layers import Layers

SMALL_IMAGE = 64


@dataclass(frozen=True)
class Block:
    """An inverted residual block.

    Attributes:
        widened, channels: in the middle and at the end; no first convolution where the middle is as wide as the input.
        squeezed: hidden channels of the squeeze-excite part; 0 for none.
        activate: adds the activation.
    """

    widened: int
    channels: int
    kernel: int
    stride: int
    squeezed: int
    activate: Callable[[Layers], None]


def multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8 that is no less than 9/10 of the number, at least 8."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def mobilenetv2(layers: Layers, classes: int) -> None:
    """MobileNetV2: ReLU6, kernels of 3, expansions of 1 and 6."""
    # expansion, channels of the paper, kernels of the blocks, stride of the first block
    stages = (
        (1, 16, (3,), 1), (6, 24, (3, 3), 2), (6, 32, (3,) * 3, 2), (6, 64, (3,) * 4, 2), (6, 96, (3,) * 3, 1),
        (6, 160, (3,) * 3, 2), (6, 320, (3,), 1),
    )  # fmt: skip
    _relu6_network(layers, classes, [((expansion,) * len(k), c, k, s) for expansion, c, k, s in stages])


def proxyless(layers: Layers, classes: int) -> None:
    """What the search of ProxylessNAS found for a phone: ReLU6, kernels of 3, 5 and 7, expansions of 3 and 6."""
    stages = [
        ((1,), 16, (3,), 1), ((3, 3), 32, (5, 3), 2), ((3, 3, 3, 3), 40, (7, 3, 5, 5), 2),
        ((6, 3, 3, 3), 80, (7, 5, 5, 5), 2), ((6, 3, 3, 3), 96, (5, 5, 5, 5), 1), ((6, 6, 3, 3), 192, (7, 7, 7, 7), 2),
        ((6,), 320, (7,), 1),
    ]  # fmt: skip
    _relu6_network(layers, classes, stages)


def mobilenetv3_small(layers: Layers, classes: int) -> None:
    """MobileNetV3-Small: ReLU, then hard-swish; squeeze-excite; kernels of 3 and 5."""
    width, small = 5 / 16, min(layers.shape[1:]) < SMALL_IMAGE
    _conv(layers, multiple_of_8(16 * width), 3, 2)
    layers.hard_swish()
    for kernel, widened, channels, squeezes, swish, stride in (
        (3, 16, 16, True, False, 1 if small else 2), (3, 72, 24, False, False, 1 if small else 2),
        (3, 88, 24, False, False, 1), (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1),
        (5, 240, 40, True, True, 1), (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1),
        (5, 288, 96, True, True, 2), (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
    ):  # fmt: skip
        middle = multiple_of_8(widened * width)
        activate = type(layers).hard_swish if swish else type(layers).relu
        squeezed = multiple_of_8(middle / 4) if squeezes else 0
        inverted_residual(layers, Block(middle, multiple_of_8(channels * width), kernel, stride, squeezed, activate))
    _conv(layers, multiple_of_8(576 * width), 1, 1)
    layers.hard_swish()
    layers.global_average_pool()
    layers.dense(multiple_of_8(1024 * width))
    layers.hard_swish()
    layers.dense(classes)


def _relu6_network(
    layers: Layers, classes: int, stages: list[tuple[tuple[int, ...], int, tuple[int, ...], int]]
) -> None:
    """First convolution, stages of (expansion of each block, channels, kernel of each block, stride), last one."""
    width, small = 1 / 4, min(layers.shape[1:]) < SMALL_IMAGE
    _conv(layers, multiple_of_8(32 * width), 3, 2)
    layers.relu6()
    for number, (expansions, channels, kernels, stride) in enumerate(stages):
        for index, (expansion, kernel) in enumerate(zip(expansions, kernels, strict=True)):
            step = 1 if index or (small and number == 1) else stride
            widened, narrow = layers.shape[0] * expansion, multiple_of_8(channels * width)
            inverted_residual(layers, Block(widened, narrow, kernel, step, 0, type(layers).relu6))
    _conv(layers, multiple_of_8(1280 * width), 1, 1)
    layers.relu6()
    layers.global_average_pool()
    layers.dense(classes)


def inverted_residual(layers: Layers, block: Block) -> None:
    """Adds a block."""
    entry, entry_shape = layers.value, layers.shape
    if block.widened != entry_shape[0]:
        _conv(layers, block.widened, 1, 1)
        block.activate(layers)
    _conv(layers, block.widened, block.kernel, block.stride, groups=block.widened)
    block.activate(layers)
    if block.squeezed:
        layers.squeeze_excite(block.squeezed)
    _conv(layers, block.channels, 1, 1)
    if layers.shape == entry_shape:
        layers.add(entry)


def _conv(layers: Layers, channels: int, kernel: int, stride: int, groups: int = 1) -> None:
    layers.conv(channels, kernel, stride, groups=groups, bias=False)
    layers.batch_norm()
