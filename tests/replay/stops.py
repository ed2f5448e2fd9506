"""The epoch that a run is judged at: of its lowest validation loss, the last, or one chosen over the repeats.

Half of the draws choose a strategy, and its stop epoch, on labels that were not drawn. The other half judge them by
test accuracy, so that no rule gains by chance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.table import Table as Text

from tests.replay.grid import stops
from tests.replay.search import Replay
from tests.replay.table import Table

Array = NDArray[np.float64]
RULES = ("lowest loss", "last", "best of four")
OTHER_RATE = 0.25
"""The second rate of a baseline, as a share of its usual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Accuracies (strategies, sizes, repeats, K) after K possible ends of a run: on undrawn labels, on the test set."""

    undrawn: Array
    test: Array


def rules(table: Table) -> dict[str, Rule]:
    """Return the three rules, by name.

    Of a table that has tested the stops alone, the lowest validation loss is that of the stops.
    """
    places = [table.tested.index(stop) for stop in stops(table.val_loss.shape[-1])]
    undrawn, test = table.undrawn[..., table.tested].astype(float), table.test_accuracy.astype(float)
    best = table.best_epoch[..., None]
    ends = {"last": places[-1:], "best of four": places}
    lowest = Rule(undrawn=np.take_along_axis(undrawn, best, -1), test=np.take_along_axis(test, best, -1))
    return {"lowest loss": lowest} | {
        name: Rule(undrawn=undrawn[..., end], test=test[..., end]) for name, end in ends.items()
    }


def baselines_at_two_rates(table: Table) -> list[int]:
    """Return the places of the baselines, and of the same at a lower rate."""
    replay = Replay(table)
    lower = [table.grid.nearest(replace(one, head_lr=OTHER_RATE * one.head_lr)) for one in replay.baselines]
    return [replay.places[one] for one in dict.fromkeys([*replay.baselines, *lower])]


def judged(rule: Rule, baselines: Sequence[int], *, halvings: int) -> Array:
    """Return mean test accuracies (2, sizes, repeats): of the chosen strategy, and of the baselines.

    Those of a repeat are means over the halvings in which it judged.
    """
    _, sizes, repeats, _ = rule.test.shape
    dice = np.random.default_rng(0)
    sums, counts = np.zeros((2, sizes, repeats)), np.zeros(repeats)
    for _ in range(halvings):
        order = dice.permutation(repeats)
        choose, judge = order[: repeats // 2], order[repeats // 2 :]
        mean = rule.undrawn[:, :, choose].mean(axis=2)  # (strategies, sizes, K)
        end = mean.argmax(axis=-1)
        test = np.take_along_axis(rule.test[:, :, judge], end[..., None, None], axis=-1)[..., 0]
        leader = mean.max(axis=-1).argmax(axis=0)
        sums[0][:, judge] += test[leader, np.arange(sizes)]
        sums[1][:, judge] += test[list(baselines)].mean(axis=0)
        counts[judge] += 1
    return 100 * sums / counts


def gap(ours: Array, theirs: Array) -> tuple[float, float]:
    """Return the mean of paired differences over repeats, the last axis, and its standard error."""
    gaps = (ours - theirs).reshape(-1, ours.shape[-1]).mean(axis=0)
    return float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps)))


def report(tables: Sequence[Table], *, studies: int) -> Iterator[Text]:
    """Yield what each rule's chosen strategy reaches, then the mean over baselines."""
    found = {
        table.task: {
            name: judged(rule, baselines_at_two_rates(table), halvings=studies) for name, rule in rules(table).items()
        }
        for table in tables
    }
    for place, title in enumerate(("the chosen strategy", "baselines at two rates, their mean")):
        text = Text("task", "labels", *RULES, "lowest loss - last", "best of four - last", title=title)
        for table in tables:
            scores = {name: each[place] for name, each in found[table.task].items()}
            for at, labels in enumerate(table.trained):
                text.add_row(table.task, str(labels), *_cells({name: one[at] for name, one in scores.items()}))
            text.add_row(table.task, "all", *_cells(scores), end_section=True)
        text.caption = f"test accuracy, %; differences in points (standard error); {studies} halvings of the draws"
        yield text


def _cells(scores: dict[str, Array]) -> Iterator[str]:
    for name in RULES:
        yield f"{scores[name].mean():.1f}"
    for name in ("lowest loss", "best of four"):
        mean, error = gap(scores[name], scores["last"])
        yield f"{mean:+.2f} ({error:.2f})"
