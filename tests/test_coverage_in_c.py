"""The cases of docs/coverage.md once more, through generated C."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from codegen.program import Array
from toolkit.frontend.coverage import Result, cases, run_case
from toolkit.ir import Graph
from toolkit.pipeline import Options, compile_graph
from toolkit.sim.backend import open_backend


def _generated_c(graph: Graph, given: Mapping[str, Array]) -> dict[str, Array]:
    compiled = compile_graph(graph, Options(), "case")
    with open_backend(compiled, "host") as backend:
        outputs = backend.infer([given[name] for name in graph.inputs])
    return dict(zip(graph.outputs, outputs, strict=True))


@pytest.mark.slow
def test_every_case_that_the_reference_passes_passes_in_c() -> None:
    failed: list[Result] = []
    count = 0
    for case in cases():
        if run_case(case).passed:
            count += 1
            result = run_case(case, _generated_c)
            failed += [] if result.passed else [result]
    assert not failed
    assert count > 200
