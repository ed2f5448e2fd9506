"""Sentences on how a study was judged, and its page with several candidates a family."""

from dataclasses import replace

import numpy as np
import pytest

from search.report.judging import judging
from search.report.page import render
from search.verdict.judge import judge, judge_all
from tests.search.report.test_page import Page
from tests.search.verdict.test_judge import TWICE, regression, squared_errors

LAST = "At 50 labels, which is all there are, repeats differ by their seed alone: that answer is for these labels."
TESTED = "Judged on 300 test examples, which no trial trains on."
CROSSED = (
    "Judged by cross-validation: there is no test set, so one part of the {} labels tests at a time, in a repeat "
    "that does not train on it."
)
SHARED = (
    "Repeats at 50 of {} labels have most of them in common, so they are no new draws; the intervals allow for that."
)


def study(**facts):
    rng = np.random.default_rng(0)
    return regression(squared_errors(rng, truth=[0.31, 0.5, 0.5, 0.5, 0.3, 0.45]), strategies=TWICE, **facts)


@pytest.mark.parametrize(
    ("facts", "sentences"),
    [
        ({}, [TESTED]),
        ({"labels": 1000, "all": 1000}, [TESTED]),
        ({"labels": 90, "all": 90}, [TESTED, SHARED.format(90)]),
        ({"labels": 50, "all": 50}, [TESTED, LAST]),
        ({"labels": 120, "all": 96, "cross_validated": True}, [CROSSED.format(120)]),
        (
            {"labels": 62, "all": 50, "cross_validated": True},
            [CROSSED.format(62), "All means 50 of 62 labels: the others test.", SHARED.format(62)],
        ),
    ],
)
def test_judging_says_what_judged_and_what_is_shared(facts, sentences):
    results = study(**facts)
    assert judging(results) == sentences
    assert " ".join(sentences) in Page(render(results, judge_all(results))).text


def test_page_of_one_size_without_group_names():
    text = Page(render(study(), judge_all(study()))).text
    assert "No answer yet" not in text
    assert "(4 layer groups)" in text


def test_judging_is_silent_before_there_are_judged_trials():
    results = study()
    assert judging(replace(results, rows=tuple(row for row in results.rows if not row.judged))) == []


def test_page_lists_every_candidate():
    results = study()
    verdicts = judge_all(results)
    page = Page(render(results, verdicts))
    for c in verdicts[50].every_candidate:
        assert results.metric.interval(c.score, c.low, c.high) in page.text
    rows = page.text.split("their mean strategy")[1].split("What the search tried")[0]
    assert rows.count("linear probing") == rows.count("partial freezing") == 2
    assert rows.count("full fine-tuning") == 1
    assert "fresh" not in page.text
    assert "head-to-head" not in page.text


def test_page_of_unexplored_sizes_lists_the_baselines():
    results = study(unexplored=frozenset({50}), baselines=tuple(TWICE), labels=62, all=50, cross_validated=True)
    rows = tuple(row for row in results.rows if row.judged)
    text = Page(render(replace(results, rows=rows), judge_all(replace(results, rows=rows)))).text
    assert "Nothing was searched at this size" in text
    assert "At 50 labels there are too few to search by. The candidates there are the baselines." in text
    assert "What the search added" not in text
    assert "What the search tried" not in text


def test_page_begins_with_what_nothing_beats():
    results = study()
    rows = tuple(replace(row, test_trivial=0.01 if row.judged else None) for row in results.rows)
    changed = replace(results, rows=rows)
    text = Page(render(changed, judge_all(changed))).text
    sentence = judge(changed, 50).sentence
    assert sentence.startswith("nothing beats guessing the mean (0.0100)")
    assert text.index(sentence) < text.index("Who wins where")
    assert "★" not in text.replace("★ winner", "")
    assert "For comparison: guessing the mean (0.0100)." in text


def test_page_offers_to_take_what_beats_guessing():
    """Where nothing does, it shows no command."""
    results = study()
    trivial = [replace(row, test_trivial=0.01) if row.judged else row for row in results.rows]
    for rows, offered in ((results.rows, True), (tuple(trivial), False)):
        known = replace(results, rows=rows)
        text = Page(render(known, judge_all(known))).text
        assert ("python -m search best x --size 50" in text) == offered
        assert ("Take it" in text) == offered
