import math

import pytest

from search.errors import StudyError
from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.verdict.judge import judge
from search.verdict.load import known, list_studies, load_results, read_results
from search.verdict.race import kept
from strategies import Family


@pytest.fixture(scope="module")
def results(finished):
    return load_results(StudyLocation.of("tiny", out=finished / "studies", storage=None))


def test_load_reads_all_attributes_of_trials(results):
    for row in results.rows:
        assert row.state in ("COMPLETE", "PRUNED")
        assert row.family in set(Family)
        assert row.repeat == 0 if not row.judged else row.repeat in range(1, 6)
        assert row.seed is not None
        assert row.epochs == len(row.curve)
        assert row.seconds > 0
        assert row.trainable_parameters >= 650
        assert row.value == row.scores["test_accuracy"] if row.judged else row.value == row.curve[-1][1]
        if row.judged:
            assert row.example_scores.mean() == pytest.approx(row.scores["test_accuracy"], abs=1e-6)
            assert math.isfinite(row.scores["test_loss"])
            assert 0 <= row.scores["test_f1"] <= 1
            assert 0 <= row.scores["test_auroc"] <= 1


def test_load_reads_kind_and_layer_groups(results):
    assert results.kind == "classification"
    assert results.metric.name == "accuracy"
    assert len(results.groups) == results.num_groups == 4


def test_read_without_kind_or_groups_is_a_classification(results, monkeypatch):
    storage = open_storage(results.location.database)
    studies = storage.get_all_studies()
    for study in studies:
        study.user_attrs = {key: value for key, value in study.user_attrs.items() if key not in ("kind", "groups")}
    monkeypatch.setattr(storage, "get_all_studies", lambda: studies)
    older = read_results(storage, results.location)
    assert (older.kind, older.groups) == ("classification", ())


def test_load_pairs_confirm_trials(results):
    for size in results.sizes:
        by_repeat = {}
        for row in results.confirmed(size):
            by_repeat.setdefault(row.repeat, []).append(row)
        assert {repeat: len(rows) for repeat, rows in by_repeat.items()} == {
            repeat: kept(repeat, searched=True) for repeat in by_repeat
        }
        for rows in by_repeat.values():
            assert len({row.seed for row in rows}) == 1, "same repeat, same seed for all"


def test_load_of_a_finished_study_is_finished(results):
    assert results.sizes == [20, 40]
    assert results.is_finished([20, 40])
    assert all(len(results.explored(size)) == 10 for size in results.sizes)


def test_verdict_without_the_folder_is_more_careful(results, tmp_path):
    elsewhere = load_results(StudyLocation.of("tiny", out=tmp_path, storage=results.location.database.url))
    for size in results.sizes:
        here, there = judge(results, size), judge(elsewhere, size)
        widths = {c.family: c.high - c.low for c in here.candidates}
        assert all(c.high - c.low >= 0.95 * widths[c.family] for c in there.candidates)
        assert {c.family for c in here.contenders} <= {c.family for c in there.contenders}


def test_list_studies_finds_names(results, finished):
    assert known(open_storage(results.location.database)) == ["tiny"]
    assert [location.name for location in list_studies(out=finished / "studies", storage=None)] == ["tiny"]
    with pytest.raises(StudyError, match="There is no study 'other' in this storage; known: tiny"):
        load_results(StudyLocation.of("other", out=finished, storage=results.location.database.url))
