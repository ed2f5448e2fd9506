"""A simulated study with known truth: labels and splits are drawn, learners trained, raced and judged.

Ways to test: `held out` keeps a share of the labels, `given` has a large test set beside them, `crossed` is repeated
cross-validation: repeat r is fold r mod K of shuffle r div K.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search.verdict.race import Field, race
from search.verdict.statistics import Comparison, sharing
from tests.simulation.spreads import judged
from tests.simulation.world import Array, Examples, Learners, accuracy, draw, train

Places = NDArray[np.int64]
Way = Literal["held out", "given", "crossed"]
WAYS: tuple[Way, ...] = ("held out", "given", "crossed")
HELD_OUT_SHARE = 0.2
GIVEN_EXAMPLES = 2000
FOLDS = 5
MIN_UNDRAWN, MAX_UNDRAWN = 50, 400
"""Examples that validate a run: as many as the labels that it did not draw, within these."""
SEEDS_OF_ALL = 30
"""Runs on all labels whose mean is the truth for these labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The labels in all, the way to test, the share of the pool that a repeat trains on, and the race's budget."""

    way: Way
    labels: int
    share: float
    repeats: int = 5
    folds: int = FOLDS

    @property
    def pool(self) -> int:
        """Labels that repeats draw from."""
        return self.labels - (2 * round(HELD_OUT_SHARE * self.labels / 2) if self.way == "held out" else 0)

    @property
    def size(self) -> int:
        """Labels that a repeat trains on; a share of 1 is all that it may."""
        fold = 2 * -(-self.labels // 2 // self.folds) if self.way == "crossed" else 0
        return min(self.pool - fold, 2 * max(1, round(self.share * self.pool / 2)))

    @property
    def sharing(self) -> float:
        return sharing(self.size, labels=self.pool, crossed=self.way == "crossed")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """All runs that a race may ask for.

    truth: (strategies,) mean accuracy over draws from the world; for these labels where a repeat trains on all.
    outcomes: (repeats, examples, strategies); NaN where a repeat did not test the example.
    validated: (1 + repeats, strategies) accuracy on examples neither trained on nor tested; the first explores.
    """

    design: Design
    truth: Array
    outcomes: NDArray[np.float32]
    validated: Array

    @property
    def plain(self) -> Array:
        """The mean scores if all strategies ran the first repeats, no more: what an oracle knows the variance of."""
        return np.asarray(np.nanmean(self.outcomes[: self.design.repeats], axis=1, dtype=float).mean(axis=0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """A study beside its verdict.

    Strategies are those that raced, in the order of their cost, the cheapest first; lengths: repeats that each has run.
    """

    study: Study
    found: Comparison
    lengths: Places

    @property
    def leader(self) -> int:
        return self.found.leader

    @property
    def recommended(self) -> int:
        return int(self.found.is_near.argmax())


def splits(rng: np.random.Generator, design: Design, repeats: int) -> Iterator[tuple[Places, Places]]:
    """Yield the trained and the tested places of each repeat. Places alternate between the classes."""
    for repeat in range(repeats):
        if design.way != "crossed":
            last = design.pool + GIVEN_EXAMPLES if design.way == "given" else design.labels
            yield _drawn(rng, np.arange(design.pool).reshape(-1, 2).T, design.size), np.arange(design.pool, last)
            continue
        fold = repeat % design.folds
        if fold == 0:
            shuffled = rng.permuted(np.arange(design.labels).reshape(-1, 2).T, axis=1)
            parts = np.array_split(shuffled, design.folds, axis=1)
        others = np.concatenate([*parts[:fold], *parts[fold + 1 :]], axis=1)
        yield _drawn(rng, others, design.size), parts[fold].ravel()


def _drawn(rng: np.random.Generator, classes: Places, size: int) -> Places:
    """Draw as many of each class: (2, places) to (size,)."""
    return rng.permuted(classes, axis=1)[:, : size // 2].ravel()


def outcomes_of(learners: Array, examples: Examples) -> NDArray[np.bool_]:
    """Return the outcomes (examples, learners) of heads (learners, features + 1)."""
    return np.asarray((examples.inputs @ learners.T) * examples.targets[:, None] > 0)


def simulate(rng: np.random.Generator, design: Design, learners: Learners, truth: Array) -> Study:
    """Draw a study; train and test every strategy on every repeat."""
    examples = draw(rng, design.labels + (GIVEN_EXAMPLES if design.way == "given" else 0))
    trained, places = zip(*splits(rng, design, design.repeats), strict=True)
    heads = train(rng, learners, examples.at(np.array(trained)))
    if design.size == design.pool:
        pool = np.broadcast_to(np.arange(design.pool), (SEEDS_OF_ALL, design.pool))
        truth = accuracy(train(rng, learners, examples.at(pool))).mean(axis=0)
    outcomes = np.full((len(heads), len(examples.targets), len(learners)), np.nan, dtype=np.float32)
    for repeat, own in enumerate(places):
        outcomes[repeat, own] = outcomes_of(heads[repeat], examples.at(own))
    first = 0 if design.way == "crossed" else design.pool
    undrawn = min(max(MIN_UNDRAWN, design.labels - design.size), MAX_UNDRAWN)
    explored = train(rng, learners, examples.at(np.array([next(splits(rng, design, 1))[0]])))
    validated = np.array([outcomes_of(own, draw(rng, undrawn)).mean(axis=0) for own in [*explored, *heads]])
    return Study(design=design, truth=truth, outcomes=outcomes[:, first:], validated=validated)


def confirm(study: Study, *, seed: int = 0, by_tests: bool = True) -> Judged:
    """Run the trials that the race needs, and judge as the product does.

    by_tests: the race reads test scores, as where too few labels are undrawn; else it validates, and has explored.
    """
    scores = study.validated
    if by_tests:
        scores = np.concatenate([scores[:1], np.nanmean(study.outcomes, axis=1, dtype=float)])
    eligible, done = dict.fromkeys(range(scores.shape[1]), ""), dict[tuple[int, int], float]()
    explored = {} if by_tests else {(number, 0): scores[0, number] for number in eligible}
    while True:
        field = Field(eligible=eligible, scores=explored | done, pooled=(0,), searched=not by_tests)  # type: ignore[arg-type]
        places = race({0: field}, repeats=study.design.repeats)[0].needed
        if places <= done.keys():
            break
        done = {(number, repeat): scores[repeat, number] for number, repeat in places}  # type: ignore[index]
    lengths = np.bincount([number for number, _ in done], minlength=len(eligible))
    run = np.flatnonzero(lengths)
    found = judged(study.outcomes[:, :, run], lengths[run], seed=seed, guess=0.5, sharing=study.design.sharing)
    study = replace(study, truth=study.truth[run], outcomes=study.outcomes[:, :, run])
    return Judged(study=study, found=found, lengths=lengths[run])
