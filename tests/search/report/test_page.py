import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from search.report import winners
from search.report.page import COLUMNS, render, trials_csv
from search.storage.location import StudyLocation
from search.verdict.judge import judge_all
from search.verdict.load import load_results


@pytest.fixture(scope="module")
def results(finished):
    return load_results(StudyLocation.of("tiny", out=finished / "studies", storage=None))


@pytest.fixture(scope="module")
def page(finished):
    return (finished / "studies" / "tiny" / "report.html").read_text()


def rendered(results):
    return render(results, judge_all(results))


def test_the_page_needs_nothing_from_outside(page):
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", markup)
    assert 'name="viewport"' in page


def test_the_page_gives_every_sizes_answer(page, results):
    for size, verdict in judge_all(results).items():
        assert f'<tr><td class="number">{size}</td>' in page
        assert verdict.sentence in page
        for candidate in verdict.candidates:
            assert f"{100 * candidate.score:.1f} %" in page


def test_the_page_names_what_is_frozen(page, results):
    assert f"4 layer groups: {', '.join(results.groups)}" in page
    depths = {c.strategy.freeze_depth for verdict in judge_all(results).values() for c in verdict.candidates}
    assert {4, 2} <= depths
    assert "frozen throughout: the whole backbone" in page
    assert f"frozen throughout: {', '.join(results.groups[:2])}<" in page


def test_a_regression_study_is_told_in_errors(results, tmp_path):
    def wrong(row):
        return None if row.test_accuracy is None else (1 - row.test_accuracy) / 10

    rows = [replace(row, test_mse=wrong(row), test_mae=0.5, test_accuracy=None) for row in results.rows]
    location = StudyLocation.of("tiny", out=tmp_path, storage=results.location.database.url)
    changed = replace(results, kind="regression", rows=tuple(rows), location=location)
    markup = re.sub(r"<script.*?</script>", "", rendered(changed), flags=re.DOTALL)
    for verdict in judge_all(changed).values():
        least = min(verdict.candidates, key=lambda c: c.score)
        assert verdict.candidates[0] is least
        assert verdict.metric.interval(least.score, least.low, least.high) in markup
        assert winners.scores({verdict.size: verdict}).layout.yaxis.title.text == "test MSE (less is better)"
    assert "within 1 % of the score of the leader" in markup
    assert "mean absolute error 0.5" in markup
    assert "accuracy" not in markup
    table = list(csv.DictReader(io.StringIO(trials_csv(changed))))
    assert {record["test_mse"] != "" for record in table if record["confirms"] == "True"} == {True}


def test_what_comes_from_the_study_is_escaped(results):
    evil = "<img src=x onerror=alert(1)>"
    task = results.spec.task.model_copy(update={"data": evil})
    rows = tuple(replace(row, reason=evil, state="FAIL") if row.number == 0 else row for row in results.rows)
    groups = (evil, *results.groups[1:])
    html = rendered(replace(results, spec=results.spec.model_copy(update={"task": task}), rows=rows, groups=groups))
    assert evil not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") >= 2


def test_the_score_of_a_candidate_is_from_its_confirm_trials_and_never_above_their_mean(results):
    for size, verdict in judge_all(results).items():
        means = {
            rows[0].source_trial: sum(row.test_accuracy for row in rows) / len(rows)
            for rows in _by_candidate(results, size)
        }
        highest = max(c.score for c in verdict.candidates)
        for candidate in verdict.candidates:
            mean = means[candidate.source_trial]
            # The leader's luck is taken off, and nobody is above it then; below it, all are as they were.
            assert candidate.score == pytest.approx(min(mean, highest))
            assert candidate.low <= candidate.score <= candidate.high


def _by_candidate(results, size):
    rows = results.confirmed(size)
    return [[row for row in rows if row.source_trial == number] for number in {row.source_trial for row in rows}]


def test_the_csv_has_every_trial(results):
    table = list(csv.DictReader(io.StringIO(trials_csv(results))))
    assert len(table) == len(results.rows)
    assert tuple(table[0]) == COLUMNS
    for record, row in zip(table, results.rows, strict=True):
        assert record["freeze_depth"] == str(row.strategy.freeze_depth)
        assert record["epochs"] == str(row.epochs), "epochs run, not the budget"


def test_without_repeats_the_page_says_what_gives_an_answer(results):
    spec = results.spec.model_copy(update={"confirm": results.spec.confirm.model_copy(update={"repeats": 0})})
    rows = tuple(row for row in results.rows if not row.confirms)
    html = rendered(replace(results, spec=spec, rows=rows))
    assert "No answer yet" in html
    assert "<code>[confirm] repeats</code>" in html
    assert "What the search tried (10 trials)" in html


def test_one_size_has_a_page_too(results):
    html = rendered(replace(results, rows=tuple(row for row in results.rows if row.size == 40), groups=()))
    assert "No answer yet" not in html
    assert "group 4" in html


@pytest.mark.slow
def test_the_page_opens_in_a_browser_offline_without_an_error(page, finished, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium: install the package to look at the page")
    # A page's errors do not reach the exit code, so the page counts them itself.
    counter = "<script>window.errors = 0; window.onerror = () => { window.errors++; };</script>"
    figures = "document.querySelectorAll('.main-svg').length"
    tail = f"<script>document.body.append(`errors=${{errors}} figures=${{{figures}}}`)</script>"
    file = tmp_path / "page.html"
    file.write_text(page.replace("<script>", counter + "<script>", 1).replace("</body>", tail + "</body>"))
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
         "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'user'}",
         "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r"errors=(\d+) figures=(\d+)", done.stdout)
    assert found is not None, done.stderr
    assert int(found[1]) == 0
    assert int(found[2]) >= 8
