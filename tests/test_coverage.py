"""The ONNX test cases: what docs/coverage.md says is what is found now."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.frontend.coverage import Result, cases, listed, report, run_case

DOCUMENT = Path(__file__).parent.parent / "docs" / "coverage.md"


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [run_case(case) for case in cases()]


def test_at_least_95_percent_of_the_float32_cases_of_the_listed_ops_pass(results: list[Result]) -> None:
    counted = [result for result in results if result.counted]
    assert len(counted) > 200
    assert sum(result.passed for result in counted) >= 0.95 * len(counted)


def test_no_case_gives_wrong_numbers(results: list[Result]) -> None:
    assert [result for result in results if result.reason.startswith("WRONG")] == []


def test_every_case_that_does_not_pass_says_why(results: list[Result]) -> None:
    assert all(len(result.reason) > 5 for result in results if not result.passed)


def test_every_listed_op_has_a_passing_case(results: list[Result]) -> None:
    used = {op for result in results if result.passed for op in result.ops.split(" + ")}
    without_float32_cases = {"Cast"}
    assert set(listed()) - used <= without_float32_cases


def test_the_document_is_up_to_date(results: list[Result]) -> None:
    import onnx

    written = DOCUMENT.read_text(encoding="utf-8")
    if f"`onnx` {onnx.__version__} package" not in written:
        pytest.skip(f"docs/coverage.md was written with another onnx than {onnx.__version__}")
    assert written == report(results), "run: python -m toolkit.frontend.coverage docs/coverage.md"
