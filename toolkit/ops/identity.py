"""Identity: the same tensor under another name."""

from __future__ import annotations

from toolkit.ops.base import ViewOp, op
from toolkit.ops.contexts import Import
from toolkit.ops.views import View


@op
class Identity(ViewOp):
    """y is x."""

    onnx = ("Identity",)

    @classmethod
    def seen_as(cls, node: Import) -> View:
        return node.view(0)
