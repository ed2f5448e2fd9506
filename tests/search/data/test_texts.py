import csv

import pytest

from search.data.load import load_data
from search.errors import TaskError

ROWS = "sentence,label\n" + "".join(f'"so {word}, it is",{word}\n' for word in ["good", "bad", "fair"] * 5)


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding, newline="")
    return str(path)


def load(name, **options):
    return load_data(name, {"text": "sentence", **options}, where="[task] data")


def test_texts_and_their_classes(tmp_path):
    data = load(write(tmp_path / "a.csv", ROWS))
    assert data.classes == ("bad", "fair", "good")
    assert (len(data.pool), len(data.test)) == (15, 0)
    for (text,), target in zip(data.pool.inputs.rows, data.pool.targets.tolist(), strict=True):
        assert text == f"so {data.classes[target]}, it is"


def test_pairs_numbers_and_a_test_file(tmp_path):
    text = "a\tb\tscore\tother\n" + "".join(f'x{n} "\ty{n}\t{n / 2}\t{n}\n' for n in range(10))
    name, test = write(tmp_path / "a.tsv", text), write(tmp_path / "b.tsv", text.replace("x", "z"))
    data = load(name, text=["a", "b"], target="score", test=test)
    assert data.kind == "regression"
    assert data.pool.inputs.rows[3] == ('x3 "', "y3")
    assert data.test.inputs.rows[0] == ('z0 "', "y0")
    assert data.pool.targets.tolist() == [n / 2 for n in range(10)]
    assert load(name, text="a", target=["score", "other"]).outputs == 2


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\x0c", "\x1e"])
@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_only_line_breaks_end_a_line(tmp_path, separator, ending):
    rows = ["sentence,label", f"one{separator}text,x", "another,y", "   ", "third,x"]
    text = "\n".join(rows).replace(",", "\t" if ending == ".tsv" else ",")
    data = load(write(tmp_path / f"a{ending}", text), test=0)
    assert data.pool.inputs.rows == ((f"one{separator}text",), ("another",), ("third",))


def test_a_text_may_be_long(tmp_path):
    data = load(write(tmp_path / "a.csv", f"sentence,label\n{'long ' * 100_000},x\nb,y\n"), test=0)
    assert len(data.pool.inputs.rows[0][0]) == 499_999


def test_a_text_in_both_sets_gets_a_note(tmp_path):
    name, test = (
        write(tmp_path / "a.csv", ROWS),
        write(tmp_path / "b.csv", "sentence,label\nnew,bad\n" + ROWS.split("\n")[1]),
    )
    data = load(name, test=test)
    assert "1 of 2 test examples are in the pool as well (the first is number 1)" in data.notes[0]
    with pytest.raises(TaskError, match=r"test = .*a.csv' is the data themselves"):
        load(name, test=name)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("sentence,label\na,x\nb,\nc,y\nd,  \n", {}, r"line 3: column 'label' is empty \(2 such lines\)"),
        ("sentence,label\na,x\n,y\n", {}, "line 3: column 'sentence' is empty"),
        ("sentence,label\na,x\nb,nan\nc,y\nd,NaN\n", {}, r"line 3: column 'label' is nan \(2 such lines\)"),
        ("sentence,label\na,x\nb\n\nc\n", {}, r"line 3: 1 cells under a header of 2 \(2 such lines\)"),
        ("sentence,label\na,x\nb,x\n", {}, "all labels are 'x'; at least 2"),
        ("sentence,kind\na,x\n", {}, "has no column 'label'; its columns: sentence, kind"),
        ("sentence,sentence\na,x\n", {}, "has two columns 'sentence'"),
        ("sentence,label\n", {}, "needs a header and at least one row"),
        ('sentence,label\n"a"b,x\n', {}, "line 2: ',' expected after '\"'"),
        (
            "sentence,score\na,1\nb,high\n",
            {"target": "score"},
            "line 3: column 'score' has 'high', which is not a fini",
        ),
        (ROWS, {"target": "label", "label": "label"}, "the option label, for classes, or target"),
        (ROWS, {"text": 3}, "option text = 3 must be a column, or a list of columns"),
        (ROWS, {"text": ["sentence"] * 3}, "must be a column, or a list of two"),
        (ROWS, {"lable": "x"}, "option lable = 'x' is not known; allowed: text, label, target, test, delimiter"),
        (ROWS, {"test": "nowhere.csv"}, "nowhere.csv: No such file"),
        (ROWS, {"text": []}, r"option text = \[\] must be a column, or a list of columns"),
    ],
)
def test_impossible_tables_are_refused_in_one_line(tmp_path, text, options, message):
    with pytest.raises(TaskError, match=rf"^\[task\] data = .*a.csv'.*{message}") as caught:
        load(write(tmp_path / "a.csv", text), **options)
    assert "\n" not in str(caught.value)


def test_a_test_file_with_a_label_of_its_own_is_refused(tmp_path):
    name, test = write(tmp_path / "a.csv", ROWS), write(tmp_path / "b.csv", ROWS.replace("good", "great"))
    with pytest.raises(TaskError, match="the test data have the label 'great'"):
        load(name, test=test)


@pytest.mark.slow
def test_real_reviews(film_reviews, tmp_path):
    with (tmp_path / "movies.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["sentence", "label", "rating"])
        writer.writerows([text, "good" if rating > 0 else "bad", rating] for text, rating in film_reviews)
    data = load(str(tmp_path / "movies.csv"))
    assert data.classes == ("bad", "good")
    assert len(data.pool) + len(data.test) == len(film_reviews) > 8000
    assert load(str(tmp_path / "movies.csv"), target="rating").kind == "regression"
