"""Errors that a user can mend, one class per place to look.

    FrostlineError
      SpecError      a study file or an option: file, key, value, what is allowed
      TaskError      the data, the model or the weights that a study file names
      StorageError   the database: a malformed URL, out of reach, not Frostline's
      StudyError     a study: unknown, unfinished, or stored with another spec

Each message is one line that says what to do. The command line prints it and exits with code 2.
"""

import re

MAX_MESSAGE_CHARACTERS = 1500
"""Length of a message; a longer one loses its middle."""


class FrostlineError(Exception):
    """The base of all errors for a caller to catch.

    Its message is one line and safe on any terminal, though it repeats text from study files, databases and file names.
    """

    def __str__(self) -> str:
        text = printable(" ".join(super().__str__().split()))
        limit = MAX_MESSAGE_CHARACTERS
        return text if len(text) <= limit else f"{text[: limit - 500]} ... {text[-495:]}"


class SpecError(FrostlineError):
    """A value in a study file, or an option in its place, is not allowed."""


class TaskError(FrostlineError):
    """The data, the model or the weights do not fit the study file."""


class StorageError(FrostlineError):
    """The database is out of reach, or its URL is malformed."""


class StudyError(FrostlineError):
    """The study is unknown, unfinished, or stored with another spec."""


def printable(text: str) -> str:
    """Return the text with line breaks, control characters and broken UTF-8 as escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def without_passwords(text: str) -> str:
    """Return text with "***" for all that can be a database's password."""
    text = re.sub(r":(?!//).*@", ":***@", text, flags=re.DOTALL)
    return re.sub(r"(pass\w*=)[^&]*", r"\1***", text)
