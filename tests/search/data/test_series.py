import numpy as np
import pytest
import torch

from search.data.load import load_data
from search.errors import TaskError

HEADER = "@problemName a\n@timeStamps false\n@classLabel true x y\n@data\n"


def load(name, **options):
    return load_data(str(name), options, where="[task] data")


def write(path, text):
    path.write_text(text)
    return path


def test_japanese_vowels(assets):
    data = load(assets / "japanese-vowels" / "JapaneseVowels_TRAIN.ts", standardize=False)
    assert (len(data.pool), len(data.test), data.classes) == (270, 370, tuple("123456789"))
    values, lengths = data.pool.inputs["values"], data.pool.inputs["lengths"]
    assert values.shape == (270, 29, 12)
    assert data.test.inputs["values"].shape == (370, 29, 12)
    assert (int(lengths.min()), int(torch.cat([lengths, data.test.inputs["lengths"]]).max())) == (7, 29)
    assert values[0, 0, 0] == pytest.approx(1.860936)
    assert values[0, 1, 0] == pytest.approx(1.891651)
    assert values[0, 0, 1] == pytest.approx(-0.207383)
    assert lengths[0] == 20
    assert (values[0, 20:] == 0).all()
    assert data.test.targets.bincount().tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]


def test_standardising_counts_the_pool_and_no_padding(assets):
    data = load(assets / "japanese-vowels" / "JapaneseVowels_TRAIN.ts", part=[0, 0.5])
    values, lengths = data.pool.inputs["values"], data.pool.inputs["lengths"]
    real = torch.arange(29) < lengths[:, None]
    torch.testing.assert_close(values[real].mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(values[real].std(0, correction=0), torch.ones(12))
    assert (values[~real] == 0).all()
    assert data.test.inputs["values"].abs().max() < 20


def test_equal_lengths_are_a_plain_tensor(tmp_path):
    lines = "".join(f"{n},{n + 1},{n + 2}:1,1,1:{'xy'[n % 2]}\n" for n in range(20))
    data = load(write(tmp_path / "a_TRAIN.ts", HEADER + lines), standardize=False)
    assert (data.pool.inputs.shape, data.test.inputs.shape) == ((20, 3, 2), (0, 3, 2))
    assert torch.equal(data.pool.inputs[:, 1, 0].long() % 2, 1 - data.pool.targets)


def test_a_target_of_numbers_is_regression(tmp_path):
    lines = "".join(f"{n},{n}:{n / 2}\n" for n in range(20))
    data = load(write(tmp_path / "a.ts", "@targetlabel true\n@data\n" + lines))
    assert (data.kind, data.outputs, len(data.test)) == ("regression", 1, 0)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1,2:3,4:x\n1,?:3,4:y\n", "line 6: channel 1, step 2: a value is missing, NaN or infinite"),
        ("1,2:3,4:x\n1,2:NaN,4:y\n", "line 6: channel 2, step 1: a value is missing"),
        ("1,2:3,4:x\n1,2:3,4,5:y\n", "line 6: its channels differ in length"),
        ("1,2:3,4:x\n1,2:y\n", "line 6: 1 channels, the first series has 2"),
        ("1,2:3,4:x\n1,b:3,4:y\n", "line 6: channel 1: could not convert"),
        ("1,2:3,4:x\n1,2:3,4:\n", "line 6: the label after the last ':' is missing"),
        ("1,2:x\n3,4:x\n", "all labels are 'x'"),
        ("", "has no series"),
    ],
)
def test_impossible_ts_files_are_refused_in_one_line(tmp_path, lines, message):
    with pytest.raises(TaskError, match=rf"^\[task\] data = .*a.ts'.*{message}") as caught:
        load(write(tmp_path / "a.ts", HEADER + lines))
    assert "\n" not in str(caught.value)


def test_other_ts_files_are_refused(tmp_path):
    with pytest.raises(TaskError, match="line 3: series with time stamps"):
        load(write(tmp_path / "a.ts", "@timeStamps true\n@data\n(0,1),(1,2):x\n"))
    with pytest.raises(TaskError, match="line 1: a series before the line @data"):
        load(write(tmp_path / "b.ts", "1,2:x\n"))


def table(lengths, **columns):
    rows = ["series,step,u,note,v,label"]
    for one, length in enumerate(lengths):
        rows += [f"s{one},{step},{one}.5,hello,{step * 10},{'ab'[one % 2]}" for step in range(length)]
    return "\n".join(rows) + "\n"


def test_a_long_table_has_a_row_a_step(tmp_path):
    name = write(tmp_path / "a.csv", table([3, 5] * 10))
    data = load(name, time="step", test=0, standardize=False)
    assert data.classes == ("a", "b")
    assert data.pool.inputs["values"].shape == (20, 5, 2)
    assert data.pool.inputs["lengths"].tolist() == [3, 5] * 10
    assert data.pool.inputs["values"][1].T.tolist() == [[1.5] * 5, [0, 10, 20, 30, 40]]
    assert load(name, channels=["v"], test=0).pool.inputs["values"].shape == (20, 5, 1)
    other = write(tmp_path / "b.csv", table([4] * 6))
    assert load(name, test=str(other)).test.inputs["lengths"].tolist() == [4] * 6


def test_rows_of_a_series_need_not_stand_together(tmp_path):
    text = "series,label,v\np,a,1\nq,b,2\np,a,3\nq,b,4\n"
    data = load(write(tmp_path / "a.csv", text), test=0, standardize=False)
    assert data.pool.inputs[..., 0].tolist() == [[1, 3], [2, 4]]


def test_channels_by_default_are_named_with_what_is_left(tmp_path):
    """Columns of no numbers are left out with a note; row numbers without a name are no channel."""
    text = ",".join(["", table([3] * 4).replace("\n", "\n7,")]).removesuffix("7,")
    data = load(write(tmp_path / "a.csv", text), time="step", test=0)
    assert data.notes[0].endswith("a.csv: channels are the columns of numbers, u, v; left out: '', 'note'.")
    assert data.pool.inputs.shape == (4, 3, 2)
    with pytest.raises(TaskError, match="line 2: column 'u' has 'n/a', which is not a finite number"):
        load(write(tmp_path / "a.csv", text.replace(",0.5,", ",n/a,", 1)), time="step")


def test_channels_with_decimal_commas_are_not_dropped(tmp_path):
    """Numbers in another notation are refused with the option, not left out."""
    name = write(tmp_path / "a.csv", table([3] * 4).replace(",", ";").replace(".", ","))
    with pytest.raises(TaskError, match='set option delimiter = ";", decimal = ","'):
        load(name, time="step")
    with pytest.raises(TaskError, match=r"column 'u' has '0,5', .* set option decimal = \",\""):
        load(name, time="step", delimiter=";")
    data = load(name, time="step", delimiter=";", decimal=",", test=0, standardize=False)
    assert data.pool.inputs[1, :, 0].tolist() == [1.5] * 3


def test_time_of_no_column_is_refused(tmp_path):
    """A misspelt time would be a channel."""
    with pytest.raises(TaskError, match="has no column 'stepp'"):
        load(write(tmp_path / "a.csv", table([3] * 4)), time="stepp")


def test_ts_labels_have_one_spelling(tmp_path):
    """Labels of `.ts` files that differ in spelling are refused with both."""
    name = write(tmp_path / "a.ts", HEADER + "1,2:1\n2,3:0\n3,4:1.0\n")
    with pytest.raises(TaskError, match=r"'1' \(1 row, line 5\) and '1.0' \(1 row, line 7\)"):
        load(name)
    assert load(name, spellings="join", test=0).classes == ("0", "1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("series,label,v\np,a,1\np,a,\n", "line 3: column 'v' has '', which is not a finite number"),
        ("series,label,v\np,a,1\np,a,nan\nq,b,inf\n", r"line 3: column 'v' has 'nan', .* \(2 such lines\)"),
        ("series,label,v\np,a,1\np,a,1e39\n", "line 3: column 'v' has '1e39', which is not a finite number"),
        ("series,label,v\np,a,1\np,b,1\n", "line 3: series 'p' has two labels"),
        ("series,label,v\np,a,1\n,b,1\n", "line 3: column 'series' is empty"),
        ("series,label,v\np,a,x\n", "has no column of numbers beside"),
        ("id,label,v\np,a,1\n", "has no column 'series'"),
    ],
)
def test_impossible_tables_are_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(TaskError, match=rf"^\[task\] data = .*a.csv'.*{message}"):
        load(write(tmp_path / "a.csv", text))


def test_a_constant_channel_is_no_division_by_zero(tmp_path):
    lines = "".join(f"7,7:{n},{n * n}:{'xy'[n % 2]}\n" for n in range(20))
    values = load(write(tmp_path / "a.ts", HEADER + lines)).pool.inputs
    assert np.isfinite(values.numpy()).all()
    assert (values[..., 0] == 0).all()
