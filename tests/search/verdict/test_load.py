import math

import numpy as np
import pytest

from search.errors import StudyError
from search.storage.database import open_storage
from search.storage.location import Home
from search.verdict.judge import judge
from search.verdict.load import known, known_homes, load_results, read_results
from strategies import Family


@pytest.fixture(scope="module")
def results(finished):
    return load_results(Home.of("tiny", out=finished / "studies", storage=None))


def test_every_trial_stores_what_was_promised(results):
    for row in results.rows:
        assert row.state in ("COMPLETE", "PRUNED")
        assert row.family in set(Family)
        assert row.chain == 0 if not row.confirms else row.chain in range(1, 6)
        assert row.seed is not None
        assert row.epochs == len(row.curve)
        assert row.seconds > 0
        assert row.trainable_parameters >= 650
        assert row.best_epoch in range(4)
        assert row.value == min(value for _, value in row.curve) or row.state == "PRUNED"
        if row.confirms:
            assert row.outcome.mean() == pytest.approx(row.test_accuracy, abs=1e-6)
            assert math.isfinite(row.test_loss)
            assert 0 <= row.test_macro_f1 <= 1
            assert 0 <= row.test_auroc <= 1


def test_a_study_knows_its_kind_and_its_layer_groups(results):
    assert results.kind == "classification"
    assert results.measure.name == "test accuracy"
    assert len(results.groups) == results.num_groups == 4


def test_a_study_stored_without_kind_or_groups_is_a_classification(results, monkeypatch):
    storage = open_storage(results.home.url)
    studies = storage.get_all_studies()
    for study in studies:
        study.user_attrs = {key: value for key, value in study.user_attrs.items() if key not in ("kind", "groups")}
    monkeypatch.setattr(storage, "get_all_studies", lambda: studies)
    older = read_results(storage, results.home)
    assert (older.kind, older.groups) == ("classification", ())


def test_confirm_trials_are_paired(results):
    for size in results.sizes:
        by_chain, finalists = {}, {row.number for row in results.finalists(size)}
        for row in results.confirmed(size):
            if row.explored in finalists:
                by_chain.setdefault(row.chain, []).append(row)
        assert len({len(rows) for rows in by_chain.values()}) == 1
        for rows in by_chain.values():
            assert len({row.seed for row in rows}) == 1, "same chain, same seed for all"


def test_the_study_is_finished(results):
    assert results.sizes == [20, 40]
    assert results.is_finished([20, 40])
    assert all(len(results.explored(size)) == 10 for size in results.sizes)


def test_without_the_folder_the_verdict_is_more_careful_never_less(results, tmp_path):
    elsewhere = load_results(Home.of("tiny", out=tmp_path, storage=results.home.url))
    for size in results.sizes:
        here, there = judge(results, size), judge(elsewhere, size)
        widths = {c.family: c.high - c.low for c in here.contestants}
        assert all(c.high - c.low >= 0.95 * widths[c.family] for c in there.contestants)
        assert {c.family for c in here.contenders} <= {c.family for c in there.contenders}


def test_lost_outcomes_are_none_not_an_error(results, tmp_path):
    elsewhere = Home.of("tiny", out=tmp_path, storage=results.home.url)
    assert all(row.outcome is None for row in load_results(elsewhere).rows)
    assert any(isinstance(row.outcome, np.ndarray) for row in results.rows)


def test_studies_are_known_by_name(results, finished):
    assert known(open_storage(results.home.url)) == ["tiny"]
    assert [home.name for home in known_homes(out=finished / "studies", storage=None)] == ["tiny"]
    with pytest.raises(StudyError, match="There is no study 'other' in this storage; known: tiny"):
        load_results(Home.of("other", out=finished, storage=results.home.url))
