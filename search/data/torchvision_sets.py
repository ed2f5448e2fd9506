"""torchvision's data sets by their names, with their own download."""

import difflib
import inspect
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from search.data.decoding import stamp
from search.data.examples import Examples, RawData
from search.data.grouping import Grouping
from search.data.images import Images
from search.data.squares import FORMATS
from search.data.wide_images import wide_values
from search.digest import digest
from search.errors import TaskError
from search.user_code import one_line

POOLS, TESTS = ("trainval", "train", "train-standard"), ("test", "val")
"""Values of `split` to learn from and to test on, best first."""

NOT_OPTIONS = {"root", "train", "download", "transform", "target_transform", "transforms", "loader"}


class FromDataset:
    """Images of a map-style data set of pairs (PIL image, target), read on request."""

    def __init__(self, dataset: Any, *, key: str | None, threads: bool) -> None:
        self.dataset, self.threads, self._key = dataset, threads, key
        self._places = places(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> Image.Image:
        return self.dataset[index][0]  # type: ignore[no-any-return]

    def name(self, index: int) -> str:
        return f"{type(self.dataset).__name__}[{index}]"

    def identity(self, index: int) -> Hashable:
        return self._places[index]

    def key(self) -> str | None:
        return self._key


def places(dataset: Any) -> list[Hashable]:
    """Return the innermost data set of each item, and the item's number there."""
    if isinstance(dataset, Subset):
        inner = places(dataset.dataset)
        return [inner[index] for index in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        return [place for part in dataset.datasets for place in places(part)]
    # torchvision's have one description if they are made twice of the same files.
    described = (type(dataset).__name__, repr(dataset) if hasattr(dataset, "root") else id(dataset))
    return [(*described, index) for index in range(len(dataset))]


def class_options(name: str) -> list[str]:
    """Return the options of the class "torchvision/NAME". Raises `TaskError` for a class that torchvision lacks."""
    return [key for key in _parameters(_maker(name)) if key not in NOT_OPTIONS]


def torchvision_set(
    name: str, grouping: Grouping | None = None, /, *, root: str = "data", download: bool = True, **options: Any
) -> RawData:
    """Read the data set of the class "torchvision/NAME", kept in the folder `root`.

    grouping: by a function of an item (image, target).
    download: whether to fetch it if it isn't there.
    options: arguments of the class; the training and test part are taken by its `train` or `split`.
    Raises `TaskError`.
    """
    maker = _maker(name)
    parameters = _parameters(maker)
    places = {"root": root} if "root" in parameters else {}

    def load(**chosen: Any) -> Any:
        return _load(maker, {**places, **chosen}, download=download and "download" in parameters)

    if "train" in parameters:
        sets = [load(**options, train=True), load(**options, train=False)]
    elif "split" in parameters:
        pool = _first_split(load, POOLS if "split" not in options else (options["split"],), options)
        tests = tuple(split for split in TESTS if split != options.get("split"))
        sets = [pool, _first_split(load, tests, options)]
    else:
        sets = [load(**options)]
    _check_first(sets[0])
    targets = [labels(dataset) for dataset in sets]
    names = class_names(sets[0], targets)
    keys = [f"{name} {options} {Path(root).resolve()} {dataset!r} {_stamp(dataset, root)}" for dataset in sets]
    sources = [FromDataset(dataset, key=key, threads=True) for dataset, key in zip(sets, keys, strict=True)]
    groups = [None if grouping is None else grouping.of(items(dataset)) for dataset in sets]
    parts = zip(sources, targets, groups, strict=True)
    pool, *test = (Examples(Images.of(source), target, whose) for source, target, whose in parts)
    return RawData(pool=pool, test=test[0] if test else None, classes=names, grouping=grouping)


def _maker(name: str) -> type[Any]:
    from torchvision import datasets

    name = name.removeprefix("torchvision/")
    bases = ("DatasetFolder", "ImageFolder", "VisionDataset")
    known = [one for one in datasets.__all__ if one not in bases and isinstance(getattr(datasets, one), type)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise TaskError(f"no such class; allowed: a class of torchvision.datasets, as torchvision/CIFAR10{hint}.")
    return getattr(datasets, name)  # type: ignore[no-any-return]


def _parameters(maker: type[Any]) -> list[str]:
    """Return the names that its constructor takes; with `**kwargs` (EMNIST, ImageNet) its bases' too."""
    names: list[str] = []
    for base in maker.__mro__:
        parameters = inspect.signature(base).parameters.values()
        names += [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        if not any(one.kind == one.VAR_KEYWORD for one in parameters):
            break
    return names


def _load(maker: Callable[..., Any], arguments: dict[str, Any], *, download: bool) -> Any:
    try:
        return maker(**arguments)
    except (RuntimeError, FileNotFoundError) as error:  # not there yet
        if not download:
            place = Path(arguments.get("root", ".")).resolve()
            raise TaskError(
                f"it is not in {place} ({one_line(error)}): put it there, or, where its class can, let it be "
                "downloaded: download = true."
            ) from error
    except Exception as error:  # the files are not as the class expects them
        raise TaskError(f"it can't be read: {one_line(error)}.") from error
    folder = Path(arguments["root"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{maker.__name__}.lock"):
            return maker(**arguments, download=True)
    except Exception as error:
        raise TaskError(
            f"it is not in {folder.resolve()} and can't be downloaded ({one_line(error)}): fetch it where there "
            "is a network, with torchvision, copy it there, or name its folder: root = ..."
        ) from error


def _check_first(dataset: Any) -> None:
    try:
        with _files_left_open():
            kinds = [type(part) for part in dataset[0]]
    except Exception as error:
        raise TaskError(f"its first item can't be read: {one_line(error)}") from error
    if len(kinds) != 2 or not issubclass(kinds[0], Image.Image):
        found = ", ".join(kind.__name__ for kind in kinds)
        raise TaskError(f"it is no data set of labelled images: its first item is ({found}).")


def _stamp(dataset: Any, root: str) -> str:
    """Return a text that changes with the arrays, named files, or folder."""
    kept = list(vars(dataset).values())
    arrays = [array for array in map(_numbers, kept) if array is not None]
    named = [one[0] if isinstance(one, tuple) else one for part in kept if isinstance(part, list) for one in part]
    files = [Path(one) for one in named if isinstance(one, str | Path)]
    folder = Path(dataset.root or root)
    if not arrays and not any(map(Path.is_file, files)) and folder.resolve() != Path(root).resolve():
        files = sorted(folder.rglob("*"))
    return digest(*arrays) + stamp(filter(Path.is_file, files))


def _numbers(kept: Any) -> NDArray[Any] | None:
    found = kept.numpy() if isinstance(kept, Tensor) else kept
    return np.ascontiguousarray(found) if isinstance(found, np.ndarray) and found.dtype.kind in "biuf" else None


def _first_split(load: Callable[..., Any], names: Sequence[str], options: dict[str, Any]) -> Any:
    for name in names:
        try:
            return load(**{**options, "split": name})
        except TaskError as error:
            if not isinstance(error.__cause__, ValueError):  # a class without such a split raises it
                raise
            reason = error
    raise reason


def labels(dataset: Any) -> Tensor:
    """Return class indices (N,) of the items: from an attribute, else by reading."""
    with _files_left_open():
        first = dataset[0][1] if len(dataset) else 0
    for attribute in ("targets", "_labels", "labels", "y"):
        known = getattr(dataset, attribute, None)
        # Attributes of other data sets may bear the name and mean something else.
        if known is not None and len(known) == len(dataset) and _is_index(known[0]) and int(known[0]) == first:
            return torch.as_tensor(known).to(torch.int64)
    with _files_left_open():
        read = [dataset[index][1] for index in range(len(dataset))]
    if not all(_is_index(one) for one in read):
        raise TaskError(f"the targets must be class indices, got a {type(first).__name__} for the first item.")
    return torch.tensor([int(one) for one in read], dtype=torch.int64)


def lost_bits(dataset: Any) -> tuple[str, ...]:
    """Return a note if torchvision's loader drops bits of wide images."""
    from torchvision.datasets.folder import default_loader

    if getattr(dataset, "loader", None) is not default_loader or not getattr(dataset, "samples", None):
        return ()
    path = Path(dataset.samples[0][0])
    try:
        with Image.open(path, formats=FORMATS) as image:
            wide = wide_values(image) is not None
    except Exception:  # an unreadable image is named where it is read
        return ()
    note = (
        f"{path.name} has more than 8 bits a channel, of which torchvision's loader keeps 8: values above 255 are "
        "clipped, or lower bits dropped. Name the folder as data, or give the data set a loader of your own."
    )
    return (note,) if wide else ()


def items(dataset: Any) -> Iterator[Any]:
    """Yield a data set's items. Raises `TaskError` for one that can't be read."""
    for index in range(len(dataset)):
        try:
            with _files_left_open():
                item = dataset[index]
        except Exception as error:
            raise TaskError(f"example {index} can't be read: {one_line(error)}.") from error
        yield item


@contextmanager
def _files_left_open() -> Iterator[None]:
    # Images that a data set opens and nobody looks at; closing them might take them from a data set that keeps them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


def _is_index(target: Any) -> bool:
    try:
        return bool(int(target) == target)
    except (TypeError, ValueError, RuntimeError):
        return False


def class_names(dataset: Any, targets: list[Tensor]) -> tuple[str, ...]:
    """Return the names that a data set gives its classes, else their numbers."""
    needed = max((int(target.max()) + 1 for target in targets if len(target)), default=0)
    for attribute in ("classes", "categories"):
        names = getattr(dataset, attribute, None)
        if isinstance(names, list | tuple) and len(names) >= needed:
            return tuple(str(name[0] if isinstance(name, list | tuple) else name) for name in names)
    count = sum(map(len, targets))
    if needed > count:
        raise TaskError(f"The targets go up to {needed - 1} in {count} examples; classes are numbered from 0.")
    return tuple(str(number) for number in range(needed))
