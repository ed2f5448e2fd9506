"""The gain that cross-validation gives a candidate explored on its labels, over one chosen without them.

Candidates are alike: each has a prior head as good as the others', in a direction of its own. The best on the labels
that the first repeat did not draw is then scored by cross-validation of the same labels. Below 250 labels it seems 1
to 3 points better than it is, at 500 up to .6, from 700 on less than half a point.
"""

from collections.abc import Iterator
from functools import reduce
from itertools import product
from operator import add

import numpy as np
from rich.table import Table as Text

from tests.simulation.study import MAX_UNDRAWN, Design, outcomes_of, splits
from tests.simulation.world import Array, Learners, draw, learner, train, truth

EXPLORED = 24


LABELS = (80, 120, 250, 500, 700, 1000)
SHARES = (0.1, 0.5, 1.0)
KINDS = {"quick to learn": (50, 40), "slow": (60, 100), "held to their heads": (35, 1000)}
"""Angles of prior heads to the signal, and penalties of leaving them."""


def alike(angle: float, penalty: float) -> Learners:
    return reduce(add, (learner(penalty=penalty, angle=angle, turn=100 + turn) for turn in range(EXPLORED)))


def gains(design: Design, learners: Learners, count: int) -> Array:
    """Return for each study (count,) by how much more the explored one's score errs than the mean candidate's."""
    rng, known, found = np.random.default_rng([design.labels, design.size]), truth(learners, design.size), []
    for _ in range(count):
        examples = draw(rng, design.labels)
        (drawn, _), *_ = splits(rng, design, 1)
        undrawn = rng.permutation(np.setdiff1d(np.arange(design.labels), drawn))[:MAX_UNDRAWN]
        values = outcomes_of(train(rng, learners, examples.at(drawn)), examples.at(undrawn)).mean(axis=0)
        explored = int((values + 1e-9 * rng.normal(size=EXPLORED)).argmax())
        trained, folds = zip(*splits(rng, design, design.repeats), strict=True)
        heads = train(rng, learners, examples.at(np.array(trained)))
        scores = [outcomes_of(own, examples.at(fold)).mean(axis=0) for own, fold in zip(heads, folds, strict=True)]
        errors = np.mean(scores, axis=0) - known
        found.append(errors[explored] - errors.mean())
    return np.array(found)


def report(*, count: int) -> Iterator[Text]:
    """Yield a table of gains in points, with their standard errors."""
    text = Text("candidates", "N", "n", "gain", title=f"{count} studies each, the best of {EXPLORED} alike candidates")
    for (name, kind), labels, share in product(KINDS.items(), LABELS, SHARES):
        design = Design(way="crossed", labels=labels, share=share)
        found = 100 * gains(design, alike(*kind), count)
        text.add_row(name, str(labels), str(design.size), f"{found.mean():.2f} +- {found.std() / count**0.5:.2f}")
    yield text
