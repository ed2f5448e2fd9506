"""Strategy and score for a size that a study left out, against the truth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich.table import Table as Text

from search.errors import StudyError
from search.verdict.judge import Verdict, judge_all
from search.verdict.other_sizes import estimate
from search.verdict.results import Results
from search.verdict.rows import Row
from strategies import FreezingStrategy
from tests.replay.search import Replay
from tests.replay.table import Table

TRIALS = 30
REPEATS = 5
Verdicts = Mapping[int, Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question: a size that was left out, alone or with the next one. All in points of test accuracy.

    regrets: by rule, how far what it takes is behind the table's best at that size.
    found: the same of the leader and of the recommended of the study's own search at that size.
    off: the predicted score less the true one of what is taken; half: half its interval, which `covers` the truth.
    """

    left: tuple[int, ...]
    size: int
    regrets: dict[str, float]
    found: tuple[float, float]
    off: float
    half: float
    covers: bool


def replayed(replay: Replay, dice: np.random.Generator) -> Results:
    """A study of all sizes: the baselines and random strategies on one repeat, confirmed on five others."""
    explores, *confirms = dice.permutation(replay.table.repeats)[: REPEATS + 1].tolist()
    baselines = [replay.places[baseline] for baseline in replay.baselines]
    others = [place for place in range(replay.searched) if place not in baselines]
    rows: list[Row] = []
    for at in range(len(replay.table.sizes)):
        room = min(TRIALS - len(baselines), len(others))
        tried = [*baselines, *dice.choice(others, room, replace=False).tolist()]
        rows += [replay.row(place, at, explores, number=number) for number, place in enumerate(tried)]
    study = replay.results(rows, repeats=REPEATS)
    for at in range(len(replay.table.sizes)):
        study = replay.confirmed(study, at, confirms)
    return study


# -- rules ---------------------------------------------------------------------------------------------------


def smaller_leader(verdicts: Verdicts, size: int) -> FreezingStrategy:
    return _around(verdicts, size)[0].candidates[0].strategy


def larger_leader(verdicts: Verdicts, size: int) -> FreezingStrategy:
    return _around(verdicts, size)[1].candidates[0].strategy


def nearest_leader(verdicts: Verdicts, size: int) -> FreezingStrategy:
    nearest = min(verdicts, key=lambda known: (max(known / size, size / known), -known))
    return verdicts[nearest].candidates[0].strategy


OURS = "nearest's recommended (the product)"
RULES: dict[str, Callable[[Verdicts, int], FreezingStrategy]] = {
    "nearest's leader": nearest_leader,
    "next smaller's leader": smaller_leader,
    "next larger's leader": larger_leader,
}


def _around(verdicts: Verdicts, size: int) -> tuple[Verdict, Verdict]:
    # Beyond the ends, the nearest end twice.
    lower = max((known for known in verdicts if known < size), default=min(verdicts))
    upper = min((known for known in verdicts if known > size), default=max(verdicts))
    return verdicts[lower], verdicts[upper]


# -- against the truth ---------------------------------------------------------------------------------------


def compare(table: Table, *, studies: int, seed: int = 0) -> list[Case]:
    """Studies replayed, and of each every size left out, and every two neighbours inside."""
    replay, dice = Replay(table), np.random.default_rng(seed)
    alone = [(size,) for size in table.sizes]
    inner = table.sizes[1:-1]
    found: list[Case] = []
    for _ in range(studies):
        results = replayed(replay, dice)
        verdicts = judge_all(results)
        for left in [*alone, *pairwise(inner)]:
            found += [case for size in left if (case := _case(replay, results, verdicts, left, size)) is not None]
    return found


def _case(replay: Replay, results: Results, verdicts: Verdicts, left: tuple[int, ...], size: int) -> Case | None:
    known = {other: verdict for other, verdict in verdicts.items() if other not in left}
    try:
        found = estimate(results, known, size=size)
    except StudyError:  # too far
        return None
    at = replay.table.sizes.index(size)

    def truth(strategy: FreezingStrategy) -> float:
        canonical = strategy.canonical(replay.table.num_groups, replay.grid.epochs)
        return 100 * float(replay.truth[replay.places[replay.grid.nearest(canonical)], at])

    best = 100 * float(replay.truth[: replay.searched, at].max())
    own, taken = verdicts[size], truth(found.candidate.strategy)
    return Case(
        left=left,
        size=size,
        regrets={OURS: best - taken} | {name: best - truth(rule(known, size)) for name, rule in RULES.items()},
        found=(best - truth(own.candidates[0].strategy), best - truth(own.recommended.strategy)),
        off=100 * found.score - taken,
        half=50 * (found.high - found.low),
        covers=100 * found.low <= taken <= 100 * found.high,
    )


def report(tables: Sequence[Table], *, studies: int) -> Iterator[Text | str]:
    """One table a task; of those with too few repeats to confirm on, that they have."""
    for table in tables:
        if table.repeats > REPEATS:
            yield shown(table, compare(table, studies=studies))
        else:
            yield f"{table.task}: {table.repeats} repeats, and it takes {REPEATS + 1} to explore and confirm."


def shown(table: Table, cases: Sequence[Case]) -> Text:
    """As a table for the terminal: regrets in points, by what was left out."""
    names = list(cases[0].regrets)
    text = Text(
        "not run", "asked", "found there: leader, recommended", *names, "predicted less true", "in its interval",
        title=f"{table.task}: regret in points, of {table.repeats} repeats",
    )  # fmt: skip
    ends = {table.sizes[0], table.sizes[-1]}
    groups = {(", ".join(map(str, case.left)), str(case.size)): [] for case in cases} | {
        ("one or two", "inside"): [case for case in cases if case.size not in ends]
    }
    for case in cases:
        groups[", ".join(map(str, case.left)), str(case.size)].append(case)
    for (left, size), some in groups.items():
        text.add_row(
            left,
            size,
            ", ".join(f"{np.mean([case.found[which] for case in some]):.2f}" for which in (0, 1)),
            *(f"{np.mean([case.regrets[name] for case in some]):.2f}" for name in names),
            f"{np.mean([case.off for case in some]):+.2f} +- {np.mean([case.half for case in some]):.1f}",
            f"{100 * np.mean([case.covers for case in some]):.0f} %",
        )
    return text
