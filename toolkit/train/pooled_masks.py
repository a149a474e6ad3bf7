"""A ReLU in front of a max pool: its gradient is taken behind the pool, where there are fewer elements.

A pass over the training graph. The pool's gradient goes to the elements that won their windows, and the pooled value
is such an element itself: whether the ReLU passes its gradient can be asked of the pooled value, which the next layer
keeps anyway. So the gradient is masked before the pool spreads it, and nothing is kept of the ReLU's output, not even a
bit an element. Every other element gets +0 either way, and a sum that starts at +0 stays +0 when zeros are added: no
bit of a result changes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from toolkit.ir import Graph, Node
from toolkit.ops.clip import ClipGrad
from toolkit.ops.max_pool import MaxPoolGrad, MaxPoolTraining
from toolkit.ops.relu import ReluGrad


def mask_behind_pools(graph: Graph) -> Graph:
    """The training step with mask(spread(dy), y) turned into spread(mask(dy, pooled y)) wherever that is no larger."""
    producers = {name: node for node in graph.nodes for name in node.outputs}
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    kept = {*graph.outputs, *graph.updates.values()}
    moved: dict[str, Node] = {}  # by the name of the node whose place each takes
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        if not isinstance(node.op, ReluGrad | ClipGrad):
            continue
        spreading, y = node.inputs
        spread = producers.get(spreading or "")
        if spread is None or spreading is None or not isinstance(spread.op, MaxPoolGrad):
            continue
        dy, position = spread.inputs
        pool = producers.get(position or "")
        if dy is None or pool is None or not isinstance(pool.op, MaxPoolTraining) or pool.inputs != (y,):
            continue
        if readers[spreading] > 1 or spreading in kept or graph.type(dy).size > graph.type(spreading).size:
            continue
        # What is between them keeps its name, and is the masked gradient now.
        moved[spread.name] = replace(node, inputs=(dy, pool.outputs[0]), outputs=(spreading,))
        moved[node.name] = replace(spread, inputs=(spreading, position), outputs=node.outputs)
        tensors[spreading] = replace(tensors[spreading], type=graph.type(dy))
    return replace(graph, nodes=tuple(moved.get(node.name, node) for node in graph.nodes), tensors=tensors)
