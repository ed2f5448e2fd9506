"""Cross-validation of explored candidates: favoured where labels are few, hardly where they are many."""

from itertools import product

import numpy as np
import pytest

from tests.simulation.explored import KINDS, SHARES, alike, gains
from tests.simulation.study import Design


def gain(labels, share, kind, count):
    found = 100 * gains(Design(way="crossed", labels=labels, share=share), alike(*KINDS[kind]), count)
    return found.mean(), found.std() / np.sqrt(count)


def test_explored_candidates_of_few_labels_seem_better():
    mean, error = gain(80, 0.1, "slow", 120)
    assert mean > 1 + error


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "share"), list(product(KINDS, SHARES)))
def test_explored_candidates_of_700_gain_half_a_point_at_most(kind, share):
    mean, error = gain(700, share, kind, 400)
    assert mean <= 0.5 + 2 * error
