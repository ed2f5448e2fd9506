"""A study resumes only with the spec and the weights that it was created with."""

import pytest

from search.errors import StudyError
from search.storage.database import open_storage
from search.study.create import check_stored
from tests.search.queues import open_queue


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"search": {"seed": 1}}, "search.seed is 1, stored is 0"),
        ({"search": {"trials": 5}}, "search.trials is 5, stored is 10"),
        ({"task": {"sizes": [20]}}, r"task.sizes is \[20\], stored is \[20, 40\]"),
        ({"space": {"head_lr": 0.1}}, "space.head_lr is 0.1, stored is None"),
    ],
)
def test_check_stored_refuses_another_spec(location, spec, changes, difference):
    open_queue(location, spec)
    with pytest.raises(StudyError, match=difference):
        check_stored(open_storage(location.database), location, spec.changed(**changes))


def test_check_weights_refuses_other_weights(location, spec):
    open_queue(location, spec).check_weights("one")
    open_queue(location, spec).check_weights("one")
    with pytest.raises(StudyError, match="was created with other weights of its backbone than are here"):
        open_queue(location, spec).check_weights("other")
