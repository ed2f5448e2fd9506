"""A falling learning rate against a constant one: baselines at two rates, trained by runs of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table as Text

from search.study.space import baselines
from search.training.fit import fit
from strategies import FreezingStrategy
from tests.replay.data import prepare
from tests.replay.fill import begin, format_of, loaded
from tests.replay.grid import spec_of
from tests.replay.stops import OTHER_RATE, gap

SCHEDULERS = ("constant", "cosine")


def report(tasks: Sequence[str], *, folder: Path, assets: Path, repeats: int) -> Iterator[Text]:
    """Train what `folder` lacks at each task's two smaller sizes, and yield a table of paired differences."""
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder, assets, [spec_of(task) for task in tasks])
    begin(str(folder))
    for task in tasks:
        labels = spec_of(task).task.sizes
        sizes = [size for size in (labels[0], labels[len(labels) // 2]) if isinstance(size, int)]
        scores = np.array([[block(task, size, repeat) for repeat in range(repeats)] for size in sizes])
        text = Text("labels", "baselines", *SCHEDULERS, "cosine - constant", "best: constant", "cosine", "difference")
        text.title = f"{task}: test accuracy, {repeats} repeats"
        text.caption = "means over baselines at two rates, and of the one that is best by the other repeats; in %"
        for size, score in zip(sizes, scores.transpose(0, 2, 3, 1), strict=True):
            mean, best = score.mean(axis=1), np.stack([best_elsewhere(one) for one in score])
            text.add_row(str(size), str(score.shape[1]), *_cells(mean), *_cells(best))
        yield text


def block(task: str, size: int, repeat: int) -> NDArray[np.float64]:
    """Return test accuracies (schedulers, strategies) on a repeat, trained now or before."""
    file = Path("schedulers") / f"{task}-{repeat}-{size}.npy"
    if not file.is_file():
        data, frozen_prefix = loaded(task)
        found = [
            [
                fit(
                    data,
                    replace(strategy, scheduler=scheduler),
                    size=size,
                    repeat=repeat,
                    test=True,
                    frozen_prefix=frozen_prefix,
                    compute_format=format_of(task),
                ).scores["test_accuracy"]
                for strategy in at_two_rates(task, data.num_groups)
            ]
            for scheduler in SCHEDULERS
        ]
        file.parent.mkdir(exist_ok=True)
        np.save(file, 100 * np.array(found))
    return np.asarray(np.load(file))


def at_two_rates(task: str, num_groups: int) -> list[FreezingStrategy]:
    """Return the product's baselines, and the same at a lower rate."""
    usual = baselines(spec_of(task), num_groups=num_groups)
    return [*dict.fromkeys([*usual, *(replace(one, head_lr=OTHER_RATE * one.head_lr) for one in usual)])]


def best_elsewhere(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return on each repeat the score of the strategy that is best on the others; (strategies, repeats)."""
    others = scores.sum(axis=1, keepdims=True) - scores
    return np.asarray(scores[others.argmax(axis=0), np.arange(scores.shape[1])])


def _cells(scores: NDArray[np.float64]) -> Iterator[str]:
    constant, cosine = scores
    mean, error = gap(cosine, constant)
    yield from (f"{constant.mean():.1f}", f"{cosine.mean():.1f}", f"{mean:+.2f} ({error:.2f})")
