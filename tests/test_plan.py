"""Schedule, plan and verifier, on made-up programs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.plan import plan
from codegen.program import Access, Buffer, Function, Place, Pointer, Step
from codegen.schedule import lifetimes, live_bytes, schedule
from codegen.verify import PlanError, verify_function


def _step(node: str, reads: list[str], writes: list[str], **options: object) -> Step:
    arguments = [Pointer(n, Access.READ) for n in reads] + [Pointer(n, Access.WRITE) for n in writes]
    return Step("kernel", tuple(arguments), node, **options)  # type: ignore[arg-type]


def _buffer(name: str, size: int, place: Place = Place.ARENA) -> Buffer:
    return Buffer(name, place, (size,), "float32")


@st.composite
def functions(draw: st.DrawFn) -> Function:
    """Chains with skip connections: each step reads some earlier values and writes a new one."""
    count = draw(st.integers(1, 24))
    buffers = {"x": _buffer("x", 4, Place.INPUT)}
    steps = []
    for number in range(count):
        earlier = draw(st.lists(st.sampled_from(sorted(buffers)), min_size=1, max_size=3, unique=True))
        name = f"v{number}"
        buffers[name] = _buffer(name, draw(st.integers(1, 64)))
        in_place = tuple((name, other) for other in earlier) if draw(st.booleans()) else ()
        steps.append(_step(f"n{number}", earlier, [name], in_place=in_place))
    return Function("f", tuple(steps), buffers)


@given(functions())
def test_every_plan_passes_the_independent_verifier(function: Function) -> None:
    planned = plan(schedule(function))
    verify_function(planned)
    assert planned.lower_bound <= planned.peak


@given(functions())
def test_the_lower_bound_is_the_most_bytes_alive(function: Function) -> None:
    planned = plan(schedule(function))
    assert planned.lower_bound == max(live_bytes(lifetimes(planned)), default=0)


@given(functions())
def test_planning_is_deterministic(function: Function) -> None:
    assert plan(schedule(function)) == plan(schedule(function))


@given(functions())
def test_plans_of_any_size_are_alike(function: Function) -> None:
    """Sums of sizes that 64 bits have no room for."""
    times = 1 << 32
    buffers = {name: replace(buffer, shape=(buffer.shape[0] * times,)) for name, buffer in function.buffers.items()}
    small, large = plan(schedule(function)), plan(schedule(replace(function, buffers=buffers)))
    assert large.offsets == {name: offset * times for name, offset in small.offsets.items()}
    assert large.peak == small.peak * times


def _chain() -> Function:
    buffers = {n: _buffer(n, 8) for n in "abc"} | {"x": _buffer("x", 8, Place.INPUT)}
    steps = (_step("1", ["x"], ["a"]), _step("2", ["a"], ["b"]), _step("3", ["a", "b"], ["c"]))
    return plan(schedule(Function("f", steps, buffers)))


def test_the_verifier_finds_overlapping_lives() -> None:
    good = _chain()
    verify_function(good)
    with pytest.raises(PlanError, match="over"):
        verify_function(replace(good, offsets=dict.fromkeys(good.offsets, 0)))


def test_the_verifier_finds_bytes_beyond_the_arena() -> None:
    good = _chain()
    with pytest.raises(PlanError, match="byte"):
        verify_function(replace(good, peak=good.peak - 4))


def test_the_verifier_finds_misalignment() -> None:
    good = _chain()
    with pytest.raises(PlanError, match="aligned"):
        verify_function(replace(good, offsets={name: offset + 2 for name, offset in good.offsets.items()}))


def _update() -> Function:
    """The weight is read by its layer's forward and data gradient, then replaced."""
    buffers = {
        "w": _buffer("w", 8, Place.PARAMS), "w2": _buffer("w2", 8, Place.PARAMS), "x": _buffer("x", 8, Place.INPUT),
        "y": _buffer("y", 8), "dw": _buffer("dw", 8), "dx": _buffer("dx", 8), "z": _buffer("z", 8),
    }
    steps = (
        _step("forward", ["x", "w"], ["y"]),
        _step("weight gradient", ["x", "y"], ["dw"]),
        _step("update", ["dw"], ["w2"], updates=(("w2", "w"),)),
        _step("data gradient", ["y", "w"], ["dx"]),
        _step("user", ["dx"], ["z"]),
    )
    return Function("f", steps, buffers, {"w2": "w"})


def test_an_update_waits_for_all_readers_of_the_old_weight() -> None:
    order = [step.node for step in schedule(_update()).steps]
    assert order.index("update") > order.index("data gradient")


def test_the_verifier_finds_an_update_that_came_too_early() -> None:
    good = plan(schedule(_update()))
    verify_function(good)
    update = next(step for step in good.steps if step.node == "update")
    rest = [step for step in good.steps if step.node != "update"]
    position = next(i for i, step in enumerate(rest) if step.node == "data gradient")
    early = replace(good, steps=(*rest[:position], update, *rest[position:]))
    with pytest.raises(PlanError):
        verify_function(early)


def test_a_check_comes_before_what_it_guards() -> None:
    buffers = {n: _buffer(n, 1) for n in "ab"} | {"x": _buffer("x", 1, Place.INPUT)}
    steps = (_step("update", ["x"], ["a"], after=("check",)), _step("check", ["x"], ["b"]))
    scheduled = schedule(Function("f", steps, buffers))
    assert [step.node for step in scheduled.steps] == ["check", "update"]
    with pytest.raises(PlanError, match="after"):
        verify_function(plan(replace(scheduled, steps=tuple(reversed(scheduled.steps)))))
