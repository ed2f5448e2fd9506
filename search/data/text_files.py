"""Text files in any encoding, read or refused with the key to set."""

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from search.errors import TaskError

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's, which it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte-order marks, and the encodings that they stand for."""

OTHERS = '("cp1250", "cp1251", "mac_roman", "shift_jis", "gb18030", ...)'
SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of .xlsx and .ods files, and of .xls files."""
SHOWN_CHARACTERS = 40


def _check_encoding(name: str) -> str:
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise ValueError("an encoding") from None
    return name


Encoding = Annotated[str, AfterValidator(_check_encoding)]


def read_text(
    path: Path, *, encoding: str | None = None, more_keys: Callable[[str], list[str]] = lambda _: []
) -> tuple[str, str]:
    """Read a file in UTF-8, with a byte-order mark, or in the given encoding.

    more_keys: from the text, as a likely encoding has it, other keys to set.

    Returns the text and a note, "" if all is as expected. Raises `TaskError`, naming the line that is something else.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        raise TaskError(f"{path}: {getattr(error, 'strerror', None) or error}.") from None
    _refuse_wide(path, content, encoding, more_keys)
    marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    try:
        text = content.decode(marked or encoding or "utf-8").removeprefix("\ufeff")
    except UnicodeError as error:
        raise _undecodable(path, content, marked or encoding, getattr(error, "start", 0), more_keys) from None
    if "\0" in text[: 1 << 20]:
        line = text[: text.index("\0")].count("\n") + 1
        raise TaskError(f"{path}, line {line}: a NUL character; allowed: text.")
    if marked:
        return text, f"read as {marked.upper()}, by the byte-order mark"
    if encoding and _is_utf8(content) and not content.isascii() and text != content.decode():
        return text, f"read as {encoding}, though it is UTF-8, too: leave option encoding out if letters are garbled"
    return text, ""


def _undecodable(
    path: Path, content: bytes, encoding: str | None, start: int, more_keys: Callable[[str], list[str]]
) -> TaskError:
    line = content[:start].count(b"\n") + 1
    problem = f"{path}, line {line}: it is not {(encoding or 'utf-8').upper()} text"
    if content.startswith(SPREADSHEETS):
        return TaskError(f"{problem}, but a spreadsheet; save it as CSV.")
    if encoding is not None:
        remedy = "leave option encoding out, for it is UTF-8" if _is_utf8(content) else "save the file as UTF-8"
        return TaskError(f"{problem}; {remedy}, or set option encoding to its own {OTHERS}.")
    lines = content.split(b"\n")
    broken = [row for row in lines if not _is_utf8(row)]
    utf8 = sum(not row.isascii() for row in lines if _is_utf8(row))
    if utf8 >= len(broken):
        return TaskError(f"{problem}, though {utf8} other {'line is' if utf8 == 1 else 'lines are'}; mend that line.")
    try:
        text = content.decode("cp1252")  # a spreadsheet's in Western Europe and America
    except UnicodeDecodeError:
        return TaskError(f"{problem}; save the file as UTF-8, or set option encoding to its own {OTHERS}.")
    row = broken[0]
    at = next(place for place, byte in enumerate(row) if byte > 127)
    shown = row.decode("cp1252").strip()[max(0, at - SHOWN_CHARACTERS // 2) :][:SHOWN_CHARACTERS]
    return TaskError(
        f"{problem}; set option {_keys('cp1252', more_keys(text))} if this is right: {shown!r}; "
        f"else save the file as UTF-8, or set its own encoding {OTHERS}."
    )


def _keys(encoding: str, more: list[str]) -> str:
    return ", ".join([f'encoding = "{encoding}"', *more])


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refuse_wide(path: Path, content: bytes, encoding: str | None, more_keys: Callable[[str], list[str]]) -> None:
    """Refuse UTF-16 without a byte-order mark: of Latin text every other byte is 0."""
    start = content[:200]
    even, odd = start[0::2].count(0), start[1::2].count(0)
    name = "utf-16-le" if odd > 3 * even else "utf-16-be" if even > 3 * odd else ""
    if encoding is not None or not name or content.startswith((*MARKS, *SPREADSHEETS)):
        return
    try:
        keys = _keys(name, more_keys(content.decode(name)))
    except UnicodeDecodeError:
        return
    raise TaskError(f"{path}: it is not UTF-8 text; set option {keys}.")
