"""Facts of a user's own data that a study does not take as they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler, default_collate

from search.errors import TaskError
from search.seeds import seeded
from search.user_code import overrides

EXAMPLES_READ_AGAIN = 8
"""Examples that are read again, to see random transforms."""
HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
"""Hooks of a `LightningDataModule` that change batches while a Trainer runs."""
LOSSLESS = (SequentialSampler, RandomSampler, SubsetRandomSampler)
TARGETS = ("labels", "label", "targets", "target", "y")
"""Names that the targets may have in a batch that is a dict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """Facts of a user's data sets and training loader, beside the examples.

    batch_size, drop_last: of the loader; None and False without one.
    sampler: the name of one that repeats or leaves out examples, or makes batches; "" for any other.
    collate: the name of a `collate_fn` that is not called; "" if there is none.
    draws: the parts that are random, and are read once: "data set", "collate_fn".
    hooks: names of the hooks in `HOOKS` that the module has.
    """

    batch_size: int | None = None
    drop_last: bool = False
    sampler: str = ""
    collate: str = ""
    draws: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()


NOTHING = Brought()
"""Data that bring only examples."""


def brought_by(module: Any, loader: Any, validation: Any) -> Brought:
    """Return the facts of a `LightningDataModule` and its loaders; without what they draw."""
    differs = validation is not None and validation.collate_fn != loader.collate_fn
    return Brought(
        batch_size=loader.batch_size,
        drop_last=bool(getattr(loader, "drop_last", False)),
        sampler=_sampler(loader),
        collate=f"{name_of(validation.collate_fn)} of val_dataloader" if differs else "",
        hooks=tuple(hook for hook in HOOKS if overrides(module, hook)),
    )


def _sampler(loader: Any) -> str:
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        return type(loader.batch_sampler).__name__
    sampler = loader.sampler
    if isinstance(sampler, RandomSampler) and sampler.replacement:
        return "RandomSampler(replacement=True)"
    return "" if isinstance(sampler, LOSSLESS) or hasattr(sampler, "indices") else type(sampler).__name__


def name_of(function: Any) -> str:
    """Return a function's name, or that of the class of a callable object."""
    return str(getattr(function, "__name__", type(function).__name__))


def is_random(read: Callable[[], Any]) -> bool:
    """Check that a call gives another result under another seed."""
    with seeded(1):
        first = read()
    for seed in (2, 3):
        with seeded(seed):
            if not _same(read(), first):
                return True
    return False


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if hasattr(one, "tobytes") and hasattr(other, "tobytes"):  # arrays and images
        return bool(one.tobytes() == other.tobytes())
    try:
        return bool(one == other) or one is other
    except Exception:  # objects that can't be compared say nothing
        return True


def are_soft(targets: Tensor, item: Any) -> bool:
    """Check that targets share out classes (N, C), of which an item has one."""
    if targets.ndim != 2 or targets.shape[1] < 2 or not targets.is_floating_point():
        return False
    shares = (targets >= 0).all() and torch.allclose(targets.sum(1), torch.ones(len(targets)), atol=1e-3)
    return bool(shares) and _is_index(_target(item))


def _target(item: Any) -> Any:
    if isinstance(item, Mapping):
        return next((item[key] for key in TARGETS if key in item), None)
    return item[1] if isinstance(item, tuple | list) and len(item) == 2 else None


def _is_index(target: Any) -> bool:
    if isinstance(target, Tensor):
        return target.ndim == 0 and not target.is_floating_point()
    return isinstance(target, int | np.integer)


def note_of_soft(collate: Any, targets: Tensor, item: Any, *, part: str) -> tuple[str, ...]:
    """Return a note of a `collate_fn` that makes one-hot targets. Raises `TaskError` for mixed ones."""
    if not are_soft(targets, item):
        return ()
    made = f"the collate_fn {name_of(collate)!r} of the {part} makes"
    if (targets == targets.round()).all():
        return (f"{made} one-hot targets {tuple(targets.shape)} of class indices, so this is taken for regression.",)
    raise TaskError(
        f"{made} soft targets {tuple(targets.shape)} of class indices, as mixup does, so this would be taken for "
        "regression. Leave the classes as they are there; mix in a LightningModule's training_step or "
        "on_after_batch_transfer."
    )


def by_collate(collate: Any) -> str:
    """Return the end of an error in a batch: the user's `collate_fn` that made it."""
    if collate is default_collate:
        return ""
    return (
        f"; its collate_fn {name_of(collate)!r} makes it, from all examples at once. One that mixes examples belongs "
        "into a LightningModule's training_step or on_after_batch_transfer"
    )
