"""A world of two classes, learners that are trained in closed form, and their true accuracy.

Each class is a mixture of two Gaussians with unit covariance. A learner is ridge regression that is drawn towards a
prior head, with a random part of its own for each run: the seed. Its accuracy is exact, so the truth at a size is a
mean over draws from the world, without a test set.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]
FEATURES = 16
TRUTH_DRAWS = 3000
HARDNESS, ORDER = 1.5, 0.5
"""Spreads of the logarithm of an example's weight in training: its own, and of its place in a run's order."""


def _means() -> Array:
    """Means (classes, components, features): classes differ by `signal`, components by `side`."""
    signal = 0.75 ** np.arange(FEATURES)
    side = np.zeros(FEATURES)
    side[2::3] = 1.0
    side -= signal * (side @ signal) / (signal @ signal)
    signal, side = 1.3 * signal / np.linalg.norm(signal), 1.0 * side / np.linalg.norm(side)
    return np.array([[sign * signal + part * side for part in (1, -1)] for sign in (-1, 1)])


MEANS = _means()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learners:
    """Strategies: arrays (strategies, features + 1); the last is the intercept.

    penalty: of the distance to the prior head; huge for a feature that is not used.
    prior: the head before training.
    seed: the spread of what each run adds to its prior.
    """

    penalty: Array
    prior: Array
    seed: Array

    def __len__(self) -> int:
        return len(self.penalty)

    def __add__(self, other: "Learners") -> "Learners":
        pairs = ((self.penalty, other.penalty), (self.prior, other.prior), (self.seed, other.seed))
        penalty, prior, seed = map(np.concatenate, pairs)
        return Learners(penalty=penalty, prior=prior, seed=seed)


def learner(*, penalty: float, angle: float, turn: int, used: int = FEATURES, seed: float = 0.2) -> Learners:
    """Return one learner whose prior head is `angle` degrees off the signal, in a direction of its own (`turn`).

    used: so many features are seen.
    """
    signal = MEANS[1].mean(axis=0)
    aside = np.random.default_rng(turn).normal(size=FEATURES)
    aside -= signal * (aside @ signal) / (signal @ signal)
    head = np.cos(np.radians(angle)) * signal / np.linalg.norm(signal)
    head = 0.5 * (head + np.sin(np.radians(angle)) * aside / np.linalg.norm(aside))
    sees = np.arange(FEATURES) < used
    return Learners(
        penalty=np.append(np.where(sees, penalty, 1e6), 1.0)[None],
        prior=np.append(np.where(sees, head, 0.0), 0.0)[None],
        seed=np.append(np.where(sees, seed / np.sqrt(FEATURES), 0.0), 0.0)[None],
    )


STRATEGIES = (
    learner(penalty=10, angle=50, turn=6, used=3)
    + learner(penalty=10, angle=50, turn=5, used=5)
    + learner(penalty=10, angle=50, turn=9, used=8)
    + learner(penalty=300, angle=45, turn=7)
    + learner(penalty=10, angle=50, turn=1)
    + learner(penalty=10, angle=50, turn=2)
    + learner(penalty=40, angle=35, turn=3)
    + learner(penalty=3, angle=90, turn=4)
)
"""Few features of a frozen backbone to all, from a good head or none: some alike, some points apart."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """Labelled examples: inputs (..., n, features + 1), targets (..., n) -1 or 1, and the weight of each."""

    inputs: Array
    targets: Array
    weight: Array

    def at(self, places: NDArray[np.int64]) -> "Examples":
        return Examples(inputs=self.inputs[places], targets=self.targets[places], weight=self.weight[places])


def draw(rng: np.random.Generator, *shape: int) -> Examples:
    """Draw examples, as many of each class, in turn."""
    classes = np.broadcast_to(np.arange(shape[-1]) % 2, shape)
    inputs = MEANS[classes, rng.integers(2, size=shape)] + rng.normal(size=(*shape, FEATURES))
    inputs = np.concatenate([inputs, np.ones((*shape, 1))], axis=-1)
    return Examples(inputs=inputs, targets=2.0 * classes - 1, weight=np.exp(HARDNESS * rng.normal(size=shape)))


def train(rng: np.random.Generator, learners: Learners, examples: Examples) -> Array:
    """Train each learner on each draw: examples (..., n) give heads (..., learners, features + 1).

    Strategies share the order of examples and half of what the seed adds to the prior.
    """
    runs = examples.targets.shape[:-1]
    weight = examples.weight * np.exp(ORDER * rng.normal(size=examples.weight.shape))
    weighted = np.swapaxes(examples.inputs * (weight / weight.mean(axis=-1, keepdims=True))[..., None], -1, -2)
    gram, moments = weighted @ examples.inputs, weighted @ examples.targets[..., None]
    own, shared = rng.normal(size=(*runs, *learners.prior.shape)), rng.normal(size=(*runs, 1, FEATURES + 1))
    start = learners.prior + learners.seed * (own + shared) / np.sqrt(2)
    left = gram[..., None, :, :] + learners.penalty[:, :, None] * np.eye(FEATURES + 1)
    right = moments[..., None, :, 0] + learners.penalty * start
    return np.asarray(np.linalg.solve(left, right[..., None])[..., 0])


def accuracy(heads: Array) -> Array:
    """Return the exact accuracy in the world of heads (..., features + 1)."""
    lengths = np.linalg.norm(heads[..., :-1], axis=-1)[..., None, None]
    sides = np.einsum("...f,scf->...sc", heads[..., :-1], MEANS) + heads[..., -1, None, None]
    return np.asarray(ndtr(np.array([[-1.0], [1.0]]) * sides / np.maximum(lengths, 1e-12)).mean(axis=(-1, -2)))


def truth(learners: Learners, size: int, *, seed: int = 0) -> Array:
    """Return each learner's mean accuracy over draws of `size` from the world."""
    rng, batch = np.random.default_rng(seed), max(1, min(TRUTH_DRAWS, 100_000 // size))
    rounds = -(-TRUTH_DRAWS // batch)
    return np.asarray(
        np.mean([accuracy(train(rng, learners, draw(rng, batch, size))).mean(0) for _ in range(rounds)], 0)
    )
