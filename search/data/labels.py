"""Labels as class indices: one spelling a class."""

import decimal
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from search.errors import TaskError

Spellings = Literal["join", "keep"]
SHOWN_CLASSES = 3


def class_indices(
    labels: list[str], *, names: tuple[str, ...] = (), at_least: int = 1
) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels as class indices (N,), and the names of the classes.

    names: the classes, if they are known; else they are the labels, sorted, as numbers if all are finite numbers.
    Raises `TaskError` for a label that is not among the names, or for fewer classes than `at_least`.
    """
    known = names or _in_order({*labels})
    index = {name: number for number, name in enumerate(known)}
    if len(known) < at_least:
        raise TaskError(f"all labels are {known[0]!r}; at least {at_least} classes are needed.")
    try:
        return torch.tensor([index[label] for label in labels], dtype=torch.int64), known
    except KeyError as error:
        raise TaskError(f"the test data have the label {error}, which the others don't have.") from None


def _in_order(labels: set[str]) -> tuple[str, ...]:
    try:
        if all(math.isfinite(float(label)) for label in labels):
            return tuple(sorted(labels, key=lambda label: (float(label), label)))
    except ValueError:
        pass
    return tuple(sorted(labels))


def one_spelling(
    labels: Sequence[str],
    *,
    known: Sequence[str] = (),
    spellings: Spellings | None,
    what: str,
    lines: Sequence[int],
) -> list[str]:
    """Return the labels without blanks at their ends, each class in one spelling.

    Two spellings are one class if they are the same number, or the same text but for case, blanks and quotes.

    known: the classes of other data, whose spelling is kept.
    spellings: "join" makes them one class, in its most frequent spelling; "keep" leaves each a class of its own.
    what, lines: the column, and the line of each label, for messages.

    Raises `TaskError`, naming all spellings of a class, unless `spellings` is given.
    """
    if spellings == "keep":
        return [label.strip() for label in labels]
    counts = Counter(labels)
    variants: dict[object, list[str]] = {}
    for label, _ in counts.most_common():
        variants.setdefault(_key(label), []).append(label)
    theirs = {_key(label): label for label in known}
    twice = {key: found for key, found in variants.items() if len(found) > 1}
    if twice and spellings is None:
        first = dict(zip(reversed(labels), reversed(lines), strict=True))
        classes = [
            " and ".join(f"{_shown(label, found)} ({_rows(counts[label])}, line {first[label]})" for label in found)
            for found in [*twice.values()][:SHOWN_CLASSES]
        ]
        more = f"; {len(twice) - SHOWN_CLASSES} more classes likewise" if len(twice) > SHOWN_CLASSES else ""
        raise TaskError(f"{what} spells one class in several ways: {', '.join(classes)}{more}; {_way_out(known)}.")
    chosen = {key: theirs.get(key, found[0].strip()) for key, found in variants.items()}
    for key, found in variants.items():
        if spellings is None and chosen[key] != found[0].strip():
            line = lines[labels.index(found[0])]
            other = f"{found[0].strip()!r} (line {line}) for a class that the other data spell {chosen[key]!r}"
            raise TaskError(f"{what} has {other}; {_way_out(known)}.")
    names = {label: chosen[key] for key, found in variants.items() for label in found}
    return [names[label] for label in labels]


def _way_out(known: Sequence[str]) -> str:
    apart = "" if known else ', or "keep" to tell them apart'
    return f'write it one way, or set option spellings = "join" to make them one class{apart}'


def _shown(label: str, found: list[str]) -> str:
    alike = {unicodedata.normalize("NFKC", one) for one in found}
    shown = repr(label) if len(alike) == len(found) else ascii(label)
    return re.sub(r" (?= )|(?<= ) ", r"\\x20", shown)  # messages join blanks


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _key(label: str) -> object:
    text = " ".join(unicodedata.normalize("NFKC", label).split()).casefold()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    try:
        number = decimal.Decimal(text.replace(",", "."))
    except decimal.InvalidOperation:
        return text
    return number if number.is_finite() and "_" not in text else text
