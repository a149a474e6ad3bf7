"""Several boards learn together: each trains on its own shard; after each round they share the mean of their weights.

McMahan, Moore, Ramage, Hampson, Arcas, "Communication-Efficient Learning of Deep Networks from Decentralized Data"
(2017), algorithm 1, with all clients in every round. Running statistics of batch normalization are averaged like
weights; optimizer states stay with their boards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from codegen.program import Program
from toolkit.errors import UserError
from toolkit.ir import Array
from toolkit.sim.finetune import Tuner


@dataclass
class Member:
    """A board of the group. `connect` opens it, anew after it was lost; `tuner` is None while it is away."""

    name: str
    connect: Callable[[], Tuner]
    tuner: Tuner | None = None
    lost: int = 0


def average(program: Program, states: Sequence[Mapping[str, Array]], weights: Sequence[int]) -> dict[str, Array]:
    """The weighted mean of each trained tensor and running statistic, summed in float64 in the order given.

    Raises:
        UserError: weights are kept in codes, of which a mean means nothing.
    """
    # States that inference reads are running statistics; those of optimizers it does not know.
    inferred = {name for step in program.functions["infer"].steps for name in step.reads()}
    result = {}
    for buffer in program.params:
        if buffer.trained or buffer.name in inferred:
            if buffer.dtype != "float32":
                raise UserError(f"weights kept as {buffer.dtype} cannot be averaged", where=buffer.name)
            values = np.stack([state[buffer.name] for state in states]).astype(np.float64)
            result[buffer.name] = np.average(values, axis=0, weights=weights).astype(np.float32)
    return result


def train_together(
    members: Sequence[Member],
    rounds: int,
    stop: Callable[[], bool],
    progress: Callable[[int, int], None] | None = None,
    steps: int | None = None,
) -> dict[str, Array]:
    """Rounds on each board; the shared weights at the end, which all boards that are there have saved.

    A board that fails is left out of the round, and takes part again, with the shared weights, once it answers.

    Args:
        rounds: at most; they end when no board that is there has any steps left.
        steps: of one round; an epoch for None.

    Raises:
        UserError: no board is left.
    """
    shared: dict[str, Array] = {}
    for number in range(rounds):
        with ThreadPoolExecutor(max_workers=len(members)) as pool:
            states = list(pool.map(lambda member: _one_round(member, number, shared, stop, steps), members))  # noqa: B023
        pairs = zip(members, states, strict=True)
        present = [(member.tuner, state) for member, state in pairs if member.tuner is not None and state is not None]
        if not present:
            raise UserError("no board is left", where=", ".join(member.name for member in members))
        program = present[0][0].backend.compiled.program
        sizes = [len(tuner.plan.x) for tuner, _ in present]
        shared = average(program, [state for _, state in present], sizes)
        if progress is not None:
            progress(number + 1, rounds)
        if stop() or all(tuner.tally.done >= tuner.total for tuner, _ in present):
            break
    for member in members:
        if member.tuner is not None:
            member.tuner.backend.set_state(shared)
            member.tuner.save()
    return shared


def _one_round(
    member: Member, number: int, shared: dict[str, Array], stop: Callable[[], bool], steps: int | None
) -> dict[str, Array] | None:
    """The member's state after its round; None where it is away."""
    try:
        if member.tuner is None:
            member.tuner = member.connect()
        tuner = member.tuner
        steps = steps or tuner.per_epoch
        tuner.tally.done = min(number * steps, tuner.total)
        if shared:
            tuner.backend.set_state(shared)
            tuner.save()
        tuner.run(min((number + 1) * steps, tuner.total), stop)
        return tuner.backend.state()
    except UserError:
        if member.tuner is not None:
            member.tuner.backend.close()
        member.tuner = None
        member.lost += 1
        return None
