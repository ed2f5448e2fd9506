from dataclasses import replace

import numpy as np
import pytest

from search.report.costs import cost, front, gains_figure, gains_info
from search.storage.location import StudyLocation
from search.verdict.judge import judge_all
from search.verdict.load import load_results
from search.verdict.metric import metric_of
from tests.search.report.test_winners import VERDICTS, verdict
from tests.search.verdict.rows import candidate
from tests.search.verdict.test_judge import TWICE, regression, squared_errors


@pytest.fixture(scope="module")
def results(finished):
    return load_results(StudyLocation.of("tiny", out=finished / "studies", storage=None))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_front_is_not_dominated(kind):
    rng = np.random.default_rng(0)
    sign = metric_of(None, kind).sign
    for _ in range(50):
        # Few values, so that there are ties in both.
        found = [
            candidate(str(place), 0.5 + 0.1 * rng.integers(5), seconds=1.0 + rng.integers(5)) for place in range(6)
        ]
        best = front(replace(verdict(50, [1.0], kind=kind), every_candidate=tuple(found)))

        def dominates(one, other):
            better = sign * (one.score - other.score)
            return better >= 0 and one.seconds <= other.seconds and (better > 0 or one.seconds < other.seconds)

        assert not any(dominates(one, other) for one in found for other in best)
        for left in found:
            twin = any((b.score, b.seconds) == (left.score, left.seconds) for b in best)
            assert twin or any(dominates(b, left) for b in best)
        assert [b.seconds for b in best] == sorted({b.seconds for b in best}), "cheapest first"


def test_cost_has_a_panel_a_size():
    panels = cost(VERDICTS)
    assert list(panels) == sorted(VERDICTS)
    for size, figure in panels.items():
        drawn = {trace.name: trace for trace in figure.data}
        for c in VERDICTS[size].candidates:
            assert (drawn[c.family].x, drawn[c.family].y) == ((c.seconds,), (pytest.approx(100 * c.score),))
        assert len(drawn["Pareto front"].x) == len(front(VERDICTS[size]))
        assert drawn["recommended"].x == (VERDICTS[size].recommended.seconds,)


def test_cost_is_in_operations_where_they_are_known():
    counted = tuple(replace(c, gflops=10.0 * c.seconds) for c in VERDICTS[50].candidates)
    (panel,) = cost({50: replace(VERDICTS[50], every_candidate=counted, recommended=counted[0])}).values()
    drawn = {trace.name: trace for trace in panel.data}
    assert [drawn[c.family].x for c in counted] == [(c.gflops,) for c in counted]
    assert panel.layout.xaxis.title.text == "GFLOPs to train"
    assert f"for {counted[0].gflops:.3g} GFLOPs, {counted[0].seconds:.3g} s" in drawn[counted[0].family].hovertemplate


@pytest.mark.parametrize(("dear", "kind"), [(2.0, None), (100.0, "log")])
def test_cost_panels_share_an_axis(dear, kind):
    far = replace(VERDICTS[200], recommended=candidate("full fine-tuning", 0.8, seconds=dear))
    far = replace(far, every_candidate=(*far.candidates, far.recommended))
    axes = [figure.layout.xaxis for figure in cost({50: VERDICTS[50], 200: far}).values()]
    low, high = axes[0].range
    assert {(axis.type, axis.range) for axis in axes} == {(kind, (low, high))}
    assert low < (0 if kind else 1.0) < (np.log10(dear) if kind else dear) < high


def test_cost_draws_one_candidate():
    low, high = cost({50: verdict(50, [1.0])})[50].layout.xaxis.range
    assert low < 1.0 < high


@pytest.fixture(scope="module")
def twice():
    """Return a study in which two families have a baseline and what was found as candidates."""
    rng = np.random.default_rng(0)
    return regression(squared_errors(rng, truth=[0.31, 0.5, 0.5, 0.5, 0.3, 0.45]), strategies=TWICE)


@pytest.mark.parametrize("which", ["results", "twice"])
def test_gains_are_confirmed_scores(which, request):
    results = request.getfixturevalue(which)
    verdicts = judge_all(results)
    info = gains_info(results, verdicts)
    assert [gain.size for gain in info] == sorted(verdicts)
    for gain in info:
        verdict = verdicts[gain.size]
        for kind, best in ((True, gain.baseline), (False, gain.found)):
            of_kind = [c for c in verdict.every_candidate if c.baseline is kind]
            assert best is (of_kind[0] if of_kind else None)
            assert all(verdict.metric.sign * (best.mean - c.mean) >= 0 for c in of_kind)
        assert gain.searched == {c.family: not c.baseline for c in verdict.candidates}
    figure = gains_figure(info, results.metric)
    shown = [y for trace in figure.data if trace.name for y in trace.y]
    confirmed = [results.metric.scale * c.score for v in verdicts.values() for c in v.every_candidate]
    assert shown
    assert all(any(y == pytest.approx(score) for score in confirmed) for y in shown)


@pytest.mark.parametrize("baseline", [True, False])
def test_gains_leave_out_a_kind_without_candidates(results, baseline):
    changed = replace(results, rows=tuple(replace(row, baseline=baseline) for row in results.rows))
    found = gains_info(changed, judge_all(changed))
    assert all((gain.found is None) is baseline and (gain.baseline is None) is not baseline for gain in found)
    lengths = {trace.name: len(trace.x) for trace in gains_figure(found, results.metric).data if trace.name}
    assert sorted(lengths.values()) == [0, len(found)]
