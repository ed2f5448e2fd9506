"""Tables of twelve rows in any form."""

from search.data.load import load_data

FILMS = tuple((f"the film, take {n}",) for n in range(12))


def rows(header, row):
    """Return a file's text: twelve rows of a form that has {n} and {label}."""
    return "\n".join([header, *(row.format(n=n, label=n % 2) for n in range(12))]) + "\n"


SCORES = "text;score\n" + "".join(f"film {n};1.{n:03},5\n" for n in range(12))


def write(path, text, encoding="utf-8"):
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return str(path)


def load_texts(name, **options):
    return load_data(name, {"text": "text", "test": 0, **options}, where="[task] data")


def load_scores(name, **options):
    return load_texts(name, target="score", **options)
