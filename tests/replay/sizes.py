"""What was best at smaller sizes is worth at a larger one: warm starts against cold ones, and a misleading source."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table as Text

from search.study.sampling import warm_start
from search.verdict.judge import judge
from search.verdict.rows import Row
from strategies import FreezingStrategy
from tests.replay.picks import REPEATS, confirmed
from tests.replay.samplers import phase, tpe
from tests.replay.search import Replay, Tried
from tests.replay.table import Table

COLD = 60
WARM = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A warm and a cold search of one size, and one that was misled.

    reached: the trial at which the warm one's validation loss was as low as the cold one's after `COLD`; None if it
    never was. The lowest of 60 noisy losses is lower than it deserves, so beside it stand true regrets: what the
    confirmed leader of `WARM` warm trials, and of `COLD` cold and misled ones, lacks of the table's best.
    """

    reached: int | None
    cold_reached: int
    warm_regret: float
    cold_regret: float
    misled_regret: float


def rows(replay: Replay, size: int, tried: Sequence[Tried], *, worst: bool = False) -> list[Row]:
    """Replayed trials as the product's rows; `worst` turns their order around."""
    return [
        Row(
            number=number, state="PRUNED" if one.pruned else "COMPLETE", size=replay.table.sizes[size], repeat=0,
            strategy=replay.strategies[one.strategy], family=str(replay.families[one.strategy]),
            value=-one.value if worst else one.value, best_epoch=0, epochs=one.epochs, seconds=one.seconds,
            trainable_parameters=0, seed=0, curve=(), baseline=False,
        )
        for number, one in enumerate(tried)
    ]  # fmt: skip


def first_trials(replay: Replay, smaller: dict[int, list[Row]], *, trials: int) -> list[FreezingStrategy]:
    """What the product would try first: the baselines, then the lessons of the smaller sizes."""
    spec = replay.spec.changed(search={"trials": trials})
    found = list(replay.baselines)
    while (row := warm_start(spec, baselines=len(replay.baselines), tried=found, smaller=smaller)) is not None:
        found.append(row.strategy)
    return found


def best_so_far(tried: Sequence[Tried]) -> np.ndarray:
    """(trials,): the lowest value of those that ran to their end."""
    return np.minimum.accumulate([np.inf if one.pruned else one.value for one in tried])


def compare(tables: Sequence[Table], *, studies: int, seed: int = 0) -> dict[str, list[Transfer]]:
    """Whole studies, size after size on one repeat, by table and size."""
    outcomes: dict[str, list[Transfer]] = defaultdict(list)
    for table in tables:
        replay = Replay(table)
        dice = np.random.default_rng(seed)
        for _ in range(studies):
            for size, outcome in _study(replay, dice):
                outcomes[f"{table.task}, {table.sizes[size]}"].append(outcome)
    return outcomes


def _study(replay: Replay, dice: np.random.Generator) -> Iterator[tuple[int, Transfer]]:
    explores, *confirms = dice.permutation(replay.table.repeats)[: REPEATS + 1].tolist()
    smaller: dict[int, list[Row]] = {}
    misleading: dict[int, list[Row]] = {}
    for size, labels in enumerate(replay.table.sizes):
        cold, warm, misled = (
            replay.search(
                size=size,
                repeat=explores,
                sampler=tpe(int(dice.integers(2**31))),
                pruner=phase(replay),
                first=first_trials(replay, known, trials=COLD),
                trials=COLD,
            )
            for known in ({}, smaller, misleading)
        )
        if smaller:
            target = best_so_far(cold)[-1]
            reached = np.flatnonzero(best_so_far(warm) <= target)
            warm_regret, cold_regret, misled_regret = (
                _regret(replay, size, tried, confirms) for tried in (warm[:WARM], cold, misled)
            )
            yield (
                size,
                Transfer(
                    reached=int(reached[0]) + 1 if len(reached) else None,
                    cold_reached=int(np.argmax(best_so_far(cold) <= target)) + 1,
                    warm_regret=warm_regret,
                    cold_regret=cold_regret,
                    misled_regret=misled_regret,
                ),
            )
        smaller[labels] = rows(replay, size, cold)
        misleading[labels] = rows(replay, size, cold, worst=True)


def _regret(replay: Replay, size: int, tried: Sequence[Tried], repeats: Sequence[int]) -> float:
    verdict = judge(confirmed(replay, size, tried, repeats), replay.table.sizes[size])
    assert verdict is not None
    truth = replay.truth[: replay.searched, size]
    return 100 * float(truth.max() - truth[replay.places[verdict.candidates[0].strategy]])


def report(tables: Sequence[Table], *, studies: int) -> Iterator[Text]:
    """One table over all tasks and sizes."""
    yield shown(compare(tables, studies=studies))


def shown(outcomes: dict[str, list[Transfer]]) -> Text:
    """As a table for the terminal."""
    reached = f"cold's {COLD} trials reached in {WARM}"
    regrets = f"regret, confirmed: warm {WARM}, cold {COLD}, misled {COLD}"
    text = Text("task, size", reached, "median trial (cold)", regrets, "warm no worse", "by half a point at the most")
    pooled = {**outcomes, "all": [one for every in outcomes.values() for one in every]}
    for name, every in pooled.items():
        within = np.mean([one.reached is not None and one.reached <= WARM for one in every])
        trials = np.median([one.reached or COLD for one in every])
        worse = np.array([one.warm_regret - one.cold_regret for one in every])
        text.add_row(
            name,
            f"{100 * within:.0f} %",
            f"{trials:.0f} ({np.median([one.cold_reached for one in every]):.0f})",
            ", ".join(
                f"{np.mean([getattr(one, f'{how}_regret') for one in every]):.2f}" for how in ("warm", "cold", "misled")
            ),
            f"{100 * np.mean(worse <= 1e-9):.0f} %",
            f"{100 * np.mean(worse <= 0.5):.0f} %",
        )
    return text
