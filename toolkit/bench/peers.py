"""What other tools were measured to need for the same models: figures to stand beside ours, with where they come from.

Measured by this project on 2026-11-21, batch 1, float32, the same shapes as in the zoo: rv32imafc, gcc 12.2 with
picolibc, `-O3 -ffast-math`, retired instructions in QEMU 7.2 with -icount shift=0. They are kept here because none of
these tools installs with one command for bare RISC-V; those that install on a PC are run again by `bench host`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """One tool and one model.

    Attributes:
        phase: "infer" or "train", as `toolkit.bench.rv32.Row` has it.
        per_mac: retired instructions; None where it was not counted, or what ran was another network.
        flash: bytes of code and weights; 0 where weights are in RAM and the code is not told from the rest.
        method: "none" for float32, as `Row.quant` has it.
        ram: bytes of activations, and for training weights and gradients as well.
    """

    tool: str
    model: str
    phase: str
    per_mac: float | None
    flash: int
    ram: int
    note: str = ""
    method: str = "none"


_KB = 1000  # of parameters: 4 bytes each, rounded as they were noted down

PEERS = (
    Peer("onnx2c", "mlp", "infer", 6.03, 407 * _KB + 674, 1000),
    Peer("emx-onnx-cgen", "mlp", "infer", 6.03, 407 * _KB + 668, 1200),
    Peer("onnx2c", "cnn", "infer", 10.22, 36 * _KB + 2700, 50176),
    Peer("emx-onnx-cgen", "cnn", "infer", 7.35, 36 * _KB + 2800, 88016),
    Peer("Deeploy, generic", "cnn", "infer", 12.52, 0, 53352),
    Peer("onnx2c", "ds-cnn", "infer", 6.93, 90 * _KB + 4200, 64000),
    Peer("emx-onnx-cgen", "ds-cnn", "infer", 5.69, 90 * _KB + 6600, 576944),
    Peer("Deeploy, generic", "ds-cnn", "infer", 22.36, 0, 82392),
    Peer("onnx2c", "resnet8", "infer", 8.61, 311 * _KB + 7300, 196608),
    Peer("emx-onnx-cgen", "resnet8", "infer", 7.19, 311 * _KB + 9100, 754384),
    Peer("Deeploy, generic", "resnet8", "infer", 10.74, 0, 217384, "its outputs are wrong"),
    Peer("onnx2c", "mobilenetv1-0.25", "infer", 6.36, 843 * _KB + 11300, 294912),
    Peer("emx-onnx-cgen", "mobilenetv1-0.25", "infer", 5.80, 843 * _KB + 19600, 1854608),
    Peer("CMSIS-NN, plain C, int8", "ds-cnn", "infer", 6.10, 0, 0, "kernels alone", "int8"),
    Peer("CMSIS-NN, plain C, int8", "resnet8", "infer", 5.22, 0, 0, "kernels alone", "int8"),
    Peer("AIfES", "mlp", "train", 60.9, 0, 407080 + 812808, "-O2"),
    Peer("PULP-TrainLib, one core", "mlp", "train", 10.0, 0, 819424, "leaves out the bias"),
    Peer("PULP-TrainLib, one core", "mlp", "train", 11.8, 0, 819424, "with its own optimizations"),
    Peer("AIfES", "cnn", "train", 42.9, 0, 36392 + 165168),
    Peer("PULP-TrainLib, one core", "cnn", "train", 16.5, 0, 245352, "its gradient of the bias is wrong"),
)

INTERPRETATION = (
    "MACs of a peer's training step are those of forward pass and both gradients, padding counted, as ours. Flash of a "
    "peer is code and weights, without start-up; ours is the whole firmware with its serial link. RAM of a peer is "
    "what it says or was seen to use, without stack; ours includes the stack."
)


def peers_of(model: str, phase: str, method: str = "none") -> tuple[Peer, ...]:
    """Those of one line."""
    return tuple(peer for peer in PEERS if (peer.model, peer.phase, peer.method) == (model, phase, method))
