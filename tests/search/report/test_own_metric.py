"""The page of a study whose scores the user's own module logs."""

import numpy as np
import pytest

from search.report.page import render
from search.verdict.judge import judge_all
from tests.search.verdict.own_metric import own_results

LOSSES = 0.5 + np.random.default_rng(0).normal(scale=0.01, size=(5, 2))


@pytest.mark.parametrize("test_se", [None, 0.05])
def test_page_says_that_intervals_leave_out_examples(tmp_path, test_se):
    """It says so only where it is the case."""
    results = own_results(LOSSES, out=tmp_path, test_se=test_se)
    page = " ".join(render(results, judge_all(results)).split())
    assert ("these intervals leave out the draw of the test examples" in page) == (test_se is None)
    assert ("no predictions are kept" in page) == (test_se is None)
    assert "test loss" in page
