"""Numbers with decimal commas and groups of thousands."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.data.numerals import NOTATIONS, Numerals
from search.errors import TaskError
from tests.search.data.table_files import load_scores, write

MESSAGES = {
    ("1,5", "2"): 'set option decimal = ",".',
    ("1,234", "2,345"): 'set option decimal = "," to read it as 1.234, or option thousands = "," to read it as 1234.',
    ("1,234.5", "7"): 'set option thousands = ",".',
    ("1.234,5", "7"): 'set option decimal = ",", thousands = ".".',
    ("1\u202f234,5", "7"): 'set option decimal = ",", thousands = " ".',
    ("1'234.5", "7"): 'set option thousands = "\'".',
    ("1.234.567", "7"): 'set option decimal = ",", thousands = ".".',
    ("1.020", "950"): "column 'score' has '1.020' beside whole numbers below 1000; set option thousands",
    ("5%", "7"): "column 'score' has '5%', which is not a finite number; write it as a plain number.",
    ("1_000", "7"): "column 'score' has '1_000', which is not a finite number",
    ("1,5", "2.5"): "column 'score' has '1,5', which is not a finite number; write it as a plain number.",
    ("", "7"): "column 'score' has '', which is not a finite number.",
}


@pytest.mark.parametrize("cells", MESSAGES)
def test_number_in_another_notation_names_options(tmp_path, cells):
    """The message has the options, and how each reads an ambiguous cell."""
    text = "text|score\n" + "".join(f"film|{cell}\n" for cell in cells)
    with pytest.raises(TaskError, match=re.escape(MESSAGES[cells])):
        load_scores(write(tmp_path / "a.csv", text), delimiter="|")


@given(number=st.integers(-(10**9), 10**9), notation=st.sampled_from(NOTATIONS))
def test_number_in_its_notation_is_read_exactly(number, notation):
    """Each notation reads what it writes, grouped or not."""
    decimal, thousands = notation
    whole, rest = f"{number:,}", f"{abs(number) % 100:02}"
    text = f"{whole.replace(',', thousands or '')}{decimal}{rest}"
    assert Numerals(decimal=decimal, thousands=thousands).number(text) == float(f"{number}.{rest}")


def test_groups_that_are_no_thousands_are_no_number():
    """Groups have three digits."""
    for cell in ("1,23", "1,2345", "1234,567", ",123", "1.5,123"):
        assert Numerals(thousands=",").number(cell) is None
    assert Numerals(thousands=",").number("12,345.5") == 12345.5
    assert math.isnan(Numerals().number(" ? "))


def test_point_option_reads_doubtful_points(tmp_path):
    """`decimal` says that points are no groups, `thousands` that they are."""
    file = write(tmp_path / "a.csv", "text,score\na,1.020\nb,950\n")
    assert load_scores(file, decimal=".").pool.targets.tolist() == pytest.approx([1.02, 950])
    assert load_scores(file, thousands=".").pool.targets.tolist() == [1020, 950]
    with pytest.raises(TaskError, match="the options decimal and thousands are both"):
        load_scores(file, decimal=".", thousands=".")
