"""Tables as spreadsheets, R and databases write them: read, or refused with the options to set."""

import csv
import io
import re
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.data.load import load_data
from search.errors import TaskError
from tests.search.data.table_files import FILMS, SCORES, load_scores, load_texts, rows, write

SEMICOLONS = rows("text;label", "the film, take {n};{label}")
COMMAS = rows("text,label", "film {n},{label}")
TABS = rows("text\tlabel", "the film, take {n}\t{label}")
R_CSV2 = rows('"";"text";"label"', '"{n}";"the film, take {n}";"{label}"')
R_TABLE = rows('"text"\t"label"', '"the film, take {n}"\t"{label}"')
BACKSLASHES = rows("text,label", '"a \\"film\\", take {n}",{label}')

REFUSED = {
    "semicolons": (SEMICOLONS, ["line 2: 2 cells under a header of 1 (12 such lines)", 'set option delimiter = ";".']),
    "tabs": (TABS, [r'set option delimiter = "\t".']),
    "single quotes": (R_TABLE.replace('"', "'").replace("\t", ","), ["set option quote = \"'\"."]),
    "plain quotes": (COMMAS.replace("film", '"Great" film'), ["line 2:", 'set option quote = "".']),
    "backslashes": (BACKSLASHES, [r"line 2:", r"is written twice, not as \""]),
    "no header": (COMMAS[11:], ['if its first line is no header, set option header = ["text", "label"].']),
    "a title": ("Films of 2024\n\n" + COMMAS, ["line 3 is the header: delete the lines above it."]),
    "a header twice": (COMMAS + COMMAS, ["line 14: it is the header again; delete that line."]),
    "row names": (rows("text,label", "{n},film {n},{label}"), ["add a name for the first or last column"]),
    "a plain comma": (COMMAS + "well, well,1\n", ["line 14: 3 cells under a header of 2; quote cells that hold ','."]),
    "an open quote": (COMMAS + '"film,1\n' + COMMAS[11:], ["line 14: unexpected end of data"]),
    "an empty row": (COMMAS + ",\nfilm,1\n", ["line 14: column 'text' is empty."]),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_table_of_another_form_names_options_to_set(tmp_path, kind):
    """The message names the line, and the options with which the file can be read."""
    text, parts = REFUSED[kind]
    with pytest.raises(TaskError) as caught:
        load_texts(write(tmp_path / "a.csv", text))
    for part in parts:
        assert part in str(caught.value)


READ = {
    "old line ends": (SEMICOLONS.replace("\n", "\r"), {"delimiter": ";"}),
    "sep=": ("sep=;\r\n" + SEMICOLONS, {}),
    "R's write.csv2": (R_CSV2, {"delimiter": ";"}),
    "empty columns and rows": (SEMICOLONS.replace("\n", ";;\n") + ";;;\n;;;\n\n", {"delimiter": ";"}),
    "no header": (SEMICOLONS[11:], {"delimiter": ";", "header": ["text", "label"]}),
    "single quotes": (R_TABLE.replace('"', "'").replace("\t", ","), {"quote": "'"}),
    "blanks after commas": (R_TABLE.replace("\t", ", "), {}),
}


@pytest.mark.parametrize("kind", READ)
def test_table_with_its_options_is_read_whole(tmp_path, kind):
    """Each form gives the same texts and classes."""
    text, options = READ[kind]
    data = load_texts(write(tmp_path / "a.csv", text), **options)
    assert data.pool.inputs.rows == FILMS
    assert (data.classes, data.pool.targets.tolist()) == (("0", "1"), [0, 1] * 6)


def test_separators_and_lines_in_quotes_are_text(tmp_path):
    """Quoted cells keep their separators, line ends and doubled quotes."""
    text = rows("text;label", '"a;\r\n""b"", {n}";{label}')
    data = load_texts(write(tmp_path / "a.csv", text), delimiter=";")
    assert data.pool.inputs.rows[3] == ('a;\r\n"b", 3',)
    with pytest.raises(TaskError, match='set option delimiter = ";"'):
        load_texts(write(tmp_path / "a.csv", text))


def test_line_of_the_separator_is_noted_and_counted(tmp_path):
    """A first line `sep=;` is followed with a note, and line numbers count it."""
    text = "sep=;\n" + SEMICOLONS
    data = load_texts(write(tmp_path / "a.csv", text))
    assert data.notes[0].endswith("a.csv is separated by ';', as its first line says.")
    with pytest.raises(TaskError, match="line 15: column 'label' is empty"):
        load_texts(write(tmp_path / "a.csv", text + "film;\n"))


@pytest.mark.parametrize("text", [R_TABLE, R_TABLE.replace("film", '""film""')])
def test_quotes_of_a_tsv_are_refused_until_named(tmp_path, text):
    """Quotes are plain characters in `.tsv`; a file that seems quoted needs the option."""
    plain = text.replace('"text"\t"label"', "text\tlabel")
    for one in (text, plain):
        with pytest.raises(TaskError, match="set option quote = "):
            load_texts(write(tmp_path / "a.tsv", one))
    quoted = load_texts(write(tmp_path / "a.tsv", plain), quote='"').pool.inputs.rows[0][0]
    assert quoted in ("the film, take 0", 'the "film", take 0')
    assert load_texts(write(tmp_path / "a.tsv", plain), quote="").pool.inputs.rows[0][0][0] == '"'


def test_header_option_of_a_file_with_a_header_is_refused(tmp_path):
    """The file's own header would be an example."""
    with pytest.raises(TaskError, match="line 1: it is the header; the option header is for files without one"):
        load_texts(write(tmp_path / "a.csv", COMMAS), header=["text", "label"])


@pytest.mark.parametrize("gap", ["", '""', "  "])
def test_blank_line_of_one_column_is_missing(tmp_path, gap):
    """A gap in a series of one column is not closed."""
    text = rows("value", "{n}").replace("\n5\n", f"\n5\n{gap}\n")
    with pytest.raises(TaskError, match="line 8: column 'value' has ''"):
        load_data(write(tmp_path / "a.csv", text), {"target": "value", "window": 2}, where="[task] data")


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("delimiter", '"', "one character"),
        ("delimiter", "\n", "one character"),
        ("quote", "''", 'one character, or "" for none'),
        ("quote", "\n", 'one character, or "" for none'),
        ("header", [], "a list of the columns' names"),
        ("decimal", ";", "'.' or ','"),
        ("spellings", "both", "'join' or 'keep'"),
    ],
)
def test_option_of_a_form_is_checked(tmp_path, option, value, allowed):
    """A value that no file can have is refused with what is allowed."""
    with pytest.raises(TaskError, match=re.escape(f"option {option} = {value!r} must be {allowed}")):
        load_texts(write(tmp_path / "a.csv", COMMAS), **{option: value})


def test_quote_that_is_the_delimiter_is_refused(tmp_path):
    """The two options need different characters."""
    with pytest.raises(TaskError, match="options quote and delimiter are both ';'"):
        load_texts(write(tmp_path / "a.csv", SEMICOLONS), delimiter=";", quote=";")


def test_options_for_a_german_export_are_named_at_once(tmp_path):
    """One message has encoding, separator and signs of a German spreadsheet, and with them it is read."""
    file = write(tmp_path / "a.csv", SCORES.replace("film", "Müll"), encoding="cp1252")
    keys = 'set option encoding = "cp1252", delimiter = ";", decimal = ",", thousands = "." if'
    with pytest.raises(TaskError, match=re.escape(keys)):
        load_scores(file)
    data = load_scores(file, encoding="cp1252", delimiter=";", decimal=",", thousands=".")
    assert data.pool.inputs.rows[0] == ("Müll 0",)
    assert data.pool.targets.tolist() == [1000.5 + n for n in range(12)]


LETTERS = st.characters(codec="ascii", exclude_characters="\0") | st.sampled_from("éüß")
"""No two of them are valid UTF-8 when written as cp1252."""
CELLS = st.text(LETTERS, min_size=1, max_size=12).map(str.strip)


@settings(suppress_health_check=[HealthCheck.too_slow])  # it writes files
@given(
    cells=st.lists(CELLS.filter(lambda cell: cell not in ("", "nan", "NaN", "text")), min_size=2, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    ending=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]),
)
def test_options_of_the_message_read_what_was_written(tmp_path_factory, cells, delimiter, ending, encoding):
    """Any quoted file is read at once, or with the options of one message, cell by cell."""
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *((cell, f"class {n % 2}") for n, cell in enumerate(cells))])
    file = write(tmp_path_factory.mktemp("table") / "a.csv", written.getvalue(), encoding=encoding)
    try:
        data = load_texts(file)
    except TaskError as error:
        keys = re.search(r"set option (\w+ = .*?)(\.$| if this is right)", str(error))
        data = load_texts(file, **tomllib.loads(f"x = {{ {keys[1]} }}")["x"])
    assert data.pool.inputs.rows == tuple((cell,) for cell in cells)
