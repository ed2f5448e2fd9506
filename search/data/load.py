"""Data by name: a pool to draw labelled examples from, and a test set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os.path import exists, isdir, isfile  # unlike Path's methods, they don't raise for impossible names
from pathlib import Path
from typing import Any

from search.data.custom import code_options, own_data
from search.data.digits import digits, digits_source
from search.data.duplicates import fingerprint, warn_duplicates
from search.data.examples import Examples, TaskData
from search.data.forecasts import WINDOWS, forecast_steps, split_steps
from search.data.image_folders import image_folder
from search.data.images import Images
from search.data.npz import npz_arrays
from search.data.options import PATH, SHARE, SLICES, Options, Source
from search.data.series import table_series, ts_series
from search.data.texts import texts
from search.data.torchvision_sets import class_options, torchvision_set
from search.errors import TaskError
from search.user_code import NAMED

STANDARDIZED: Options = {**PATH, "standardize": (bool, True)}
STEPS: Options = WINDOWS | {key: STANDARDIZED[key] for key in ("test", "part", "standardize")}
TABLES = (
    Source(read=texts, splits=PATH, chosen_by_options=frozenset({"text"})),
    Source(read=forecast_steps, splits=STEPS, split=split_steps, chosen_by_options=frozenset({"window", "horizon"})),
    Source(read=table_series, splits=STANDARDIZED),
)

SOURCES: Mapping[str, Source] = {
    "digits": Source(read=digits, splits=SLICES),
    "digits-0-4": Source(read=digits_source, splits=SLICES),
}
"""Data sets by name: a function and a line each."""

FILES: Mapping[str, tuple[Source, ...]] = {
    ".npz": (Source(read=npz_arrays, splits={**PATH, "standardize": (bool, False)}),),
    ".csv": TABLES,
    ".tsv": TABLES,
    ".ts": (Source(read=ts_series, splits=STANDARDIZED),),
}
"""Kinds of files by ending; of several, the first whose `chosen_by_options` are among the options."""

TORCHVISION = Source(read=torchvision_set, splits=SHARE, more_options=class_options)
FOLDER = Source(read=image_folder, splits=PATH)
OWN = Source(read=own_data, splits=SHARE, more_options=code_options)


def load_data(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    where: str,
    test: str | float | None = None,
    group_by: str | None = None,
    judged: bool = True,
    pixel_range: Sequence[float] | None = None,
) -> TaskData:
    """Load the data of that name, with the options that its kind of data has.

    name: a row of `SOURCES`; "torchvision/NAME"; a folder of images; a file (a row of `FILES`); or
    "package.module:attribute". Paths are relative to the working directory.
    where: the key that asked for the data, as "[task] data".
    test: the share or the path of the test set, "cv" for cross-validation; by default as the data are.
    group_by: how to find the groups that stay together: see `Grouping`.
    judged: with false, no test set is held out.
    pixel_range: the two values of images that become 0 and 1.

    Raises `TaskError`: one line that names the key, the value and what is allowed.
    """
    origin = f"{where} = {name!r}"
    try:
        chosen = {**(options or {}), **({} if test is None else {"test": test})}
        data = _with_range(_loaded(name, chosen, group_by=group_by, judged=judged), pixel_range)
    except TaskError as error:
        raise TaskError(f"{origin}: {error}") from error
    return replace(data, origin=origin, notes=tuple(f"{origin}: {note}" for note in data.notes))


def _with_range(data: TaskData, pixel_range: Sequence[float] | None) -> TaskData:
    if pixel_range is None:
        return data
    low, high = pixel_range
    if not low < high:
        raise TaskError(f"pixel_range = {[low, high]}; allowed: [low, high] with low < high.")

    def changed(examples: Examples, _: str) -> Examples:
        if not isinstance(examples.inputs, Images):
            raise TaskError(f"pixel_range = {[low, high]}: these are no images; leave it out.")
        return replace(examples, inputs=replace(examples.inputs, pixel_range=(low, high)))

    return data.map(changed)


def _loaded(name: str, options: Mapping[str, Any], *, group_by: str | None, judged: bool) -> TaskData:
    paths = [Path(one) for one in (name, options.get("test")) if isinstance(one, str) and exists(one)]
    for path in paths:
        if not path.is_file() and not path.is_dir():  # a pipe would be waited for, a device read without end
            raise TaskError(f"{path} is neither a file nor a folder.")
    if len(paths) == 2 and paths[0].samefile(paths[1]):
        raise TaskError(f"test = {options['test']!r} is the data themselves; allowed: other data.")
    source = _find_source(name, options)
    if "test" in options and "test" not in source.splits:
        raise TaskError(f"[task] test = {options['test']!r}, but these data can't be split otherwise; leave it out.")
    if not judged and "test" in source.splits:
        options = {"test": 0.0, **options}
    data = warn_duplicates(source.load(name, options, group_by=group_by))
    asked = "target" in options or name.endswith(".ts")
    if data.kind == "regression" and not asked and (data.pool.targets % 1 == 0).all():
        note = "the targets are decimal numbers, to be predicted; classes are stored as whole numbers."
        data = replace(data, notes=(*data.notes, note))
    return replace(data, fingerprint=fingerprint(data, files=filter(Path.is_file, paths)))


def _find_source(name: str, options: Mapping[str, Any]) -> Source:
    ending = Path(name).suffix.lower()
    if name in SOURCES:
        return SOURCES[name]
    if name.startswith("torchvision/"):
        return TORCHVISION
    if isdir(name):
        return FOLDER
    if isfile(name) and ending in FILES:
        return next(s for s in FILES[ending] if not s.chosen_by_options or s.chosen_by_options & options.keys())
    if NAMED.fullmatch(name) and not exists(name):
        return OWN
    if ending in FILES or "/" in name or "\\" in name:
        reason = f"no such kind of file; allowed: {', '.join(FILES)}" if exists(name) else "no such file or folder"
        raise TaskError(f"{reason}; looked in {Path.cwd()}.")
    raise TaskError(
        f'no such data; allowed: {", ".join(SOURCES)}, "torchvision/NAME", a folder of images, '
        f'a file ({", ".join(FILES)}), or "package.module:attribute".'
    )
