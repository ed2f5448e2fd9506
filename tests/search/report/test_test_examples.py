import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from search.report.test_examples import (
    MAX_CLASSES_DRAWN,
    forecasts,
    gallery,
    interpolated_precision,
    precision_recall,
    precision_recall_info,
    predicted_against_true,
    section,
)
from search.storage.location import StudyLocation
from search.verdict.judge import judge
from search.verdict.load import load_results
from search.verdict.predictions import Predictions, TestSet, read_predictions


@pytest.fixture(scope="module")
def results(finished):
    return load_results(StudyLocation.of("tiny", out=finished / "studies", storage=None))


@pytest.fixture(scope="module")
def verdict(results):
    return judge(results, 40)


@pytest.fixture(scope="module")
def rows(results, verdict):
    return [row for row in results.confirmed(40) if row.strategy == verdict.recommended.strategy]


def predictions(classes, *, examples=120, repeats=2):
    rng = np.random.default_rng(0)
    runs = [rng.dirichlet(np.ones(classes), size=examples).astype(np.float32) for _ in range(repeats)]
    test = TestSet(
        targets=np.arange(examples) % classes,
        classes=tuple(f"class {index}" for index in range(classes)),
        shown=np.arange(6),
        thumbnails=np.zeros((6, 8, 8, 3), dtype=np.uint8),
    )
    return Predictions(test=test, predicted=tuple(runs))


def test_section_is_on_the_recommended_strategys_runs(results, verdict, rows):
    found = read_predictions(results.location, rows)
    for row, predicted in zip(sorted(rows, key=lambda row: row.repeat), found.predicted, strict=True):
        agrees = (predicted.argmax(1) == found.test.targets) == row.example_scores
        assert agrees.mean() > 0.99, "half precision may turn a tie"
    html, best = section(results, verdict), verdict.recommended
    assert f"{best.family}, over 5 runs on\n500 test examples" in html
    assert verdict.metric.interval(best.score, best.low, best.high) in html
    assert f"AUROC {np.mean([row.scores['test_auroc'] for row in rows]):.3g}" in html


def test_section_shows_wrong_images_first(results, verdict, rows):
    shown = gallery(read_predictions(results.location, rows))
    assert len(shown) == 24
    assert [one.correct for one in shown] == sorted(one.correct for one in shown)
    assert all((one.answer == one.true) == one.correct for one in shown)
    marks = re.findall(
        r'<figure( class="wrong")?><img src="data:image/png;base64,[^"]+" alt="([^"]+)">', section(results, verdict)
    )
    assert [not wrong for wrong, _ in marks] == [one.correct for one in shown]
    assert [alt.endswith(one.true) for (_, alt), one in zip(marks, shown, strict=True)] == [
        one.correct for one in shown
    ]


def test_section_without_the_folder_says_so(results, verdict, tmp_path):
    html = section(
        replace(results, location=StudyLocation.of("tiny", out=tmp_path, storage=results.location.database.url)),
        verdict,
    )
    assert "The predictions of its runs are not here: they are in the study's folder" in html
    assert "macro F1" in html


def test_precision_recall_draws_the_worst_classes():
    """The macro average is of all classes; interpolated precision never rises with recall."""
    found = predictions(20, examples=400)
    for predicted in found.predicted:
        predicted[np.arange(400), found.test.targets] += found.test.targets / 40  # the later a class, the better
    info = precision_recall_info(found)
    averages = [curve.average_precision for curve in info]
    assert averages == sorted(averages)
    assert all((np.diff(curve.precision) <= 1e-12).all() for curve in info)
    average, *curves = precision_recall(found).data
    assert [curve.name.partition(",")[0] for curve in curves] == [curve.name for curve in info[:MAX_CLASSES_DRAWN]]
    assert average.name == f"macro average, AP {np.mean(averages):.3f}"


def test_precision_recall_skips_classes_the_test_set_lacks():
    found = predictions(3)
    lacking = replace(found.test, targets=found.test.targets % 2)
    assert {curve.name for curve in precision_recall_info(replace(found, test=lacking))} == {"class 0", "class 1"}


@pytest.mark.parametrize("decimals", [1, 8])
def test_interpolated_precision_is_the_best_at_a_recall_or_above(decimals):
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive = rng.random(60) < 0.3
        positive[0] = True
        scores = np.round(rng.random(60) + 0.3 * positive, decimals)  # of one decimal: with many ties
        precision, recall, _ = precision_recall_curve(positive, scores)
        best = [precision[:-1][recall[:-1] >= r - 1e-9].max() for r in np.linspace(0, 1, 101)]
        assert interpolated_precision(positive, scores) == pytest.approx(best)


def test_one_output_is_drawn_against_the_truth():
    truth = np.linspace(-1, 1, 2000, dtype=np.float32)
    line, points = predicted_against_true(truth + 0.5, truth).data
    assert list(line.x) == list(line.y) == [points.x.min(), points.y.max()]
    assert len(points.x) == 500
    assert np.asarray(points.y) == pytest.approx(np.asarray(points.x) + 0.5)


def test_forecasts_draw_a_good_a_usual_and_a_bad_example():
    truth = np.zeros((101, 4), dtype=np.float32)
    predicted = truth + np.sqrt(np.arange(101, dtype=np.float32))[:, None]
    figure = forecasts(predicted, truth)
    assert [trace.y[0] ** 2 for trace in figure.data if trace.name == "forecast"] == pytest.approx([10, 50, 90])
    assert len(figure.data) == 6
