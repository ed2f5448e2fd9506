"""More labels later: what was run stays, and new repeats draw from all."""

import numpy as np
import pytest

from search.errors import StudyError
from search.storage.database import open_storage
from search.storage.owner import WorkerLease
from search.study.extension import check_extends, keep_marks
from search.verdict.judge import judge_all, verdicts_at
from search.verdict.load import read_results
from tests.search.queues import open_queue, work

MARKS = np.arange(100, dtype=np.uint64) ** 2
MORE = np.arange(120, dtype=np.uint64) ** 2
CLASSES = ("cat", "dog")


@pytest.fixture
def spec(spec):
    """Leave two families, so that few trials make a study."""
    space = {"freeze_depth": [0, 4], "unfreeze_epoch": 0, "epochs_per_group": 0, "pretrained": True}
    return spec.changed(space=space, search={"trials": 4})


def data(number, labels, marks, **facts):
    return {"data": f"{number:032}", "labels": labels, "all": labels, "marks": marks, "classes": CLASSES, **facts}


FIRST, SECOND, THIRD = data(1, 100, MARKS), data(2, 120, MORE), data(3, 150, np.arange(150, dtype=np.uint64) ** 2)


def run(location, spec, *, most=1000, sizes=(20, 40), **facts):
    """Run trials of a study on such data, and return all of it."""
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner, **facts)
        work(queue, queue.sizes(sizes), most=most)
    return read_results(open_storage(location.database), location)


def stored(results):
    """Return everything that is stored of the trials that have ended."""
    return {
        (row.size, row.judged, row.number): (row.strategy, row.repeat, row.extension, row.value, dict(row.scores))
        for row in results.every_row
        if row.is_finished
    }


def test_changed_data_are_refused_with_the_way_out(location, spec):
    run(location, spec, most=1, **FIRST)
    with pytest.raises(StudyError, match="If examples were only added, --extend draws new repeats from all"):
        open_queue(location, spec, **SECOND)


def test_extended_study_draws_new_repeats_from_all(location, spec):
    before = run(location, spec, **FIRST)
    assert before.is_finished([20, 40])
    after = run(location, spec, extend=True, **SECOND)
    assert stored(before).items() <= stored(after).items(), "what was run stays as it is"
    new = [row for row in after.every_row if (row.size, row.judged, row.number) not in stored(before)]
    assert {(row.judged, row.extension) for row in new} == {(True, 1)}, "nothing is explored again"
    assert {(row.size, row.strategy, row.repeat) for row in new} == {
        (row.size, row.strategy, row.repeat) for row in before.every_row if row.judged
    }
    assert after.is_finished([20, 40])
    assert {verdict.labels for verdict in judge_all(after).values()} == {120}
    for size in (20, 40):
        newest, old = verdicts_at(after, size)
        [alone] = verdicts_at(before, size)
        assert (newest.labels, old.labels) == (120, 100)
        assert (old.every_candidate, old.sentence) == (alone.every_candidate, alone.sentence)


def test_old_verdict_holds_until_the_new_repeats_have_ended(location, spec):
    run(location, spec, **FIRST)
    during = run(location, spec, most=5, extend=True, **SECOND)
    assert not during.is_finished([20, 40])
    assert {verdict.labels for verdict in judge_all(during).values()} == {100}
    after = run(location, spec, **SECOND)
    assert stored(during).items() <= stored(after).items(), "the same data resume without the option"
    assert {verdict.labels for verdict in judge_all(after).values()} == {120}


def test_study_is_extended_twice_with_larger_budgets(location, spec):
    run(location, spec, sizes=[20], **FIRST)
    run(location, spec, sizes=[20], extend=True, **SECOND)
    larger = spec.changed(confirm={"repeats": 6}, search={"trials": 6})
    after = run(location, larger, sizes=[20], extend=True, **THIRD)
    assert [verdict.labels for verdict in verdicts_at(after, 20)] == [150, 120, 100]
    assert [view.spec.confirm.repeats for view in after.views] == [6, 5, 5]
    assert [len(view.explored(20)) for view in after.views] == [6, 4, 4]
    with pytest.raises(StudyError, match=r"--extend: of 150 examples .*, 50 are gone"):
        open_queue(location, larger, extend=True, **FIRST)


def test_all_becomes_another_size(location, spec):
    spec = spec.changed(task={"sizes": [20, "all"]})
    before = run(location, spec, sizes=[20, "all"], unexplored=[100], **FIRST)
    assert sorted(judge_all(before)) == [20, 100]
    after = run(location, spec, sizes=[20, "all"], unexplored=[120], extend=True, **SECOND)
    assert after.is_finished([20, "all"])
    assert after.is_finished(after.sizes)
    assert {size: verdict.labels for size, verdict in judge_all(after).items()} == {20: 120, 100: 100, 120: 120}


def test_unfinished_exploring_continues_on_all_labels(location, spec):
    before = run(location, spec, most=3, **FIRST)
    after = run(location, spec, extend=True, **SECOND)
    assert stored(before).items() <= stored(after).items()
    assert after.is_finished([20, 40])
    assert [row.extension for row in after.explored(20)] == [0] * 3 + [1]


def test_worker_on_the_old_labels_ends_with_a_line(location, spec):
    run(location, spec, **FIRST)
    with WorkerLease.new().held(location) as owner:
        queue = open_queue(location, spec, owner, **FIRST)
        open_queue(location, spec, **SECOND, extend=True)
        assert queue.claim([20, 40]) is None
        with pytest.raises(StudyError, match="Labels were added to study 'tiny' since this began: start it again"):
            queue.finished([20, 40])


@pytest.mark.parametrize(
    ("marks", "classes", "message"),
    [
        (MORE[1:], CLASSES, "of 100 examples that study 'tiny' has used, 1 are gone from here or have another label"),
        (np.unique(MARKS), CLASSES, "nothing was added to the 100 examples of here"),
        (MORE, (*CLASSES, "owl"), "here has other classes now"),
        (None, CLASSES, "examples of here can't be recognised"),
    ],
)
def test_check_extends_takes_added_examples_alone(location, marks, classes, message):
    keep_marks(location, "a", MARKS, CLASSES)
    check_extends(location, "a", MORE, CLASSES, where="here")
    with pytest.raises(StudyError, match=message):
        check_extends(location, "a", marks, classes, where="here")


def test_check_extends_counts_equal_examples(location):
    keep_marks(location, "a", np.array([7, 7, 9], dtype=np.uint64), CLASSES)
    with pytest.raises(StudyError, match=r"of 3 examples .*, 1 are gone"):
        check_extends(location, "a", np.array([7, 8, 9, 10], dtype=np.uint64), CLASSES, where="here")


def test_check_extends_needs_what_is_known_of_the_old_ones(location):
    with pytest.raises(StudyError, match=r"the old labels can't be compared, since .*labels-a\.npz can't be read"):
        check_extends(location, "a", MORE, CLASSES, where="here")
    location.labels_path("a").write_text("broken")
    with pytest.raises(StudyError, match="can't be read: it is no archive"):
        check_extends(location, "a", MORE, CLASSES, where="here")
