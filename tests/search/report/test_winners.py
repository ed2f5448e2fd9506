from dataclasses import replace
from itertools import pairwise
from math import log10

import pytest

from search.report import winners
from search.report.style import STYLES, size_axis, two_lines
from search.verdict.judge import Candidate, Verdict
from search.verdict.metric import METRICS
from search.verdict.other_sizes import FrostLine
from strategies import FreezingStrategy


def candidate(family, score, p_best, *, contends=True, seconds=1.0):
    return Candidate(
        family=family,
        strategy=FreezingStrategy(freeze_depth=0),
        source_trial=0,
        score=score,
        low=0.9 * score,
        high=1.05 * score,
        p_best=p_best,
        seconds=seconds,
        contends=contends,
        repeats=5,
    )


def verdict(size, shares, *, wins=False, recommended=0, failed=(), kind="classification"):
    """A verdict on the first families, with these P(best); where one wins, the rest are ruled out."""
    found = [
        candidate(family, 0.8 - 0.05 * place, share, contends=share >= 0.05, seconds=1.0 + place)
        for place, (family, share) in enumerate(zip(STYLES, shares, strict=False))
    ]
    return Verdict(
        size=size,
        repeats=5,
        candidates=tuple(found),
        winner=found[0] if wins else None,
        recommended=found[recommended],
        failed=failed,
        near_optimal=(FreezingStrategy(freeze_depth=0),),
        metric=METRICS[kind],
    )


VERDICTS = {
    50: verdict(50, [0.98, 0.01, 0.01], wins=True),
    200: verdict(200, [0.5, 0.5], recommended=1, failed=("full fine-tuning",)),
}


def test_the_map_has_every_share_in_the_colour_of_its_family():
    rows = {trace.name: trace for trace in winners.strategy_map(VERDICTS).data}
    for column, size in enumerate(VERDICTS):
        for c in VERDICTS[size].candidates:
            trace = rows[c.family]
            assert trace.z[0][column] == c.p_best
            assert trace.text[0][column].startswith(f"<b>{100 * c.p_best:.0f}</b>")
            assert trace.colorscale[-1][1] == STYLES[c.family][0]
            assert (trace.zmin, trace.zmax) == (0, 1), "equal shares are equally strong, in every row"


def test_the_map_frames_what_is_recommended_and_stars_the_winner_alone():
    figure = winners.strategy_map(VERDICTS)
    frames = {((s.x0 + s.x1) / 2, (s.y0 + s.y1) / 2) for s in figure.layout.shapes}
    assert frames == {(0, 0), (1, 1)}, "one a size; of two that tie, the recommended"
    stars = [(trace.name, column) for trace in figure.data for column, t in enumerate(trace.text[0]) if "★" in t]
    assert stars == [("linear probing", 0)]
    assert {t[-1] for t in figure.data[1].text[0]} == {"○", "●"}, "ruled out at 50, a contender at 200"


def test_the_map_tells_failed_from_not_there():
    figure = winners.strategy_map({**VERDICTS, 800: verdict(800, [1.0])})
    assert {(note.x, note.y): note.text for note in figure.layout.annotations} == {
        (1, 2): "✗",
        (2, 1): "-",
        (2, 2): "-",
    }


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
def test_a_point_that_is_moved_aside_stays_nearest_to_its_size_and_in_sight(sizes):
    figure = winners.scores({size: verdict(size, [0.2] * 6) for size in sizes})
    low, high = figure.layout.xaxis.range
    for trace in figure.data:
        for x, (size, *_) in zip(trace.x, trace.customdata, strict=True):
            assert min(sizes, key=lambda other: abs(log10(other) - log10(x))) == size
            assert low < log10(x) < high
    assert len({trace.x[0] for trace in figure.data}) == 6


def test_errors_that_span_decades_have_a_logarithmic_axis_and_accuracies_never():
    def axis(kind, scale):
        v = verdict(50, [0.5, 0.5], kind=kind)
        far = replace(v.candidates[1], score=v.candidates[0].score * scale)
        return winners.scores({50: replace(v, candidates=(v.candidates[0], far))}).layout.yaxis.type

    assert axis("regression", 20.0) == "log"
    assert axis("regression", 1.5) is None
    assert axis("classification", 0.01) is None


def frost_line(num_groups=4, sizes=(50, 100, 400)):
    depths = [num_groups, num_groups // 2, 0][: len(sizes)]
    return FrostLine(
        num_groups=num_groups,
        sizes=sizes,
        recommended=tuple(depths),
        lowest=tuple(max(0, depth - 1) for depth in depths),
        highest=tuple(min(num_groups, depth + 1) for depth in depths),
        line=tuple((float(size), float(depth)) for size, depth in zip(sizes, depths, strict=True))[
            : len(sizes) // 2 * 3
        ],
    )


@pytest.mark.parametrize("sizes", [(50, 100, 400), (50,)])
def test_ice_ends_at_the_recommended_depth_and_the_hatch_is_the_band(sizes):
    line = frost_line(sizes=sizes)
    figure = winners.frost(line, ["stem", "one", "two", "three"])
    named = {trace.name: trace for trace in figure.data if trace.name}
    assert named["recommended"].x == line.sizes
    assert named["recommended"].y == line.recommended
    assert named["frozen throughout"].y[1:-1] == line.recommended
    assert named["near-optimal"].y[1:-1] == line.highest
    before = figure.data[figure.data.index(named["near-optimal"]) - 1]
    assert before.y[1:-1] == line.lowest, "it is filled to the trace before it"
    assert ("their middle" in named) == (len(sizes) > 1)
    bottom, top = figure.layout.yaxis.range
    assert (bottom, top) == (5, 0), "the input is on top, the head below all groups"


def test_the_frost_lines_axis_names_the_groups_as_far_as_there_is_room():
    def names(line, groups):
        return list(winners.frost(line, groups).layout.yaxis.ticktext)

    assert names(frost_line(), ["stem", "one", "two", "three"]) == ["stem", "one", "two", "three", "<b>head</b>"]
    assert names(frost_line(), ())[:2] == ["group 1", "group 2"]
    many = names(frost_line(50), [f"encoder.blocks.layer_{index}" for index in range(50)])
    assert len(many) <= 13
    assert max(map(len, many)) <= 15
    assert len(set(many)) == len(many), "a name is cut where it tells them apart"
    assert names(frost_line(1), ["<img src=x>"])[0] == "&lt;img src=x&gt;"


@pytest.mark.parametrize("sizes", [[7], [50, 100, 200], [10, 20, 50, 75, 100, 110, 111, 112, 10_000]])
def test_sizes_are_all_in_sight_and_named_apart(sizes):
    axis = size_axis(sizes)
    low, high = axis["range"]
    assert all(low < log10(size) < high for size in sizes)
    assert axis["ticktext"] == [str(size) for size in axis["tickvals"]]
    assert all(log10(b / a) > 0.03 * (high - low) for a, b in pairwise(axis["tickvals"]))


def test_families_are_told_apart_without_colour():
    assert len({dash for _, dash, _ in STYLES.values()}) == len(STYLES)
    assert len({symbol for _, _, symbol in STYLES.values()}) == len(STYLES)
    assert len({two_lines(family) for family in STYLES}) == len(STYLES)
