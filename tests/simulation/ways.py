"""A held-out fifth beside cross-validation, by the labels in all: which way tells more, and up to where.

Cross-validation has 5 folds, as many as the race runs repeats of each strategy at first. With more folds some labels
would not be tested by then. Its intervals are narrower at any number of labels. Its leader is nearer to the best by .5
points at 80 labels, .3 at 250 and 500, .1 from 1000 on: there a held-out fifth, which is read but once, is as good.
"""

from collections.abc import Iterator
from itertools import product

from rich.table import Table as Text

from tests.simulation.coverage import studies, summary
from tests.simulation.study import Design, Way

LABELS = (80, 120, 250, 500, 700, 1000, 1500)
SHARES = (0.3, 1.0)
COMPARED: tuple[Way, ...] = ("held out", "crossed")


def report(*, count: int) -> Iterator[Text]:
    """Yield a table: coverage of the leader's interval, half its width, its regret and the recommended's, in points."""
    text = Text("N", "way", "n", "covered %", "half", "oracle's", "regret", "regret r.", title=f"{count} studies each")
    for labels, share, way in product(LABELS, SHARES, COMPARED):
        design = Design(way=way, labels=labels, share=share)
        found = summary(studies(design, count))
        numbers = (found["leader's"], found["width"] * found["+-"], found["+-"], found["regret"], found["regret r."])
        text.add_row(str(labels), way, str(design.size), *(f"{number:.2f}" for number in numbers))
    yield text
