"""A folder of images: one folder a class, perhaps within `train` and `test`."""

from pathlib import Path

import torch

from search.data.decoding import Files
from search.data.examples import Examples, RawData
from search.data.grouping import Grouping, matched
from search.data.images import Images
from search.errors import TaskError, printable

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"})
VALIDATION = ("val", "valid", "validation")


def image_folder(
    name: str, grouping: Grouping | None = None, *, labels: bool = True, test: str | None = None
) -> RawData:
    """Read images in one folder a class, below `name` or below its `train` folder.

    grouping: by a pattern over file names, or by a function of paths.
    labels: with false, every image below the folder is of one class, for a source that needs no labels.
    test: a folder of the same classes, for data without a `test` (or `val`) folder beside `train`.

    With both `test` and `val`, the images of `val` validate and never train. Raises `TaskError`.
    """
    root = Path(name)
    inside = {folder.name.lower(): folder for folder in _folders(root)}
    pool, held, own = root, None if test is None else Path(test), None
    if "train" in inside and _folders(inside["train"]):  # without folders in it, it is a class of that name
        others = [inside[key] for key in ("test", *VALIDATION) if key in inside]
        if others and test is not None:
            raise TaskError(f"test = {test!r}, but these data have a test set of their own; leave it out.")
        pool, held, own = inside["train"], others[0] if others else held, others[1] if others[1:] else None
    if held is not None and not held.is_dir():
        raise TaskError(f"test = {test!r} is no folder; allowed: a share, or a folder of images.")
    classes = tuple(folder.name for folder in _class_folders(pool)) if labels else ("unlabelled",)
    sets = [None if part is None else _read(part, classes, grouping, labels=labels) for part in (pool, held, own)]
    assert sets[0] is not None
    return RawData(pool=sets[0], test=sets[1], validation=sets[2], classes=classes, grouping=grouping)


def _read(root: Path, classes: tuple[str, ...], grouping: Grouping | None, *, labels: bool) -> Examples:
    paths: list[Path] = []
    targets: list[int] = []
    for folder in _class_folders(root) if labels else [root]:
        if labels and folder.name not in classes:
            raise TaskError(f"{folder} is no class of the training images: {', '.join(classes)[:200]}.")
        if not folder.name.isprintable():
            raise TaskError(f"the folder {printable(str(folder))} can't name a class; rename it.")
        images = [path for path in _below(folder) if path.suffix.lower() in ENDINGS]
        if not images:
            what = "class folder" if labels else "folder"
            raise TaskError(f"the {what} {folder} has no images ({', '.join(sorted(ENDINGS))}).")
        paths += images
        targets += [classes.index(folder.name) if labels else 0] * len(images)
    groups = None
    if grouping is not None:
        groups = grouping.of(map(str, paths), lambda by: matched(by, [path.name for path in paths]))
    return Examples(Images.of(Files(tuple(paths), root.parent)), torch.tensor(targets), groups)


def _class_folders(root: Path) -> list[Path]:
    folders = _folders(root)
    if len(folders) < 2:
        count = sum(path.suffix.lower() in ENDINGS for path in root.iterdir())
        raise TaskError(
            f"{root} has {len(folders)} class folders (and {count} images beside them); "
            "at least 2 are needed, each named like its class, with its images inside."
        )
    return folders


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _below(folder: Path) -> list[Path]:
    """List the files below a folder, hidden ones apart, in a fixed order."""
    files = (path for path in folder.rglob("*") if path.is_file() or not path.exists())  # broken links too
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))
