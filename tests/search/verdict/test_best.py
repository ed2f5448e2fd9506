import sqlite3
import tomllib
from dataclasses import replace
from importlib.metadata import version

import pytest

from search import StudyError, best_strategy
from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation
from search.verdict.best import find_best
from search.verdict.judge import judge
from search.verdict.load import load_results
from strategies import load_strategy


@pytest.fixture(scope="module")
def results(finished):
    return load_results(StudyLocation.of("tiny", out=finished / "studies", storage=None))


def test_best_is_the_recommended_strategy_with_its_budget(results, finished, monkeypatch):
    monkeypatch.chdir(finished)
    for size in (20, 40):
        verdict = judge(results, size)
        best = best_strategy("tiny", size=size)
        assert best == best_strategy("tiny.toml", size=size, out=finished / "studies")
        assert (best.epochs, best.steps_per_epoch) == (4, 3)
        assert best.canonical(4, 4).to_params().items() >= verdict.recommended.strategy.to_params().items()
        contenders = [c for c in verdict.every_candidate if c.contends]
        least = 0.9 * max(c.p_within_margin for c in contenders)
        near = [c for c in contenders if c.p_within_margin >= least - 1e-9]
        assert verdict.recommended in near
        assert verdict.recommended.gflops <= 1.1 * min(c.gflops for c in near)


def test_command_prints_a_file_that_loads(finished, search, tmp_path):
    for form, suffix in (("toml", ".toml"), ("json", ".json")):
        done = search("best", "tiny", "--size", "20", "--format", form, cwd=finished)
        assert done.returncode == 0
        file = tmp_path / f"best{suffix}"
        file.write_text(done.stdout)
        assert load_strategy(file) == best_strategy("tiny", size=20, out=finished / "studies")
    scope = {}
    exec(search("best", "tiny", "--size", "20", "--format", "python", cwd=finished).stdout, scope)
    assert scope["strategy"] == best_strategy("tiny", size=20, out=finished / "studies")


def test_best_at_a_size_not_run_is_estimated(results, finished, search, tmp_path):
    found = find_best(results, 30)
    assert found.strategy == replace(judge(results, 40).recommended.strategy, epochs=4, steps_per_epoch=3)
    assert found.status == (
        "between sizes: 30 was not run; the strategy is the recommended one at 40, "
        "the score is estimated from 20 and 40"
    )
    low, high = found.provenance["predicted_interval_90"]
    assert low < found.provenance["predicted_test_accuracy"] < high
    assert "test_accuracy" not in found.provenance, "nobody has measured it"
    for name in ("freeze_depth", "head_lr"):
        least, most = found.provenance[f"near_optimal_{name}"]
        assert 0.99 * least <= getattr(found.strategy, name) <= 1.01 * most, "but for its rounding"
    done = search("best", "tiny", "--size", "30", cwd=finished)
    file = tmp_path / "best.toml"
    file.write_text(done.stdout)
    assert load_strategy(file) == found.strategy == best_strategy("tiny", size=30, out=finished / "studies")


def test_best_at_all_is_that_at_the_last_size(results, finished, search):
    """The labels of digits are more than were trained on, so "all" is far beyond; where they were, it is a size."""
    known = replace(results, all=40)
    assert find_best(known, "all") == find_best(results, 40)
    with pytest.raises(StudyError, match=f"not run at size {results.all}"):
        find_best(results, "all")
    with pytest.raises(StudyError, match='does not know yet how many labels "all" is'):
        find_best(replace(results, all=0), "all")
    done = search("best", "tiny", "--size", "all", cwd=finished)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"not run at size {results.all}" in done.stderr


@pytest.mark.parametrize("size", ["0", "-1", "al", "2.5", "9" * 5000, ""])
def test_best_at_no_size_is_refused_in_one_line(finished, search, size):
    done = search("best", "tiny", f"--size={size}", cwd=finished)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert 'allowed: a whole number from 1, or "all"' in done.stderr


def test_best_far_from_every_size_is_refused_in_one_line(search, finished, results):
    with pytest.raises(StudyError, match="20, 40, it can estimate sizes from 10 to 120"):
        find_best(results, 121)
    done = search("best", "tiny", "--size", "9", cwd=finished)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_command_without_confirm_trials_asks_for_unconfirmed(tiny, search, finished):
    tiny.write_text(tiny.read_text().replace("repeats = 5", "repeats = 0").replace("[20, 40]", "[20]"))
    run = search("run", "tiny.toml", "--trials", "2", cwd=tiny.parent)
    assert run.returncode == 0, run.stderr
    assert "No size is confirmed" in run.stdout
    done = search("best", "tiny", "--size", "20", cwd=tiny.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--unconfirmed" in done.stderr
    done = search("best", "tiny", "--size", "20", "--unconfirmed", cwd=tiny.parent)
    assert done.returncode == 0
    assert 'status = "unconfirmed' in done.stdout
    assert (tiny.parent / "studies" / "tiny" / "report.html").is_file()


def test_provenance_has_the_verdict_and_its_origin(results, finished, search, tmp_path, monkeypatch):
    """As numbers and words that the strategy's file keeps, and the date of the last judged trial."""
    chosen, text = judge(results, 20).recommended, search("best", "tiny", "--size", "20", cwd=finished).stdout
    (tmp_path / "best.toml").write_text(text)
    assert load_strategy(tmp_path / "best.toml") == find_best(results, 20).strategy
    found = tomllib.loads(text)["provenance"]
    for key in ("p_within_margin", "expected_loss", "p_best", "failed_to_train", "repeats"):
        assert found[key] == pytest.approx(getattr(chosen, key), abs=6e-4)
    assert found["gflops_to_train"] == pytest.approx(chosen.gflops, rel=1e-3)
    spec = results.spec
    assert (found["data"], found["backbone"], found["metric"]) == (spec.task.data, spec.model.backbone, "accuracy")
    assert (found["weights"], found["version"]) == (f"trained on {spec.source.data}", version("frostline"))
    with sqlite3.connect(finished / "studies" / "tiny" / "study.db") as database:
        (last,) = database.execute(
            "SELECT max(datetime_complete) FROM trials JOIN trial_user_attributes USING (trial_id) "
            "JOIN studies USING (study_id) WHERE study_name = 'tiny/confirm' AND key = 'size' AND value_json = '20'"
        ).fetchone()
    assert found["date"] == f"{last[:19].replace(' ', 'T')}Z"
    assert find_best(results, 30).provenance["date"] >= found["date"], "of the two sizes"


def test_provenance_names_weights_from_a_file(results):
    """And no database."""
    weights = {"checkpoint": "ae.ckpt", "module": "encoder"}
    spec = StudySpec.from_dict(
        {**results.spec.model_dump(mode="json", exclude_none=True, exclude={"source"}),
         "model": {"backbone": "small_cnn", "weights": weights}}, where="the test",
    )  # fmt: skip
    location = replace(results.location, storage="postgresql+psycopg://user:hush@host/studies")
    found = find_best(replace(results, spec=spec, location=location), 20, unconfirmed=True).provenance
    assert found["weights"] == "ae.ckpt, module encoder"
    assert not any(word in str(found) for word in ("hush", "postgresql", "host/"))
    old = tuple(replace(row, ended=None) for row in results.rows)
    assert "date" not in find_best(replace(results, rows=old), 20).provenance


def _as_rmse(scores):
    return {"test_rmse": scores["test_loss"], "val_rmse": -scores["val_accuracy"]}


def test_provenance_has_the_metric_and_the_layer_groups(results):
    found = find_best(results, 40).provenance
    assert found["test_accuracy"] == round(judge(results, 40).recommended.score, 4)
    assert found["layer_group_names"] == list(results.groups)
    assert len(found["layer_group_names"]) == found["layer_groups"]
    rows = tuple(
        replace(row, value=-row.value, scores=_as_rmse(row.scores)) if row.judged else replace(row, value=-row.value)
        for row in results.rows
    )
    found = find_best(replace(results, kind="regression", rows=rows, groups=()), 40).provenance
    assert found["test_rmse"] > 1
    assert not {"test_accuracy", "layer_group_names"} & found.keys()
