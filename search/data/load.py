"""Data by name: a pool to draw labelled examples from, and a test set that only confirm trials see."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from os.path import exists, isdir, isfile  # which a name that no file can have does not break
from pathlib import Path
from typing import Any

from search.data.digits import digits, digits_source
from search.data.duplicates import fingerprint, told
from search.data.examples import TaskData
from search.data.options import checked_call
from search.data.splits import Classes, Part, apply_splits
from search.errors import TaskError


def load_data(name: str, options: Mapping[str, Any] | None = None, *, where: str) -> TaskData:
    """The data of that name, with the options that its kind of data has.

    A row of `DATA`; "torchvision/NAME"; a folder of images; a file (a row of `FILES`); or
    "package.module:attribute". Paths are relative to the working directory. `where` names the key that asked
    for it. Raises `TaskError`: one line that names the key, the value and what is allowed.
    """
    options, place = options or {}, f"{where} = {name!r}"
    paths = [Path(one) for one in (name, options.get("test")) if isinstance(one, str) and exists(one)]
    for path in paths:
        if not path.is_file() and not path.is_dir():  # a pipe would be waited for, a device read without end
            raise TaskError(f"{place}: {path} is neither a file nor a folder.")
    if len(paths) == 2 and paths[0].samefile(paths[1]):
        raise TaskError(f"{place}: option test = {options['test']!r} is the data themselves; allowed: other data.")
    try:
        data = told(checked_call(_loader(name, options, where), name, options, where=place), where=place)
    except TaskError as error:
        if str(error).startswith(where):
            raise
        raise TaskError(f"{place}: {error}") from error  # what `TaskData` itself found
    asked = "target" in options or name.endswith(".ts")
    if data.kind == "regression" and not asked and (data.pool.targets % 1 == 0).all():
        note = f"{place}: the targets are decimal numbers, to be predicted; classes are stored as whole numbers."
        data = replace(data, notes=(*data.notes, note))
    return replace(data, fingerprint=fingerprint(data, files=filter(Path.is_file, paths)))


def _loader(name: str, options: Mapping[str, Any], where: str) -> Callable[..., TaskData]:
    # Imported here, for what a kind of data needs (torchvision, pydantic's checks) is slow to load for the others.
    if name in DATA:
        return _named
    if name.startswith("torchvision/"):
        from search.data.torchvision_sets import torchvision_data

        return torchvision_data
    path = Path(name)
    if isdir(path):
        from search.data.image_folders import folder_data

        return folder_data
    if isfile(path) and path.suffix.lower() in FILES:
        return FILES[path.suffix.lower()](options)
    if CODE.fullmatch(name) and not exists(path):
        from search.data.custom import own_data

        return own_data
    if path.suffix.lower() in FILES or "/" in name or "\\" in name:
        reason = f"is no such file; allowed: {', '.join(FILES)}" if exists(path) else "is not there"
        raise TaskError(f"{where} = {name!r} {reason}; looked in {Path.cwd()}.")
    raise TaskError(
        f'{where} = {name!r} is not known; allowed: {", ".join(DATA)}, "torchvision/NAME", a folder of images, '
        f'a file ({", ".join(FILES)}), or "package.module:attribute".'
    )


def _named(name: str, *, where: str, part: Part | None = None, classes: Classes | None = None) -> TaskData:
    return apply_splits(DATA[name](), where=where, part=part, classes=classes)


def _npz(_: Mapping[str, Any]) -> Callable[..., TaskData]:
    from search.data.npz import npz_data

    return npz_data


def _table(options: Mapping[str, Any]) -> Callable[..., TaskData]:
    # The options tell what the rows are: texts, steps of one series to forecast, or steps of many series.
    if "text" in options:
        from search.data.texts import texts_data

        return texts_data
    if "window" in options or "horizon" in options:
        from search.data.forecasts import forecast_data

        return forecast_data
    from search.data.series import series_data

    return series_data


def _ts(_: Mapping[str, Any]) -> Callable[..., TaskData]:
    from search.data.series import ts_data

    return ts_data


CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""What names code: "package.module:attribute"."""

DATA: dict[str, Callable[[], TaskData]] = {"digits": digits, "digits-0-4": digits_source}

FILES: dict[str, Callable[[Mapping[str, Any]], Callable[..., TaskData]]] = {
    ".npz": _npz,
    ".csv": _table,
    ".tsv": _table,
    ".ts": _ts,
}
