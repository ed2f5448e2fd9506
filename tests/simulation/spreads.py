"""Simulated scores with the spreads of real tasks and known truth, and how the product judges them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from search.verdict.runs import ExampleScores, failed_to_train
from search.verdict.statistics import Comparison, compare

Array = NDArray[np.float64]
MARGIN = 0.01
DRAWS = 2000


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
class Scored:
    """A study whose strategies all run all repeats: `outcomes` is (repeats, examples, strategies)."""

    truth: Array
    outcomes: NDArray[np.bool_]

    def judged(self) -> Comparison:
        """Judge it; any one answer has a tenth right."""
        repeats, _, strategies = self.outcomes.shape
        return judged(self.outcomes, np.full(strategies, repeats), guess=0.1)


def simulate(rng: np.random.Generator, world: World, truth: Sequence[float], *, repeats: int) -> Scored:
    """Draw a study from a probit model: examples' difficulty, and noise of repeats and runs.

    An example has a difficulty for all strategies, and one for each.
    """
    normal = NormalDist()
    common, own = np.array([world.repeat, world.own]) / normal.pdf(normal.inv_cdf(world.accuracy))
    shape = (repeats, world.examples, len(truth))
    latent = np.array([normal.inv_cdf(p) for p in truth]) * np.sqrt(1 + common**2 + own**2)
    latent = latent + common * rng.normal(size=(repeats, 1, 1)) + own * rng.normal(size=(repeats, 1, len(truth)))
    latent = latent + np.sqrt(0.6) * rng.normal(size=(world.examples, 1)) + np.sqrt(0.1) * rng.normal(size=shape[1:])
    outcomes = latent + np.sqrt(0.3) * rng.standard_normal(shape, dtype=np.float32) > 0
    return Scored(truth=np.array(truth), outcomes=outcomes)


def judged(
    outcomes: NDArray[np.generic], lengths: NDArray[np.int64], *, guess: float, seed: int = 0, sharing: float = 0.0
) -> Comparison:
    """Judge runs as the product does.

    outcomes: (repeats, examples, strategies); NaN where a repeat did not test an example.
    lengths: (strategies,) repeats that each has run.
    guess: the score of the best constant answer.
    """
    ran = np.arange(lengths.max())[:, None] < lengths
    values = np.where(ran[:, None], outcomes[: lengths.max()].astype(float), np.nan)
    tested = np.isfinite(values)
    scores = np.where(tested, values, 0.0).sum(axis=1) / np.where(ran, tested.sum(axis=1), np.nan)
    failed = failed_to_train(scores, np.full(len(scores), guess))
    examples = ExampleScores(values=values, groups=None).without(failed)
    return compare(
        scores,
        examples.covariance(),
        margin=MARGIN,
        seed=seed,
        sharing=sharing,
        failed=failed,
        run_variances=examples.run_variances(),
        crossed=examples.is_crossed,
        draws=DRAWS,
    )
