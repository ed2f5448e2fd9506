"""The budget that fits into the time that is left: numbers only."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

Budget = tuple[int, int]
"""Exploring trials at each size, and repeats of the race."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Trials left at one size, and the seconds of one.

    begun, ended: exploring trials that have; `searched` is False where there are none.
    rounds: confirm trials that each repeat still takes, from the first on.
    fresh: the same once more is explored, since other candidates may race then.
    """

    begun: int = 0
    ended: int = 0
    searched: bool = True
    rounds: Sequence[int] = ()
    fresh: Sequence[int] = ()
    explore_seconds: float
    judge_seconds: float


def seconds_of(budget: Budget, work: Sequence[Work], *, workers: float, progress: float = 0.0) -> float:
    """Return the seconds until this budget is spent.

    Workers wait for the last trial of the exploring, and of each repeat, which all sizes begin together.

    workers: trials that run at once, on average.
    progress: seconds of training that the trials have behind them that run now.
    """
    trials, repeats = budget
    explore = [(max(trials, one.begun) - one.ended, one.explore_seconds) for one in work if one.searched]
    grows = any(one.searched and trials > one.begun for one in work)
    races = [(one.fresh if grows else one.rounds, one.judge_seconds) for one in work]
    rounds = [[(counts[repeat], each) for counts, each in races] for repeat in range(repeats)]
    phases = [[(count, each) for count, each in phase if count > 0] for phase in [explore, *rounds]]
    total = sum(count * each for phase in phases for count, each in phase)
    wait = sum(max(each for _, each in phase) for phase in phases if phase) * (1 - 1 / max(workers, 1.0))
    return max(total - progress, 0.0) / workers + wait


def fitting(
    work: Sequence[Work], *, seconds: float, least: Budget, most: Budget, workers: float, progress: float = 0.0
) -> Budget:
    """Return the largest budget for these seconds; `least` if there is none.

    Trials and repeats grow together, each by its share of the way. Then the rest of the time is for trials, then for
    repeats.
    """

    def needed(budget: Budget) -> float:
        return seconds_of(budget, work, workers=workers, progress=progress)

    path = _path(least, most)
    trials, repeats = path[max(bisect_right(path, seconds, key=needed) - 1, 0)]
    while trials < most[0] and needed((trials + 1, repeats)) <= seconds:
        trials += 1
    while repeats < most[1] and needed((trials, repeats + 1)) <= seconds:
        repeats += 1
    return trials, repeats


def _path(least: Budget, most: Budget) -> list[Budget]:
    """Return budgets from the least to the most, each one trial or one repeat larger."""
    trials, repeats = least
    path = [least]
    while (trials, repeats) != most:
        explored = (trials - least[0]) * (most[1] - least[1])
        judged = (repeats - least[1]) * (most[0] - least[0])
        if repeats == most[1] or (trials < most[0] and explored <= judged):
            trials += 1
        else:
            repeats += 1
        path.append((trials, repeats))
    return path
