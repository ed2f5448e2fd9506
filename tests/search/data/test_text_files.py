"""Encodings of tables: by their marks, or refused with the option to set."""

import codecs
import re

import pytest

from search.errors import TaskError
from tests.search.data.table_files import load_texts, rows, write

TEXT = rows("text,label", "le décor {n},{label}")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_mark_is_followed_with_a_note(tmp_path, encoding):
    """The mark says the encoding, and one note says so."""
    data = load_texts(write(tmp_path / "a.csv", TEXT, encoding=encoding))
    assert data.pool.inputs.rows[0] == ("le décor 0",)
    (note,) = data.notes
    assert note.endswith(f"is read as {encoding.upper().removesuffix('-SIG')}, by the byte-order mark.")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16-le", "utf-16-be", "cp1251", "shift_jis", "gb18030"])
def test_encoding_option_reads_the_file(tmp_path, encoding):
    """Without the option the file is refused, with it the texts are right."""
    letters = {"cp1251": "фильм", "shift_jis": "映画", "gb18030": "电影"}.get(encoding, "décor")
    file = write(tmp_path / "a.csv", TEXT.replace("décor", letters), encoding=encoding)
    with pytest.raises(TaskError, match=r"it is not UTF-8 text.* set (option|its own) encoding"):
        load_texts(file)
    assert load_texts(file, encoding=encoding).pool.inputs.rows[0] == (f"le {letters} 0",)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (TEXT.encode("utf-16-be"), {}, 'it is not UTF-8 text; set option encoding = "utf-16-be".'),
        (TEXT.encode("cp1252"), {}, "set option encoding = \"cp1252\" if this is right: 'le décor 0,0'"),
        (TEXT.encode() + "ça,1".encode("cp1252"), {}, "line 14: it is not UTF-8 text, though 12 other lines are; mend"),
        (TEXT.encode(), {"encoding": "ascii"}, "line 2: it is not ASCII text; leave option encoding out"),
        (TEXT.encode(), {"encoding": "rot13"}, "option encoding = 'rot13' must be an encoding that Python knows"),
        (codecs.BOM_UTF16_LE + b"a", {}, "it is not UTF-16 text"),
        (b"PK\x03\x04\x14\xff\x81", {}, "it is not UTF-8 text, but a spreadsheet; save it as CSV."),
        (b"text,label\na\0b,1\n", {}, "line 2: a NUL character; allowed: text."),
    ],
)  # fmt: skip
def test_undecodable_file_names_line_and_option(tmp_path, content, options, message):
    """The message names the line and how it would read."""
    with pytest.raises(TaskError, match=re.escape(message)):
        load_texts(write(tmp_path / "a.csv", content), **options)


def test_encoding_option_for_utf8_gets_a_note(tmp_path):
    """UTF-8 that is read as something else is likely garbled."""
    data = load_texts(write(tmp_path / "a.csv", TEXT), encoding="cp1252")
    assert "is read as cp1252, though it is UTF-8, too: leave option encoding out" in data.notes[0]
