"""The race: the repeats that each candidate runs at each size.

As in irace (Lopez-Ibanez et al., 2016, doi:10.1016/j.orp.2016.09.002), those that look worst stop repeat after repeat.
It looks at labels that a repeat did not draw. Test scores are read when the race is over.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np

from search.verdict.pooling import effects
from strategies import FreezingStrategy

LEAST_REPEATS = 5
"""Fewest repeats of the leader before a strategy may be ruled out.

With 3, identical strategies name a winner one time in ten.
"""
KEPT = (10, 8, 6, 4)
"""Candidates that run repeat 1, 2, 3, and every later one."""
KEPT_UNEXPLORED = (16, 16, 8, 8, 8, 4)
"""The same where nothing has explored before, and the race has to read test scores."""

Place = tuple[FreezingStrategy, int]
"""A run at a size: its strategy, and the repeat; exploring trials are repeat 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The race at one size.

    eligible: strategies that may run, each with its family. Those that come first run where nothing is known.
    scores: of the runs that have ended; more is better; NaN where one failed.
    pooled: the sizes whose runs inform this one, itself among them.
    searched: exploring trials come first.
    explored: they have ended.
    """

    eligible: Mapping[FreezingStrategy, str]
    scores: Mapping[Place, float]
    pooled: Collection[int]
    searched: bool = True
    explored: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The race at one size, as far as known now.

    needed: its runs, ended and new.
    decided: the last repeat whose runs are known.
    """

    needed: frozenset[Place] = frozenset()
    decided: int = 0


def kept(repeat: int, *, searched: bool) -> int:
    """Return how many run a repeat, if there are so many."""
    counts = KEPT if searched else KEPT_UNEXPLORED
    return counts[min(repeat, len(counts)) - 1]


def race(fields: Mapping[int, Field], *, repeats: int) -> dict[int, Course]:
    """Return the course of the race at each size.

    A repeat is decided when the one before it has ended at all pooled sizes, and from those before it alone. So any
    number of workers run the same trials. So does a study that was interrupted, or whose `repeats` have grown.
    """
    courses = dict.fromkeys(fields, Course())
    for repeat in range(1, repeats + 1):
        ready = [
            size
            for size, field in fields.items()
            if all(_has_ended(fields[one], courses[one], repeat - 1) for one in field.pooled)
        ]
        groups = {frozenset(fields[size].pooled) for size in ready}
        merits = {pooled: _merits(fields, courses, pooled=sorted(pooled), repeats=repeat) for pooled in groups}
        new = {
            size: _going_on(fields[size], courses[size], merits[frozenset(fields[size].pooled)][size], repeat=repeat)
            for size in ready
        }
        courses |= {
            size: Course(needed=courses[size].needed | {(one, repeat) for one in going_on}, decided=repeat)
            for size, going_on in new.items()
        }
    return courses


def _has_ended(field: Field, course: Course, repeat: int) -> bool:
    return field.explored and course.decided == repeat and course.needed <= field.scores.keys()


def _merits(
    fields: Mapping[int, Field], courses: Mapping[int, Course], *, pooled: Sequence[int], repeats: int
) -> dict[int, dict[FreezingStrategy, float]]:
    """Return how good strategies seem at each pooled size, by the first repeats."""
    strategies = list(dict.fromkeys(one for size in pooled for one in fields[size].eligible))
    values = np.full((len(strategies), len(pooled), repeats), nan)
    for column, size in enumerate(pooled):
        scores, needed = fields[size].scores, courses[size].needed
        for row, one in enumerate(strategies):
            for repeat in range(repeats):
                if repeat == 0 or (one, repeat) in needed:
                    values[row, column, repeat] = scores.get((one, repeat), nan)
    found = effects(np.where(np.isfinite(values), values, nan))
    return {size: dict(zip(strategies, found[:, column].tolist(), strict=True)) for column, size in enumerate(pooled)}


def _going_on(
    field: Field, course: Course, merits: Mapping[FreezingStrategy, float], *, repeat: int
) -> list[FreezingStrategy]:
    """Return the most promising strategies, which run this repeat; none that has failed.

    Each family's best runs the first repeat: what the usual ways lose is a part of the answer.
    """
    order = [
        one
        for one in sorted(field.eligible, key=lambda one: -merits[one])
        if (repeat == 1 or (one, repeat - 1) in course.needed)
        and all(isfinite(field.scores.get((one, before), 0.0)) for before in range(repeat))
    ]
    if repeat == 1:
        heads = {field.eligible[one]: one for one in reversed(order)}
        order.sort(key=lambda one: heads[field.eligible[one]] != one)
    return order[: kept(repeat, searched=field.searched)]
