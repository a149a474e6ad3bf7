"""mask:approx: ReGELU2 and ReSiLU2, steps whose integral is near the activation itself (arXiv 2406.16282, table 1).

    GELU, SiLU  ~  sum over i of a[i] * relu(x - c[i]), the a[i] adding up to 1

so the derivative is the sum of the a[i] whose c[i] lies below x: four levels, 2 bits. Few-Bit (mask:2) comes nearest to
the derivative; this comes nearest to the function, and asks less of a training that goes far.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.ir import Node
from toolkit.ops.activation_mask import ActivationMask
from toolkit.train.codecs.codec import codec
from toolkit.train.codecs.mask import MaskCodec, Steps, exact_steps, reads_beside_gradient, smooth_name
from toolkit.train.codecs.saved import Saved

# c, and the sums of a.
TABLES = {
    "gelu": (
        (-3.1858810036855245, -0.001178821281161997, 3.190832613414926),
        (0.0, -0.04922261145617846, 1.04874059508555, 1.0),
    ),
    "silu": (
        (-6.3050461001646445, -0.0008684942046214787, 6.325815242089708),
        (0.0, -0.04060357190528599, 1.040321856624382, 1.0),
    ),
}


@codec
@dataclass(frozen=True)
class ApproxBp(MaskCodec):
    """2 bits an element; exact in 1 where that is enough."""

    keyword = "mask:approx"
    summary = "2 bits of what GELU or SiLU read: steps whose integral is near the function"

    def steps(self, saved: Saved, reader: Node) -> Steps | None:
        exact = exact_steps(reader, saved.views)
        if exact is not None or not reads_beside_gradient(reader, saved.views):
            return exact
        name = smooth_name(reader.op)
        if name not in TABLES:
            return None
        borders, levels = TABLES[name]
        return Steps(ActivationMask(2, borders, (0, 1, 2, 3)), levels)
