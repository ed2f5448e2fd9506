"""The frost line: steps, and none where noise covers it."""

from dataclasses import replace

import numpy as np
import pytest

from search.report.frost import frost, frost_figure, frost_sentence
from search.verdict.other_sizes import FrostLine
from strategies import FreezingStrategy
from tests.search.report.test_winners import VERDICTS
from tests.search.verdict.test_judge import regression, squared_errors

RESULTS = regression(squared_errors(np.random.default_rng(0), truth=[0.3]))


def frost_line(recommended=(4, 2, 2, 0), *, room=1, num_groups=4, sizes=(50, 100, 400, 800)):
    """Return a line with near-optimal depths as far as `room` from the recommended ones."""
    return FrostLine(
        num_groups=num_groups, sizes=sizes, recommended=recommended,
        lowest=tuple(max(0, depth - room) for depth in recommended),
        highest=tuple(min(num_groups, depth + room) for depth in recommended),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("recommended", "room", "pieces"),
    [
        ((4, 2, 2, 0), 1, [[0, 1, 2, 3]]),
        ((4, 3, 1, 0), 1, [[0], [1, 2], [3]]),
        ((4, 2, 2, 0), 2, [[0], [3]]),
        ((4, 2, 2, 0), 4, []),
        ((3, 3, 3, 3), 0, [[0, 1, 2, 3]]),
    ],
)
def test_line_joins_what_the_noise_can_tell_apart(recommended, room, pieces):
    """Depths that are near-optimal at each other's size are not joined, and a covered size has no line."""
    line = frost_line(recommended, room=room)
    assert line.pieces == pieces
    joined = [trace for trace in frost_figure(line, ()).data if trace.line.width == 2.5]
    assert [set(trace.y) for trace in joined] == [{recommended[n] for n in piece} for piece in pieces if len(piece) > 1]
    assert all(trace.line.shape == "hvh" for trace in joined)


def test_ice_ends_where_depths_become_near_optimal():
    line = frost_line()
    figure = frost_figure(line, ["stem", "one", "two", "three"])
    named = {trace.name: trace for trace in figure.data if trace.name}
    assert (named["recommended"].x, named["recommended"].y) == (line.sizes, line.recommended)
    assert named["frozen"].y[1:-1] == line.lowest
    assert named["near-optimal depths"].y[1:-1] == line.highest
    assert set(named["trains"].y) == {5}
    assert figure.layout.yaxis.range == (5, 0), "the input is on top, the head below all groups"


def test_axis_names_groups_where_there_is_room():
    def names(line, groups):
        return list(frost_figure(line, groups).layout.yaxis.ticktext)

    assert names(frost_line(), ["stem", "one", "two", "three"]) == ["stem", "one", "two", "three", "<b>head</b>"]
    assert names(frost_line(), ())[:2] == ["group 1", "group 2"]
    many = names(frost_line(num_groups=50), [f"encoder.blocks.layer_{index}" for index in range(50)])
    assert len(many) == len(set(many)) <= 13, "a name is cut where it is the same as the others"
    assert max(map(len, many)) <= 15


def test_covered_sizes_are_named_and_draw_nothing():
    every = tuple(FreezingStrategy(freeze_depth=depth) for depth in range(5))
    covered = {size: replace(verdict, near_optimal=every) for size, verdict in VERDICTS.items()}
    assert frost(RESULTS, covered) is None
    assert frost_sentence(RESULTS, covered).startswith("At 50, 200 labels the noise can't tell")
    assert frost(RESULTS, {**covered, 200: VERDICTS[200]}) is not None
    assert frost_sentence(RESULTS, VERDICTS) == ""
