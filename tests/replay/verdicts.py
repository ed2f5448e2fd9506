"""Confirm phases replayed with the truth known: false winners, power, coverage, and reported scores.

Simulated ones come from a probit model with the spreads of real tasks (`WORLDS`); replayed ones from a table: a search
on one repeat, whose candidates are confirmed on others. Their repeats and test examples are drawn with replacement, so
that each study's are a fresh draw of what the truth is the mean of.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from rich.table import Table as Text

from search.verdict.race import LEAST_REPEATS, race
from search.verdict.statistics import Comparison, example_covariance
from search.verdict.statistics import compare as compare_scores
from tests.replay.table import Table

Array = NDArray[np.float64]
MARGIN = 0.01
DRAWS = 2000
TRIED = 30
"""A replayed search tries so many strategies of the table."""
LEAST_TO_DRAW = 6
"""A table with fewer repeats is not replayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Spreads of test accuracy: over repeats, for all strategies alike and for each its own; `examples` are tested."""

    accuracy: float
    repeat: float
    own: float
    examples: int = 500


WORLDS = {
    "few labels": World(accuracy=0.82, repeat=0.035, own=0.025),
    "many labels": World(accuracy=0.93, repeat=0.009, own=0.009),
    "shuffled labels": World(accuracy=0.10, repeat=0.005, own=0.012),
}
"""Spreads of lenet-fashion and digits at 50 labels and from 200 on, and of ten classes at chance level."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """A confirm phase, all of whose runs are there: `outcomes` is (repeats, strategies, examples); cost: seconds."""

    truth: Array
    outcomes: NDArray[np.bool_]
    cost: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """A comparison beside the truth; `trials` is its number of runs."""

    study: Study
    found: Comparison
    trials: int

    @property
    def leader(self) -> int:
        return int(self.found.means.argmax())

    @property
    def recommended(self) -> int:
        return int(np.where(self.found.as_good, self.study.cost, np.inf).argmin())

    @property
    def covered(self) -> NDArray[np.bool_]:
        return np.asarray((self.found.low <= self.study.truth) & (self.study.truth <= self.found.high))

    @property
    def error(self) -> Array:
        """The reported scores minus the truth."""
        return self.found.scores - self.study.truth


def simulate(rng: np.random.Generator, world: World, truth: Sequence[float], *, repeats: int) -> Study:
    """Draw a study from a probit model: examples' difficulty, and noise of repeats and runs.

    An example has a difficulty for all strategies, and one for each. The cheapest strategy is the first.
    """
    normal = NormalDist()
    common, own = np.array([world.repeat, world.own]) / normal.pdf(normal.inv_cdf(world.accuracy))
    shape = (repeats, len(truth), world.examples)
    latent = np.array([normal.inv_cdf(p) for p in truth])[:, None] * np.sqrt(1 + common**2 + own**2)
    latent = latent + common * rng.normal(size=(repeats, 1, 1)) + own * rng.normal(size=(*shape[:2], 1))
    latent = latent + np.sqrt(0.6) * rng.normal(size=shape[2]) + np.sqrt(0.1) * rng.normal(size=shape[1:])
    outcomes = latent + np.sqrt(0.3) * rng.standard_normal(shape, dtype=np.float32) > 0
    return Study(truth=np.array(truth), outcomes=outcomes, cost=np.arange(len(truth), dtype=float))


def replayed(rng: np.random.Generator, table: Table, *, size: int, repeats: int) -> Study:
    """Draw a search's candidates on one repeat of a table, and their runs on others.

    The search is random, at one size (an index).
    """
    explored, *others = rng.permutation(table.repeats)
    families = [strategy.family(table.num_groups) for strategy in table.strategies]
    value = table.values[:, size, explored, -1]
    best: dict[str, int] = {}
    for place in rng.permutation(len(families))[:TRIED]:
        rival = best.get(families[place])
        if rival is None or value[place] > value[rival]:
            best[families[place]] = int(place)
    candidates = list(best.values())
    runs = table.outcome[candidates, size][:, others]
    drawn = runs[:, rng.integers(len(others), size=repeats)][..., rng.integers(runs.shape[-1], size=runs.shape[-1])]
    return Study(truth=runs.mean(axis=(1, 2)), outcomes=drawn.swapaxes(0, 1), cost=table.cost[candidates, size])


def longest(strategies: int, repeats: int) -> int:
    """Return a strategy's most possible repeats: all others but one are closed at once."""
    return max(repeats, LEAST_REPEATS + strategies * (repeats - LEAST_REPEATS) // 2)


def confirm(study: Study, *, repeats: int, adaptive: bool) -> Judged:
    """Run the needed trials, or all of `repeats`, and judge."""
    scores = study.outcomes.mean(axis=-1)
    numbers = list(range(scores.shape[1]))
    places = {(number, repeat) for number in numbers for repeat in range(1, repeats + 1)}
    if adaptive:
        done: Mapping[tuple[int, int], float] = {}
        while (places := race(done, numbers, repeats=repeats, margin=MARGIN, relative=False)) - done.keys():
            done = {(number, repeat): scores[repeat - 1, number] for number, repeat in places}
    lengths = np.bincount([number for number, _ in places])
    seen = np.where(np.arange(lengths.max())[:, None] < lengths, scores[: lengths.max()], np.nan)
    means = np.array([study.outcomes[:length, number].mean(axis=0) for number, length in enumerate(lengths)])
    found = compare_scores(seen, example_covariance(means.T), margin=MARGIN, seed=0, draws=DRAWS)
    return Judged(study=study, found=found, trials=len(places))


COLUMNS = ("winner %", "wrong %", "lost %", "trials", "covered %", "leader's", "leader +", "recommended +")


def summary(judged: Sequence[Judged]) -> dict[str, float]:
    """By `COLUMNS`: winners declared; of the wrong one; a best one ruled out, where it is the only one; confirm trials;
    truths within 90 % intervals, all and the leaders'; reported score minus truth in points."""
    tops = [one.study.truth >= one.study.truth.max() - 1e-9 for one in judged]
    winners = [one.found.winner for one in judged]
    numbers = (
        100 * np.mean([winner is not None for winner in winners]),
        100 * np.mean([winner is not None and not top[winner] for winner, top in zip(winners, tops, strict=True)]),
        100
        * np.mean([top.sum() == 1 and not one.found.contends[top][0] for one, top in zip(judged, tops, strict=True)]),
        np.mean([one.trials for one in judged]),
        100 * np.mean(np.concatenate([one.covered for one in judged])),
        100 * np.mean([one.covered[one.leader] for one in judged]),
        100 * np.mean([one.error[one.leader] for one in judged]),
        100 * np.mean([one.error[one.recommended] for one in judged]),
    )
    return dict(zip(COLUMNS, map(float, numbers), strict=True))


def compare(draw: Callable[[], Study], *, repeats: int, studies: int) -> dict[str, dict[str, float]]:
    """Compare fixed and adaptive confirms of the same studies."""
    drawn = [draw() for _ in range(studies)]
    rules = {"fixed": False} | ({"adaptive": True} if repeats > LEAST_REPEATS else {})
    return {
        name: summary([confirm(study, repeats=repeats, adaptive=adaptive) for study in drawn])
        for name, adaptive in rules.items()
    }


Case = tuple[str, int, int, Callable[..., Study]]
"""A label, the repeats of a confirm phase, a seed, and how a study is drawn."""


def identical() -> Iterator[Case]:
    """Strategies that are all alike: any winner is a false one."""
    for (name, world), count, repeats in product(WORLDS.items(), (2, 4, 6), (5, 10, 20)):
        draw = partial(simulate, world=world, truth=[world.accuracy] * count, repeats=longest(count, repeats))
        yield f"{name}, {count} strategies", repeats, count, draw


def different() -> Iterator[Case]:
    """One strategy leads: by so many points over the next, and by more over four others."""
    for name, lead, repeats in product(("few labels", "many labels"), (0.01, 0.015, 0.03), (5, 10, 20)):
        truth = [WORLDS[name].accuracy - gap for gap in (0.1, 0.07, 0.05, 0.04, lead, 0.0)]
        draw = partial(simulate, world=WORLDS[name], truth=truth, repeats=longest(6, repeats))
        yield f"{name}, {100 * lead:g} points", repeats, 0, draw


def searches(table: Table) -> Iterator[Case]:
    """Confirm phases of searches on a table."""
    for (size, labels), repeats in product(enumerate(table.sizes), (5, 10)):
        common, own = spreads(table, size)
        draw = partial(replayed, table=table, size=size, repeats=longest(7, repeats))
        yield f"{labels} labels (spread {100 * common:.1f} and {100 * own:.1f})", repeats, size, draw


def spreads(table: Table, size: int) -> tuple[float, float]:
    """Return standard deviations over repeats: of families' best strategies alike, and of each its own."""
    families = [strategy.family(table.num_groups) for strategy in table.strategies]
    mean = table.score[:, size].mean(axis=1)
    best = [
        max((i for i, own in enumerate(families) if own == family), key=mean.__getitem__) for family in set(families)
    ]
    left = table.score[best, size] - mean[best][:, None]
    common = left.mean(axis=0)
    own = np.square(left - common).sum() / (len(best) - 1) / (table.repeats - 1)
    return float(common.std(ddof=1)), float(np.sqrt(own))


def report(tables: Sequence[Table], *, studies: int) -> Iterator[Text]:
    """Yield simulated studies, then those of each table with enough repeats."""
    yield shown("Identical strategies (simulated): a winner is a false one", identical(), studies)
    title = "One is the best of six (simulated): its lead over the next, the others 4-10 points behind"
    yield shown(title, different(), studies)
    for table in tables:
        if table.repeats >= LEAST_TO_DRAW:
            title = f"{table.task}: candidates of a random search, {table.repeats} repeats in the table"
            yield shown(title, searches(table), studies)


def shown(title: str, cases: Iterator[Case], studies: int) -> Text:
    text = Text("studies", "repeats", "rule", *COLUMNS, title=title)
    for label, repeats, seed, draw in cases:
        rng = np.random.default_rng(seed)
        for rule, numbers in compare(partial(draw, rng), repeats=repeats, studies=studies).items():
            cells = (f"{number:+.2f}" if "+" in name else f"{number:.1f}" for name, number in numbers.items())
            text.add_row(label, str(repeats), rule, *cells)
    return text
