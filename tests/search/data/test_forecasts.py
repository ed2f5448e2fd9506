import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search.data.load import load_data
from search.errors import TaskError


def write(path, steps):
    rows = [f"day {n},{n},{n * n}" for n in range(steps)]
    path.write_text("\n".join(["day,value,other", *rows]) + "\n")
    return str(path)


def load(name, **options):
    return load_data(name, {"target": "value", **options}, where="[task] data")


@given(window=st.integers(1, 6), horizon=st.integers(1, 4), stride=st.integers(1, 5), share=st.floats(0.2, 0.5))
def test_targets_follow_windows_that_cross_no_border(tmp_path_factory, window, horizon, stride, share):
    name = write(tmp_path_factory.mktemp("series") / "a.csv", 60)
    data = load(name, window=window, horizon=horizon, stride=stride, test=share, standardize=False)
    border = 60 - round(share * 60)
    border -= border % stride  # one grid of windows: the test set sees the seasons that the pool does
    for part, start, end in ((data.pool, 0, border), (data.test, border, 60)):
        seen, coming = part.inputs[..., 0], part.targets
        assert seen.shape[1:] == (window,)
        assert coming.shape[1:] == (horizon,)
        steps = torch.cat([seen, coming], dim=1)
        assert (steps.diff(dim=1) == 1).all(), "targets follow their inputs"
        assert seen[:, 0].tolist() == list(range(start, end - window - horizon + 1, stride))


def test_several_targets_stand_step_by_step(tmp_path):
    data = load(write(tmp_path / "a.csv", 40), target=["value", "other"], window=4, horizon=2, standardize=False)
    assert (data.kind, data.outputs) == ("regression", 4)
    assert data.pool.targets[0].tolist() == [4, 16, 5, 25]
    assert data.pool.inputs.shape[1:] == (4, 2)
    one = load(write(tmp_path / "a.csv", 40), channels=["other"], window=4, standardize=False)
    assert one.pool.inputs[1, :, 0].tolist() == [1, 4, 9, 16]
    assert one.pool.targets[1].tolist() == [5]


def test_scaling_knows_the_pool_only_and_tells_the_unit(tmp_path):
    data = load(write(tmp_path / "a.csv", 100), window=1, horizon=1, test=0.3)
    plain = load(write(tmp_path / "a.csv", 100), window=1, horizon=1, test=0.3, standardize=False)
    steps = torch.arange(70.0)
    expected = (plain.test.targets - steps.mean()) / steps.std(correction=0)
    torch.testing.assert_close(data.test.targets, expected)
    assert "units of the targets' standard deviation in the pool: value 20.2" in data.notes[0]


def test_parts_are_slices_in_time(tmp_path):
    name = write(tmp_path / "a.csv", 100)
    early = load(name, part=[0, 0.5], window=3, test=0, standardize=False)
    late = load(name, part=[0.5, 1], window=3, standardize=False)
    assert early.pool.targets.max() == 49
    assert late.pool.inputs.min() == 50


def test_the_test_set_may_be_a_file(tmp_path):
    data = load(write(tmp_path / "a.csv", 30), test=write(tmp_path / "b.csv", 20), window=4, horizon=4)
    assert (len(data.pool), len(data.test)) == (6, 4)


def test_scaling_is_exact_for_numbers_that_are_far_from_zero(tmp_path):
    far = "".join(f"{n},{1_700_000_000 + n}\n" for n in range(100))
    (tmp_path / "far.csv").write_text("day,value\n" + far)
    near = load(write(tmp_path / "near.csv", 100), window=4)
    assert torch.equal(load(str(tmp_path / "far.csv"), window=4).pool.inputs, near.pool.inputs)


def test_a_gap_in_the_series_is_one_line(tmp_path):
    name = write(tmp_path / "a.csv", 30)
    text = (tmp_path / "a.csv").read_text().replace("day 7,7,", "day 7,NaN,")
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(TaskError, match=r"a.csv, line 9: column 'value' has 'NaN', which is not a finite number"):
        load(name, window=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "option window = 0 must be greater than or equal to 1"),
        ({"horizon": 2}, "needs the option window"),
        ({"window": 3, "target": "price"}, "has no column 'price'; its columns: day, value, other"),
        ({"window": 3, "target": "day"}, "line 2: column 'day' has 'day 0'"),
        ({"window": 3, "channels": "value"}, "option channels = 'value' must be a list of columns"),
        ({"window": 24}, "are too few for window = 24 and horizon = 1; at least 25"),
        ({"window": 3, "target": []}, "option target = \\[\\] must be a column, or a list of columns"),
        ({"window": 3, "part": [0, 0.05]}, "are too few"),
    ],
)
def test_impossible_options_are_refused_in_one_line(tmp_path, options, message):
    with pytest.raises(TaskError, match=rf"^\[task\] data = .*a.csv'.*{message}") as caught:
        load(write(tmp_path / "a.csv", 30), **options)
    assert "\n" not in str(caught.value)
