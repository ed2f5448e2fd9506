"""What a user can get wrong, one class per place to look.

    FrostlineError
      SpecError      a study file or an option: file, key, value, what is allowed
      TaskError      the data, the model or the weights that a study file names
      StorageError   the database: a malformed URL, out of reach, not ours
      StudyError     a study: unknown, unfinished, or stored with another spec

Each message is one line that says what to do. The command line prints it and exits with code 2.
"""

import re

LONGEST = 1500
"""Characters of a message; what stands in the middle of a longer one is left out."""


class FrostlineError(Exception):
    """The base of everything a caller may want to catch. Its message is one line that is safe on any terminal.

    For it repeats what others wrote: a study file, a database, a file's name.
    """

    def __str__(self) -> str:
        text = printable(" ".join(super().__str__().split()))
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 500]} ... {text[-495:]}"


class SpecError(FrostlineError):
    """A study file, or an option that overrides it, says something that is not allowed."""


class TaskError(FrostlineError):
    """The data, the model or the weights can't be what the study file says."""


class StorageError(FrostlineError):
    """The database can't be reached, or the URL is malformed."""


class StudyError(FrostlineError):
    """There is no such study, it is not finished, or it was stored with another spec."""


def printable(text: str) -> str:
    """A text as it may stand in a line: line breaks, control characters and broken UTF-8 as escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def without_passwords(text: str) -> str:
    """What is a database URL, or holds one, for people: all that can be a password in it is "***"."""
    text = re.sub(r":(?!//).*@", ":***@", text, flags=re.DOTALL)
    return re.sub(r"(pass\w*=)[^&]*", r"\1***", text)
