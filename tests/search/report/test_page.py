import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from search.report import winners
from search.report.csv_files import trials_csv
from search.report.page import render
from search.storage.location import StudyLocation
from search.verdict.judge import judge_all
from search.verdict.load import load_results
from search.verdict.predictions import read_predictions, save_predictions

SCRIPT = "<script>alert(1)</script>"
MEASURE = """<script>onload = () => setTimeout(() => {
  document.querySelectorAll("details").forEach(details => { details.open = true; });
  const height = element => element?.matches(".legend") ? element.offsetHeight : 0;
  const figures = [...document.querySelectorAll(".plotly-graph-div")].map(
    figure => [height(figure.parentElement.previousElementSibling), figure.offsetHeight]);
  parent.postMessage(JSON.stringify({
    errors, figures, window: innerWidth, width: document.documentElement.scrollWidth}), "*");
}, 2000)</script>"""
"""A script that reports a page's errors, its width and the heights of its figures and their legends."""


class Page(HTMLParser):
    """A page's elements with their attributes' names, its text on one line, and the content of its scripts."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.scripts = [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, *(name for name, _ in attributes)))

    def handle_data(self, data):
        inside = self.elements[-1][0] if self.elements and self.cdata_elem else ""
        {"script": self.scripts, "style": []}.get(inside, self.texts).append(data)


def rendered(results):
    return render(results, judge_all(results))


@pytest.fixture(scope="module")
def results(finished):
    return load_results(StudyLocation.of("tiny", out=finished / "studies", storage=None))


@pytest.fixture(scope="module")
def html(finished):
    return (finished / "studies" / "tiny" / "report.html").read_text()


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_page_needs_nothing_from_outside(html):
    markup = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", markup)
    assert 'name="viewport"' in html


def test_page_gives_the_answer_at_every_size(page, results):
    for size, verdict in judge_all(results).items():
        assert f"{size} {verdict.sentence}" in page.text
        for candidate in verdict.candidates:
            assert f"{100 * candidate.score:.1f} %" in page.text


def test_page_names_the_frozen_groups(page, results):
    assert f"4 layer groups: {', '.join(results.groups)}" in page.text
    depths = {c.strategy.freeze_depth for verdict in judge_all(results).values() for c in verdict.candidates}
    assert {4, 2} <= depths
    assert "frozen throughout: the whole backbone" in page.text
    assert f"frozen throughout: {', '.join(results.groups[:2])} " in page.text


def test_regression_page_shows_errors(results, tmp_path):
    def wrong(row):
        if not row.judged:
            return {}
        tested, validated = ((1 - row.scores[f"{part}_accuracy"]) / 10 for part in ("test", "val"))
        return {"test_rmse": tested, "test_mae": 0.5, "val_rmse": validated}

    rows = [replace(row, value=(1 - row.value) / 10, scores=wrong(row)) for row in results.rows]
    location = StudyLocation.of("tiny", out=tmp_path, storage=results.location.database.url)
    changed = replace(results, kind="regression", rows=tuple(rows), location=location)
    text = Page(rendered(changed)).text
    for verdict in judge_all(changed).values():
        least = min(verdict.candidates, key=lambda c: c.score)
        assert verdict.candidates[0] is least
        assert verdict.metric.interval(least.score, least.low, least.high) in text
        assert (
            winners.scores({verdict.size: verdict}).layout.yaxis.title.text
            == "test root mean squared error (less is better)"
        )
    assert "within 1 % of the score of the leader" in text
    assert "mean absolute error 0.5" in text
    assert "accuracy" not in text
    table = list(csv.DictReader(io.StringIO(trials_csv(changed))))
    assert {record["test_rmse"] != "" for record in table if record["judged"] == "True"} == {True}


@pytest.fixture(scope="module")
def named(results, tmp_path_factory):
    """Return a function that renders the study with one text as every name, label, path and error of it."""

    def call(text):
        folder = tmp_path_factory.mktemp("named")
        location = replace(StudyLocation.of("named", out=folder, storage=None), name=text)
        rows = []
        for row in results.rows:
            if row.judged and (found := read_predictions(results.location, [row])) is not None:
                kept = {name: getattr(found.test, name) for name in ("targets", "shown", "thumbnails")}
                file = save_predictions(
                    location,
                    row.number,
                    example_scores=row.example_scores,
                    predicted=found.predicted[0],
                    tested=row.tested,
                    test={**kept, "classes": np.array([text] * 10)},
                )
                row = replace(row, predictions_file=file)
            rows.append(row)
        rows.append(replace(results.explored(20)[0], number=10, reason=text, state="FAIL"))
        spec = results.spec
        spec = spec.model_copy(
            update={
                "task": spec.task.model_copy(update={"data": text}),
                "model": spec.model.model_copy(update={"backbone": text, "weights": text}),
                "source": None,
            }
        )
        groups = (text,) * len(results.groups)
        return rendered(replace(results, location=location, spec=spec, rows=tuple(rows), groups=groups))

    return call


def test_script_in_any_name_stays_text(named):
    """It adds no element, and neither ends a script nor becomes one of plotly's tags in a figure."""
    plain, found = Page(named("name")), Page(named(SCRIPT))
    assert found.elements == plain.elements
    assert found.text.count(SCRIPT) == plain.text.count("name") - plain.text.count("names")
    for part in (f"{SCRIPT}: which freezing", f"Data {SCRIPT}, backbone {SCRIPT} (4 layer groups: {SCRIPT}, "):
        assert part in found.text
    assert f"weights: {SCRIPT}." in found.text
    assert re.search(rf"exploring trial 10, [a-z -]+: {re.escape(SCRIPT)}", found.text)
    figures = "".join(script for script in found.scripts if "Plotly.newPlot(" in script)
    texts = re.findall(r'"[^"]*(?:alert|script)[^"]*"', figures)
    assert len(texts) >= 8 + len("1234"), "the names of classes and of layer groups"
    assert not [text for text in texts if "<" in text or "\\u003c" in text]


def test_page_without_repeats_says_how_to_get_an_answer(results):
    spec = results.spec.changed(confirm={"repeats": 0})
    rows = tuple(row for row in results.rows if not row.judged)
    text = Page(rendered(replace(results, spec=spec, rows=rows))).text
    assert "No answer yet" in text
    assert "Give [confirm] repeats of the study file a number" in text
    assert "What the search tried (10 trials)" in text


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_its_screen_offline_and_without_an_error(named, tmp_path, width):
    """On a phone, too, nothing scrolls sideways and no legend is higher than its figure."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium: install the package to look at the page")
    # A page's errors do not reach the exit code, so the page counts them itself; an alert is one, too.
    counter = "<script>window.errors = 0; window.onerror = window.alert = () => { window.errors++; };</script>"
    html = named(SCRIPT).replace("<script>", counter + "<script>", 1).replace("</body>", f"{MEASURE}</body>")
    (tmp_path / "page.html").write_text(html)
    frame = tmp_path / "frame.html"  # a window of chromium's is never as narrow as a phone
    frame.write_text(
        f"<iframe src=page.html width={width} height=900></iframe><p></p>"
        "<script>onmessage = message => { document.querySelector('p').textContent = message.data; }</script>"
    )
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
         "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=9000", f"--user-data-dir={tmp_path / 'user'}",
         "--window-size=1400,900", "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r"<p>(\{.*?\})</p>", done.stdout)
    assert found is not None, done.stderr
    seen = json.loads(found[1])
    assert seen["errors"] == 0
    assert len(seen["figures"]) >= 8
    assert seen["width"] <= seen["window"] == width
    assert all(legend < figure for legend, figure in seen["figures"])
