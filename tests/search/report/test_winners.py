from dataclasses import replace
from itertools import pairwise
from math import log10

import pytest

from search.report import winners
from search.report.style import STYLES, size_axis, two_lines
from search.report.winners import Cell, strategy_map_info
from search.verdict.judge import Verdict
from search.verdict.metric import metric_of
from search.verdict.trivial import Trivial
from strategies import FreezingStrategy
from tests.search.verdict.rows import candidate


def verdict(size, shares, *, wins=False, recommended=0, failed=(), kind="classification"):
    """Return a verdict on the first families, with these probabilities; where one wins, the rest are worse."""
    found = tuple(
        candidate(
            family,
            0.8 - 0.05 * place,
            p_best=share,
            p_within_margin=share,
            contends=share >= 0.05,
            seconds=1.0 + place,
            strategy=FreezingStrategy(freeze_depth=0, head_lr=1e-3 * (1 + place)),
        )
        for place, (family, share) in enumerate(zip(STYLES, shares, strict=False))
    )
    return Verdict(
        size=size, repeats=5, candidates=found, every_candidate=found, winner=found[0] if wins else None,
        failed=failed, recommended=found[recommended], near_optimal=(found[0].strategy,), metric=metric_of(None, kind),
    )  # fmt: skip


VERDICTS = {
    50: verdict(50, [0.98, 0.01, 0.01], wins=True),
    200: verdict(200, [0.5, 0.5], recommended=1, failed=("full fine-tuning",)),
}


def cell(text, p_within_margin=None, *, status="", recommended=False):
    return Cell(p_within_margin=p_within_margin, text=text, status=status, recommended=recommended)


def test_map_info_has_every_family_at_every_size():
    """One cell a size is recommended; of two that tie, the recommended one. A failed family has a cross."""
    info = strategy_map_info({**VERDICTS, 800: verdict(800, [1.0])})
    assert info["linear probing"] == {
        50: cell("<b>98</b><br>★", 0.98, status="winner", recommended=True),
        200: cell("<b>50</b><br>●", 0.5, status="as good as the best"),
        800: cell("<b>100</b><br>●", 1.0, status="as good as the best, recommended", recommended=True),
    }
    assert info["partial freezing"] == {
        50: cell("<b>1</b><br>○", 0.01, status="worse"),
        200: cell("<b>50</b><br>●", 0.5, status="as good as the best, recommended", recommended=True),
        800: cell("-"),
    }
    assert [one.text for one in info["full fine-tuning"].values()] == ["<b>1</b><br>○", "✗", "-"]


def test_map_draws_all_cells_on_one_scale():
    figure = winners.strategy_map(VERDICTS)
    for trace, (family, cells) in zip(figure.data, strategy_map_info(VERDICTS).items(), strict=True):
        assert (trace.name, list(trace.z[0])) == (family, [one.p_within_margin for one in cells.values()])
        assert trace.colorscale[-1][1] == STYLES[family][0]
        assert (trace.zmin, trace.zmax) == (0, 1), "equal shares are equally strong, in every row"
    assert {((s.x0 + s.x1) / 2, (s.y0 + s.y1) / 2) for s in figure.layout.shapes} == {(0, 0), (1, 1)}
    assert [(note.x, note.y, note.text) for note in figure.layout.annotations] == [(1, 2, "✗")]


def test_scores_and_intervals_are_the_verdicts():
    lines = {trace.name: trace for trace in winners.scores(VERDICTS).data}
    for size, v in VERDICTS.items():
        for c in v.candidates:
            trace = lines[c.family]
            index = [data[0] for data in trace.customdata].index(size)
            assert trace.y[index] == pytest.approx(100 * c.score)
            assert trace.y[index] + trace.error_y.array[index] == pytest.approx(100 * c.high)
            assert trace.y[index] - trace.error_y.arrayminus[index] == pytest.approx(100 * c.low)
            assert trace.marker.symbol[index].endswith("-open") != c.contends


@pytest.mark.parametrize("sizes", [(50,), (50, 200), (50, 100, 110, 10_000)])
def test_points_moved_aside_stay_nearest_to_their_size(sizes):
    figure = winners.scores({size: verdict(size, [0.2] * 6) for size in sizes})
    low, high = figure.layout.xaxis.range
    for trace in figure.data:
        for x, (size, *_) in zip(trace.x, trace.customdata, strict=True):
            assert min(sizes, key=lambda other: abs(log10(other) - log10(x))) == size
            assert low < log10(x) < high
    assert len({trace.x[0] for trace in figure.data}) == 6


@pytest.mark.parametrize(
    ("kind", "scale", "axis"), [("regression", 20.0, "log"), ("regression", 1.5, None), ("classification", 0.01, None)]
)
def test_only_errors_that_span_much_have_a_log_axis(kind, scale, axis):
    v = verdict(50, [0.5, 0.5], kind=kind)
    far = replace(v.candidates[1], score=v.candidates[0].score * scale)
    figure = winners.scores({50: replace(v, candidates=(v.candidates[0], far))})
    assert figure.layout.yaxis.type == axis


@pytest.mark.parametrize("sizes", [[7], [50, 100, 200], [10, 20, 50, 75, 100, 110, 111, 112, 10_000]])
def test_size_axis_shows_all_and_names_them_apart(sizes):
    axis = size_axis(sizes)
    low, high = axis["range"]
    assert all(low < log10(size) < high for size in sizes)
    assert axis["ticktext"] == [str(size) for size in axis["tickvals"]]
    assert all(log10(b / a) > 0.03 * (high - low) for a, b in pairwise(axis["tickvals"]))


def test_families_differ_without_colour():
    assert len({dash for _, dash, _ in STYLES.values()}) == len(STYLES)
    assert len({symbol for _, _, symbol in STYLES.values()}) == len(STYLES)
    assert len({two_lines(family) for family in STYLES}) == len(STYLES)


def test_only_the_winning_candidate_of_a_family_is_a_winner():
    first = VERDICTS[50].candidates[0]
    other = replace(first, strategy=FreezingStrategy(freeze_depth=4), contends=False)
    both = replace(VERDICTS[50], every_candidate=(*VERDICTS[50].candidates, other))
    assert [winners.status(both, c) for c in (first, other)] == ["winner", "worse"]
    cheap = replace(other, contends=True)
    assert winners.status(replace(both, recommended=cheap), cheap) == "as good as the best, recommended"
    assert strategy_map_info({50: replace(both, recommended=cheap)})["linear probing"][50].recommended


def test_a_familys_cell_has_its_likeliest_candidate():
    first = VERDICTS[200].candidates[0]
    likelier = replace(first, strategy=FreezingStrategy(freeze_depth=4), p_within_margin=0.7)
    both = replace(VERDICTS[200], every_candidate=(*VERDICTS[200].candidates, likelier))
    assert strategy_map_info({200: both})["linear probing"][200].p_within_margin == 0.7


def test_what_is_near_guessing_is_named_at_the_edge():
    """The axis holds the intervals of all others, and no more than some room beyond."""
    v = verdict(50, [0.5, 0.4, 0.1])
    far = replace(v.candidates[2], score=0.13, low=0.1, high=0.2, mean=0.13)
    every = (*v.candidates[:2], far)
    v = replace(v, candidates=every, every_candidate=every, trivial=Trivial(guess="x", scores=(0.1,), metric=v.metric))
    figure = winners.scores({50: v})
    low, high = figure.layout.yaxis.range
    ends = [100 * end for c in every[:2] for end in (c.low, c.high)]
    assert min(ends) - 0.1 * (max(ends) - min(ends)) < low < min(ends)
    assert max(ends) < high < max(ends) + 0.1 * (max(ends) - min(ends))
    edge = next(trace for trace in figure.data if trace.name is None)
    assert (list(edge.y), list(edge.text)) == ([low], ["13.0"])
    drawn = {trace.name: trace.y for trace in figure.data if trace.name}
    assert drawn[far.family] == (None,)
