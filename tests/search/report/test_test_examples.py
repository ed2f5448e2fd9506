import re
from dataclasses import replace

import numpy as np
import pytest

from search.report.test_examples import CLASSES, forecasts, precision_recall_curves, predicted_against_true, section
from search.storage.location import StudyLocation
from search.verdict.judge import judge
from search.verdict.load import load_results
from search.verdict.predictions import Predictions, TestSet, read_predictions, save_predictions


@pytest.fixture(scope="module")
def results(finished):
    return load_results(StudyLocation.of("tiny", out=finished / "studies", storage=None))


def predictions(classes, *, examples=120, repeats=2):
    rng = np.random.default_rng(0)
    targets = np.arange(examples) % len(classes)
    runs = [rng.dirichlet(np.ones(len(classes)), size=examples).astype(np.float32) for _ in range(repeats)]
    test = TestSet(
        targets=targets,
        classes=tuple(classes),
        shown=np.arange(6),
        thumbnails=np.zeros((6, 8, 8, 3), dtype=np.uint8),
    )
    return Predictions(test=test, repeats=tuple(range(1, repeats + 1)), predicted=tuple(runs))


def test_a_study_of_images_shows_them_wrong_ones_first(results):
    html = section(results, judge(results, 40))
    marks = re.findall(r'<figure( class="wrong")?><img src="data:image/png;base64,[^"]+" alt="([^"]+)">', html)
    assert len(marks) == 24
    wrong = [bool(mark) for mark, _ in marks]
    assert wrong == sorted(wrong, reverse=True)
    assert all(("taken for" in alt) == is_wrong for is_wrong, (_, alt) in zip(wrong, marks, strict=True))
    assert f"{sum(wrong)} of these 24 are wrong" in html


def test_it_is_about_the_recommended_strategys_own_runs(results):
    verdict = judge(results, 40)
    rows = [row for row in results.confirmed(40) if row.source_trial == verdict.recommended.source_trial]
    found = read_predictions(results.location, rows)
    for row, predicted in zip(sorted(rows, key=lambda row: row.repeat), found.predicted, strict=True):
        agrees = (predicted.argmax(1) == found.test.targets) == row.example_scores
        assert agrees.mean() > 0.99, "half precision may turn a tie"
    html = section(results, verdict)
    best = verdict.recommended
    assert f"{best.family}, over 5 runs on 500 test examples" in html
    assert verdict.metric.interval(best.score, best.low, best.high) in html
    assert f"AUROC {np.mean([row.test_auroc for row in rows]):.3g}" in html


def test_without_the_folder_it_says_so(results, tmp_path):
    elsewhere = replace(results, location=StudyLocation.of("tiny", out=tmp_path, storage=results.location.database.url))
    html = section(elsewhere, judge(results, 40))
    assert "is not here" in html
    assert "macro F1" in html


def test_the_classes_that_do_worst_are_drawn_with_the_average_of_all():
    found = predictions([f"class {i}" for i in range(20)], examples=400)
    for predicted in found.predicted:
        predicted[np.arange(400), found.test.targets] += found.test.targets / 40  # the later a class, the better
    average, *curves = precision_recall_curves(found).data
    names = [curve.name for curve in curves]
    assert len(curves) == CLASSES
    aps = [float(name.rpartition(" ")[2]) for name in names]
    assert aps == sorted(aps)
    assert float(average.name.rpartition(" ")[2]) > aps[-1], "the better classes count in the average"
    for curve in (average, *curves):
        assert (np.diff(curve.y) <= 1e-12).all(), "an interpolated precision never rises with recall"


def test_a_class_that_the_test_set_lacks_has_no_curve():
    found = predictions(["a", "b", "c"])
    lacking = replace(found.test, targets=found.test.targets % 2)
    assert len(precision_recall_curves(replace(found, test=lacking)).data) == 3


def test_names_of_classes_are_escaped(results):
    evil = "<img src=x onerror=alert(1)>"
    rows = [row for row in results.confirmed(40) if row.source_trial == judge(results, 40).recommended.source_trial]
    found = read_predictions(results.location, rows)
    location = StudyLocation.of("evil", out=results.location.folder / "evil", storage=None)
    test = {"targets": found.test.targets, "classes": np.array([evil] * 10), "shown": found.test.shown}
    test["thumbnails"] = found.test.thumbnails
    names = [
        save_predictions(
            location, row.number, example_scores=row.example_scores, predicted=found.predicted[0], test=test
        )
        for row in rows
    ]
    stored = dict(zip((row.number for row in rows), names, strict=True))
    changed = [replace(row, predictions_file=stored.get(row.number)) if row.confirms else row for row in results.rows]
    html = section(replace(results, location=location, rows=tuple(changed)), judge(results, 40))
    assert "onerror" in html
    assert evil not in html


def test_one_output_is_drawn_against_the_truth():
    truth = np.linspace(-1, 1, 2000, dtype=np.float32)
    line, points = predicted_against_true(truth + 0.5, truth).data
    assert list(line.x) == list(line.y) == [points.x.min(), points.y.max()]
    assert len(points.x) == 500
    assert np.asarray(points.y) == pytest.approx(np.asarray(points.x) + 0.5)


def test_several_outputs_are_drawn_for_a_good_a_usual_and_a_bad_example():
    truth = np.zeros((101, 4), dtype=np.float32)
    predicted = truth + np.sqrt(np.arange(101, dtype=np.float32))[:, None]
    figure = forecasts(predicted, truth)
    assert [trace.y[0] ** 2 for trace in figure.data if trace.name == "forecast"] == pytest.approx([10, 50, 90])
    assert len(figure.data) == 6
