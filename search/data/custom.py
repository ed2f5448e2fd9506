"""Data of the user's own: a `TaskData`, a `LightningDataModule`, or two map-style data sets."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, IterableDataset, Subset, default_collate

from search.data.brought import (
    EXAMPLES_READ_AGAIN,
    TARGETS,
    Brought,
    brought_by,
    by_collate,
    is_random,
    name_of,
    note_of_soft,
)
from search.data.duplicates import are_same
from search.data.examples import Examples, Inputs, RawData, TaskData
from search.data.grouping import Grouping
from search.data.images import Images
from search.data.texts import Texts
from search.data.torchvision_sets import FromDataset, class_names, items, labels, lost_bits
from search.errors import TaskError
from search.seeds import seeded
from search.user_code import call_named, import_named, keywords, one_line

Collate = Callable[[list[Any]], Any]


def code_options(name: str) -> list[str] | None:
    """Return the arguments of the code "package.module:attribute"; None if it takes any. Raises `TaskError`."""
    named = import_named(name)
    return keywords(named) if callable(named) else []


def own_data(name: str, grouping: Grouping | None = None, /, **options: Any) -> RawData:
    """Call the code "package.module:attribute" with the options, and read the data that it returns.

    grouping: by a function of an item, as the data set returns it; of a `TaskData` of a pair (input, target).

    It may return a `TaskData`, or two map-style data sets, to learn from and to test on. Of a `LightningDataModule`
    the pool is its training data, by its loader's data set and `collate_fn`; its other data evaluate. Items are pairs
    (input, target), or `collate_fn` makes such a batch. Random transforms are drawn once, from a fixed seed.
    Raises `TaskError`.
    """
    with seeded(0):
        return replace(_raw(call_named(name, options), grouping), grouping=grouping)


def _raw(made: Any, grouping: Grouping | None) -> RawData:
    if isinstance(made, TaskData):
        made = made if grouping is None else made.map(lambda part, _: _grouped(part, grouping))
        test = None if made.cross_validated else made.test
        return RawData(pool=made.pool, test=test, classes=made.classes, notes=made.notes, validation=made.validation)
    if hasattr(made, "train_dataloader"):
        return _from_module(made, grouping)
    if isinstance(made, tuple) and len(made) == 2:
        return _from_sets(*made, grouping=grouping)
    raise TaskError(
        f"it returned a {type(made).__name__}; it must return a TaskData, a LightningDataModule, or two "
        "map-style data sets (to learn from, to test on)."
    )


def _grouped(examples: Examples, grouping: Grouping) -> Examples:
    if examples.groups is not None:
        raise TaskError(f"{grouping}: its examples have groups of their own; leave one of them out.")
    inputs = examples.inputs
    raw = inputs if isinstance(inputs, Images) else inputs.rows if isinstance(inputs, Texts) else None
    found = ((raw[i], examples.targets[i]) if raw is not None else examples[i] for i in range(len(examples)))
    return replace(examples, groups=grouping.of(found))


def _from_sets(
    pool: Any,
    test: Any,
    *,
    collates: tuple[Collate, Collate] = (default_collate, default_collate),
    grouping: Grouping | None,
) -> RawData:
    learned = _examples(pool, collates[0], grouping, part="first data set")
    held = _examples(test, collates[1], grouping, part="test set") if test is not None else None
    notes = lost_bits(_innermost(pool)) + note_of_soft(collates[0], learned.targets, pool[0], part="first data set")
    if held is not None:
        notes += note_of_soft(collates[1], held.targets, test[0], part="test set")
    targets = [part.targets for part in (learned, held) if part is not None]
    classes = () if targets[0].is_floating_point() else class_names(_innermost(pool), targets)
    return RawData(
        pool=learned,
        test=held or None,
        classes=classes,
        notes=notes,
        brought=Brought(draws=_draws(pool, collates[0])),
    )


def _draws(pool: Any, collate: Collate) -> tuple[str, ...]:
    """Return the parts of reading that are random: the data set, its `collate_fn`."""
    few = range(min(len(pool), EXAMPLES_READ_AGAIN))
    read = [pool[index] for index in few]
    draws = {
        "data set": is_random(lambda: [pool[index] for index in few]),
        "collate_fn": collate is not default_collate and not _is_image(read[0]) and is_random(lambda: collate(read)),
    }
    return tuple(part for part, random in draws.items() if random)


def _from_module(module: Any, grouping: Grouping | None) -> RawData:
    def call(hook: str, *arguments: Any) -> Any:
        try:
            return getattr(module, hook)(*arguments)
        except Exception as error:
            # Lightning raises it for an optional hook that a module does not define; the class has two homes.
            if type(error).__name__ == "MisconfigurationException" and hook != "train_dataloader":
                return None
            raise TaskError(f"{hook}({', '.join(map(repr, arguments))}) fails: {one_line(error)}") from error

    call("prepare_data")
    call("setup", "fit")
    learned = [loader for loader in (call("train_dataloader"), call("val_dataloader")) if loader not in (None, [])]
    call("setup", "test")
    held = call("test_dataloader")
    for loader in [*learned, *([] if held is None else [held])]:
        if not hasattr(loader, "dataset") or not hasattr(loader, "collate_fn"):
            raise TaskError(f"its loaders must be one DataLoader each, got a {type(loader).__name__}.")
        if isinstance(loader.dataset, IterableDataset) or not hasattr(loader.dataset, "__len__"):
            raise TaskError(f"a {type(loader.dataset).__name__} can't be indexed; map-style data are needed.")
    if not learned:
        raise TaskError("it has no train_dataloader.")
    test = None if held is None else _read_by(held)
    collates = (learned[0].collate_fn, default_collate if held is None else held.collate_fn)
    sets = [_read_by(loader) for loader in learned]
    data = _from_sets(ConcatDataset(sets), test, collates=collates, grouping=grouping)
    facts = brought_by(module, *learned, *[None] * (2 - len(learned)))
    if _is_image(sets[0][0]) and collates[0] is not default_collate:
        facts = replace(facts, collate=name_of(collates[0]))
    data = replace(data, brought=replace(facts, draws=data.brought.draws))
    if len(sets) == 1:
        return data
    rows = torch.arange(len(data.pool))
    train, validation = (data.pool.subset(part) for part in (rows[: len(sets[0])], rows[len(sets[0]) :]))
    for name, others in (("test", data.test), ("training", train)):
        if others is not None and are_same(validation, others):
            note = f"its validation data are its {name} data; they count once."
            return replace(data, pool=train, notes=(*data.notes, note))
    note = f"the {len(validation)} examples of its val_dataloader validate, and never train."
    return replace(data, pool=train, validation=validation, notes=(*data.notes, note))


def _read_by(loader: Any) -> Any:
    """Return a loader's data set, or the part of it that its `SubsetRandomSampler` chooses."""
    chosen = getattr(getattr(loader.batch_sampler, "sampler", loader.sampler), "indices", None)
    return loader.dataset if chosen is None else Subset(loader.dataset, sorted(set(map(int, chosen))))


def _examples(dataset: Any, collate: Collate, grouping: Grouping | None, *, part: str) -> Examples:
    """Read a map-style data set: images later, one by one, anything else as one batch."""
    try:
        size = len(dataset)
        first = dataset[0]
    except Exception as error:
        raise TaskError(f"the {part} can't be indexed: {one_line(error)}") from error
    if _is_image(first):
        images = Images.of(FromDataset(dataset, key=None, threads=False))
        groups = None if grouping is None else grouping.of(items(dataset))
        if isinstance(first[1], float) or (torch.is_tensor(first[1]) and first[1].is_floating_point()):
            numbers = [torch.as_tensor(dataset[index][1], dtype=torch.float32) for index in range(size)]
            return Examples(images, torch.stack(numbers), groups)
        return Examples(images, labels(dataset), groups)
    try:
        read = [dataset[index] for index in range(size)]
        batch = collate(read)
    except Exception as error:
        raise TaskError(f"the {part} can't be made one batch: {one_line(error)}{by_collate(collate)}") from error
    try:
        inputs, made = _pair(batch, part=part)
        targets = _targets(made, part=part)
    except TaskError as error:
        raise TaskError(f"{str(error).removesuffix('.')}{by_collate(collate)}.") from error
    groups = None if grouping is None else grouping.of(read)
    return Examples(_inputs(inputs, part=part), targets, groups)


def _is_image(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], Image.Image)


def _pair(batch: Any, *, part: str) -> tuple[Any, Any]:
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, Mapping):
        key = next((key for key in TARGETS if key in batch), None)
        rest = {name: value for name, value in batch.items() if name != key}
        if key is not None and rest:
            return rest if len(rest) > 1 else next(iter(rest.values())), batch[key]
    raise TaskError(f"a batch of the {part} must be a pair (inputs, targets), got a {type(batch).__name__}.")


def _inputs(inputs: Any, *, part: str) -> Inputs:
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
        f"the inputs of the {part} must be a tensor, a dict of tensors, or texts, got a {type(inputs).__name__}."
    )


def _are_texts(column: Any) -> bool:
    return isinstance(column, tuple | list) and all(isinstance(text, str) for text in column)


def _targets(targets: Any, *, part: str) -> Tensor:
    if isinstance(targets, tuple | list) and targets and isinstance(targets[0], str):
        raise TaskError(f"the targets of the {part} are words, the first {targets[0][:40]!r}; number the classes.")
    try:
        numbers = torch.as_tensor(targets)
    except Exception as error:
        raise TaskError(f"the targets of the {part} are no numbers: {one_line(error)}") from error
    return numbers.float() if numbers.is_floating_point() else numbers.to(torch.int64)


def _innermost(dataset: Any) -> Any:
    """Return the innermost data set, or the first that knows its classes' names."""
    while not hasattr(dataset, "classes"):
        inner = getattr(dataset, "dataset", None) or next(iter(getattr(dataset, "datasets", ())), None)
        if inner is None:
            return dataset
        dataset = inner
    return dataset
