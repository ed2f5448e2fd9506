"""Data of your own: a `TaskData`, a `LightningDataModule`, or two map-style data sets, made by your code."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, IterableDataset, Subset, default_collate

from search.data.duplicates import are_same
from search.data.examples import Examples, Inputs, TaskData
from search.data.images import Images
from search.data.splits import HOLD_OUT, apply_splits
from search.data.texts import Texts
from search.data.torchvision_sets import FromDataset, class_names, labels
from search.errors import TaskError
from search.seeds import seeded
from search.user_code import call_named, import_named, keywords, one_line

Collate = Callable[[list[Any]], Any]
TARGETS = ("labels", "label", "targets", "target", "y")
"""Where a batch that is a dict may keep its targets."""


def own_data(name: str, /, *, where: str, **options: Any) -> TaskData:
    """What "package.module:attribute" names, called with the options.

    It may give a `TaskData`; a `LightningDataModule` (the pool is its training and validation data, by their
    loaders' data sets and `collate_fn`); or two map-style data sets, to learn from and to test on. Their items are
    pairs (input, target), or what `collate_fn` makes such a batch of. `part` and `classes` are options here too,
    unless the code has its own of that name. Random transforms are drawn once, from a fixed seed.
    Raises `TaskError`.
    """
    place = where.removesuffix(f" = {name!r}")
    named = import_named(name, where=place)
    known = keywords(named) if callable(named) else []
    theirs = [*options] if known is None else known
    common = {key: options.pop(key) for key in ("part", "classes") if key in options and key not in theirs}
    with seeded(0):
        made = call_named(name, options, where=place)
        data = _as_data(made, where=where)
    hold_out = 0.0 if isinstance(made, TaskData) or len(data.test) else HOLD_OUT
    return apply_splits(data, where=where, hold_out=hold_out, **common)


def _as_data(made: Any, *, where: str) -> TaskData:
    if isinstance(made, TaskData):
        return made
    if hasattr(made, "train_dataloader"):
        return _from_module(made, where=where)
    if isinstance(made, tuple) and len(made) == 2:
        return _from_sets(*made, where=where)
    raise TaskError(
        f"{where} returned a {type(made).__name__}; it must return a TaskData, a LightningDataModule, or two "
        "map-style data sets (to learn from, to test on)."
    )


def _from_sets(pool: Any, test: Any, *, where: str, collates: tuple[Collate, Collate] | None = None) -> TaskData:
    ours, theirs = collates or (default_collate, default_collate)
    learned = _examples(pool, ours, part="first data set", where=where)
    held = _examples(test, theirs, part="test set", where=where) if test is not None else None
    targets = [part.targets for part in (learned, held) if part is not None]
    classes = () if targets[0].is_floating_point() else class_names(_innermost(pool), targets)
    return TaskData(pool=learned, test=held or learned.subset(torch.arange(0)), classes=classes)


def _from_module(module: Any, *, where: str) -> TaskData:
    def call(hook: str, *arguments: Any) -> Any:
        try:
            return getattr(module, hook)(*arguments)
        except Exception as error:
            # How Lightning says that a module does not define an optional hook; the class has two homes.
            if type(error).__name__ == "MisconfigurationException" and hook != "train_dataloader":
                return None
            raise TaskError(f"{where}: {hook}({', '.join(map(repr, arguments))}) fails: {one_line(error)}") from error

    call("prepare_data")
    call("setup", "fit")
    learned = [loader for loader in (call("train_dataloader"), call("val_dataloader")) if loader not in (None, [])]
    call("setup", "test")
    held = call("test_dataloader")
    for loader in [*learned, *([] if held is None else [held])]:
        if not hasattr(loader, "dataset") or not hasattr(loader, "collate_fn"):
            raise TaskError(f"{where}: its loaders must be one DataLoader each, got a {type(loader).__name__}.")
        if isinstance(loader.dataset, IterableDataset) or not hasattr(loader.dataset, "__len__"):
            raise TaskError(f"{where}: a {type(loader.dataset).__name__} can't be indexed; map-style data are needed.")
    if not learned:
        raise TaskError(f"{where}: it has no train_dataloader.")
    test = None if held is None else _read_by(held)
    collates = (learned[0].collate_fn, default_collate if held is None else held.collate_fn)
    sets = [_read_by(loader) for loader in learned]
    data = _from_sets(ConcatDataset(sets), test, where=where, collates=collates)
    if len(sets) == 1:
        return data
    rows = torch.arange(len(data.pool))
    train, validation = (data.pool.subset(part) for part in (rows[: len(sets[0])], rows[len(sets[0]) :]))
    for name, others in (("test", data.test), ("training", train)):
        if are_same(validation, others):
            note = f"{where}: its validation data are its {name} data; they count once."
            return replace(data, pool=train, notes=(*data.notes, note))
    return data


def _read_by(loader: Any) -> Any:
    """What a loader reads: its data set, or the part of it that a `SubsetRandomSampler` chooses."""
    chosen = getattr(getattr(loader.batch_sampler, "sampler", loader.sampler), "indices", None)
    return loader.dataset if chosen is None else Subset(loader.dataset, sorted(set(map(int, chosen))))


def _examples(dataset: Any, collate: Collate, *, part: str, where: str) -> Examples:
    """All of a map-style data set: images one by one when they are prepared, anything else as one batch."""
    try:
        size = len(dataset)
        first = dataset[0]
    except Exception as error:
        raise TaskError(f"{where}: the {part} can't be indexed: {one_line(error)}") from error
    if isinstance(first, tuple | list) and len(first) == 2 and isinstance(first[0], Image.Image):
        images = Images.of(FromDataset(dataset, key=None, threads=False))
        if isinstance(first[1], float) or (torch.is_tensor(first[1]) and first[1].is_floating_point()):
            numbers = [torch.as_tensor(dataset[index][1], dtype=torch.float32) for index in range(size)]
            return Examples(images, torch.stack(numbers))
        return Examples(images, labels(dataset, where=where))
    try:
        batch = collate([dataset[index] for index in range(size)])
    except Exception as error:
        raise TaskError(f"{where}: the {part} can't be made one batch: {one_line(error)}") from error
    inputs, targets = _pair(batch, part=part, where=where)
    return Examples(_inputs(inputs, part=part, where=where), _targets(targets, part=part, where=where))


def _pair(batch: Any, *, part: str, where: str) -> tuple[Any, Any]:
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, Mapping):
        key = next((key for key in TARGETS if key in batch), None)
        rest = {name: value for name, value in batch.items() if name != key}
        if key is not None and rest:
            return rest if len(rest) > 1 else next(iter(rest.values())), batch[key]
    raise TaskError(f"{where}: a batch of the {part} must be a pair (inputs, targets), got a {type(batch).__name__}.")


def _inputs(inputs: Any, *, part: str, where: str) -> Inputs:
    if isinstance(inputs, Tensor):
        return inputs.float() if inputs.dtype == torch.float64 else inputs
    if isinstance(inputs, Mapping) and all(isinstance(value, Tensor) for value in inputs.values()):
        return dict(inputs)
    if _are_texts(inputs):
        return Texts(tuple((text,) for text in inputs))
    columns = list(inputs.values()) if isinstance(inputs, Mapping) else inputs
    if isinstance(columns, tuple | list) and all(_are_texts(column) for column in columns):
        return Texts(tuple(zip(*columns, strict=True)))
    raise TaskError(
        f"{where}: the inputs of the {part} must come to a tensor, a dict of tensors, or texts, "
        f"got a {type(inputs).__name__}."
    )


def _are_texts(column: Any) -> bool:
    return isinstance(column, tuple | list) and all(isinstance(text, str) for text in column)


def _targets(targets: Any, *, part: str, where: str) -> Tensor:
    if isinstance(targets, tuple | list) and targets and isinstance(targets[0], str):
        raise TaskError(
            f"{where}: the targets of the {part} are words, the first {targets[0][:40]!r}; number the classes."
        )
    try:
        numbers = torch.as_tensor(targets)
    except Exception as error:
        raise TaskError(f"{where}: the targets of the {part} are no numbers: {one_line(error)}") from error
    return numbers.float() if numbers.is_floating_point() else numbers.to(torch.int64)


def _innermost(dataset: Any) -> Any:
    """The data set within the ones that only choose from others: it knows the classes' names."""
    while not hasattr(dataset, "classes"):
        inner = getattr(dataset, "dataset", None) or next(iter(getattr(dataset, "datasets", ())), None)
        if inner is None:
            return dataset
        dataset = inner
    return dataset
