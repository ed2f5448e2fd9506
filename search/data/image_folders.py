"""A folder of images: one folder a class, perhaps within `train` and `test`."""

from pathlib import Path

import torch

from search.data.decoding import Files
from search.data.examples import Examples, TaskData
from search.data.images import Images
from search.data.splits import Classes, Part, Test, apply_splits, share
from search.errors import TaskError, printable

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"})
VALIDATION = ("val", "valid", "validation")


def folder_data(
    name: str,
    *,
    where: str,
    test: Test = None,
    part: Part | None = None,
    classes: Classes | None = None,
    labels: bool = True,
) -> TaskData:
    """Images in one folder a class, below `name`, or below its `train` and its `test` (or `val`) folder.

    With both `test` and `val`, the pool is `train` and `val`. `labels = false` takes every image below the folder
    as one class, for a source that needs no labels. Raises `TaskError`.
    """
    root = Path(name)
    inside = {folder.name.lower(): folder for folder in _folders(root)}
    pools, held = [root], Path(test) if isinstance(test, str) else None
    if "train" in inside and _folders(inside["train"]):  # without folders in it, it is a class of that name
        others = [inside[key] for key in ("test", *VALIDATION) if key in inside]
        pools = [inside["train"], *others[1:]]
        if others:
            share(test, own=True, where=where)
            held = others[0]
    if held is not None and not held.is_dir():
        raise TaskError(f"{where}: option test = {test!r} is no folder; allowed: a share, or a folder of images.")
    found = tuple(folder.name for folder in _class_folders(pools[0], where)) if labels else ("unlabelled",)
    pool = _read(pools, found, where=where, labels=labels)
    own = _read([held], found, where=where, labels=labels) if held else pool.subset(torch.arange(0))
    data = TaskData(pool=pool, test=own, classes=found)
    hold_out = 0.0 if held else share(test, own=False, where=where)
    return apply_splits(data, where=where, part=part, classes=classes, hold_out=hold_out)


def _read(roots: list[Path], classes: tuple[str, ...], *, where: str, labels: bool) -> Examples:
    paths: list[Path] = []
    targets: list[int] = []
    for root in roots:
        for folder in _class_folders(root, where) if labels else [root]:
            if labels and folder.name not in classes:
                raise TaskError(f"{where}: {folder} is no class of the training images: {', '.join(classes)[:200]}.")
            if not folder.name.isprintable():
                raise TaskError(f"{where}: the folder {printable(str(folder))} can't name a class; rename it.")
            images = [path for path in _below(folder) if path.suffix.lower() in ENDINGS]
            if not images:
                what = "class folder" if labels else "folder"
                raise TaskError(f"{where}: the {what} {folder} has no images ({', '.join(sorted(ENDINGS))}).")
            paths += images
            targets += [classes.index(folder.name) if labels else 0] * len(images)
    return Examples(Images.of(Files(tuple(paths), roots[0].parent)), torch.tensor(targets))


def _class_folders(root: Path, where: str) -> list[Path]:
    folders = _folders(root)
    if len(folders) < 2:
        count = sum(path.suffix.lower() in ENDINGS for path in root.iterdir())
        raise TaskError(
            f"{where}: {root} has {len(folders)} class folders (and {count} images beside them); "
            "at least 2 are needed, each named like its class, with its images inside."
        )
    return folders


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _below(folder: Path) -> list[Path]:
    """All files below a folder, hidden ones apart, in an order that is the same everywhere."""
    files = (path for path in folder.rglob("*") if path.is_file() or not path.exists())  # links that lead nowhere too
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))
