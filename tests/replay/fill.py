"""Train what the replay table lacks: each strategy on each repeat at each size, by the product's own `fit`."""

import gc
import gzip
import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from search.storage.location import StudyLocation
from tests.replay.grid import SMALL, Grid, spec_of
from tests.replay.table import TABLES, Cell, Table, joined, stacked

POOL = 5000
"""How many images of Fashion-MNIST's training set there are to draw from."""
TESTED = {"fashion.npz": 1000, "fashion-few.npz": 400}
"""How many of its test set are tested on: fewer where a forward pass is dear."""
Block = tuple[str, int, int]
"""A task, a repeat and a size: what is trained at one go, all strategies of it."""


def fill(folder: Path, *, assets: Path, tasks: list[str], repeats: int, dear_repeats: int, workers: int) -> None:
    """Train the blocks that the tables lack, repeat by repeat, so that they are of use at any time; then pack them in.

    Each block is a file in `folder`: the same command goes on where it was stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder, assets)
    there = {task: table.repeats if (table := stored(task)) else 0 for task in tasks}
    wanted = [
        block
        for block in blocks(tasks, repeats, dear_repeats)
        if block[1] >= there[block[0]] and not file_of(folder, block).is_file()
    ]
    started = time.monotonic()
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(str(folder),)
    ) as pool:
        for done, (block, seconds) in enumerate(pool.map(train_block, wanted), start=1):
            left = (time.monotonic() - started) / done * (len(wanted) - done)
            print(f"{done}/{len(wanted)} {block}: {seconds:.0f} s; about {left / 60:.0f} min left", flush=True)
    for task in tasks:
        if table := pack(folder, task):
            print(table.save(), f"{table.repeats} repeats")


def blocks(tasks: list[str], repeats: int, dear_repeats: int) -> Iterator[Block]:
    """In the order in which they are trained: repeat by repeat, the dear task's spread among the others'."""
    wanted = {task: repeats if task in SMALL else dear_repeats for task in tasks}
    order = sorted(
        (repeat / wanted[task], place, repeat) for place, task in enumerate(tasks) for repeat in range(wanted[task])
    )
    for _, place, repeat in order:
        for size in spec_of(tasks[place]).task.sizes:
            yield tasks[place], repeat, size


def stored(task: str) -> Table | None:
    """The table as it is so far."""
    return Table.load(task) if (TABLES / f"{task}.npz").is_file() else None


def file_of(folder: Path, block: Block) -> Path:
    task, repeat, size = block
    return folder / "cells" / f"{task}-{repeat}-{size}.npz"


def prepare(folder: Path, assets: Path) -> None:
    """Put the data that the study files name where they look for them, relative to `folder`."""
    for source in ("mnist5k.npz", "mobilenet_v2-b0353104.pth"):
        if not (folder / source).exists():
            shutil.copy(assets / source, folder / source)
    if not (folder / "vowels").exists():
        shutil.copytree(assets / "japanese-vowels", folder / "vowels")
    for name, tested in TESTED.items():
        if not (folder / name).exists():
            arrays = {}
            for part, kept, suffix in (("train", POOL, ""), ("t10k", tested, "_test")):
                stem = str(assets / "fashion-mnist" / part)
                arrays[f"x{suffix}"] = _idx(Path(f"{stem}-images-idx3-ubyte.gz"))[:kept]
                arrays[f"y{suffix}"] = _idx(Path(f"{stem}-labels-idx1-ubyte.gz"))[:kept].astype(np.int64)
            np.savez(folder / name, **arrays)


def _idx(file: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    content = gzip.decompress(file.read_bytes())
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(content[3])]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


# -- in a worker -------------------------------------------------------------------------------------------


def _begin(folder: str) -> None:
    import lightning.pytorch  # noqa: F401  (its import sets the level that is lowered here)
    import torch

    os.chdir(folder)
    os.nice(6)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)


@cache
def _loaded(task: str) -> Any:
    import torch

    from search.activations.frozen_prefix import FrozenPrefix
    from search.task.task import Task
    from search.training.source_task import with_source_weights

    location = StudyLocation.of(task, out=Path("studies"), storage=None)
    loaded = Task.load(spec_of(task), cache=location.folder / "cache")
    table = stored(task)
    if table is not None and table.weights:  # on another machine the source task itself comes out otherwise
        loaded = loaded.with_weights({name: torch.from_numpy(value) for name, value in table.weights.items()})
    else:
        loaded = with_source_weights(loaded, location)
    layers = FrozenPrefix.of(loaded, cache=location.folder / "cache", say=print)
    gc.collect()
    gc.freeze()  # what is there now stays: the collections after each run need not look at it
    return loaded, layers


def train_block(block: Block) -> tuple[Block, float]:
    """Train all strategies of a block and write its file."""
    started = time.monotonic()
    task, repeat, size = block
    loaded, layers = _loaded(task)
    strategies = Grid.of(task, loaded.num_groups).strategies()
    cells = [train_cell(loaded, strategy, size=size, repeat=repeat, layers=layers) for strategy in strategies]
    file = file_of(Path(), block)
    file.parent.mkdir(exist_ok=True)
    partial = file.with_suffix(f".partial-{os.getpid()}")
    with partial.open("wb") as stream:
        np.savez_compressed(stream, num_groups=loaded.num_groups, **stacked(cells))
    partial.replace(file)
    return block, time.monotonic() - started


def train_cell(task: Any, strategy: Any, *, size: int, repeat: int, layers: Any = None) -> Cell:
    """Train one strategy by the product's `fit`, and test every epoch's weights."""
    from search.device import eval_batch
    from search.training.fit import fit
    from search.training.module import predict
    from tests.replay.recorder import Recorder

    recorder = Recorder()
    result = fit(task, strategy, size=size, repeat=repeat, callbacks=[recorder], layers=layers)
    targets, right = task.data.test.targets, []
    for epoch, weights in enumerate(recorder.weights):
        result.model.load_state_dict(weights, strict=False)
        test = task.data.test if result.reader is None else result.reader.test(epoch)
        logits = predict(result.model, test, batch_size=eval_batch(task.spec.train.batch_size))
        right.append((logits.argmax(1) == targets).numpy())
    loss = np.array(recorder.val_loss, dtype=np.float32)
    loss[~np.isfinite(loss)] = np.inf
    cell = Cell(
        val_loss=loss,
        val_accuracy=np.nan_to_num(np.array(recorder.val_accuracy, dtype=np.float32)),
        test_accuracy=np.array([epoch.mean() for epoch in right], dtype=np.float32),
        seconds=np.array(recorder.seconds, dtype=np.float32),
        outcome=right[int(np.argmin(loss))],
    )
    gc.collect()  # a finished Trainer and its module hold each other
    return cell


def pack(folder: Path, task: str) -> Table | None:
    """The table with the repeats that have come to it, each there at every size; None before there is one."""
    table, sizes = stored(task), spec_of(task).task.sizes
    repeat = table.repeats if table is not None else 0
    while all(file_of(folder, (task, repeat, size)).is_file() for size in sizes):
        read = [np.load(file_of(folder, (task, repeat, size))) for size in sizes]
        one = Table(
            task=task,
            num_groups=int(read[0]["num_groups"]),
            sizes=tuple(sizes),
            repeats=1,
            weights=_weights(folder, task),
            # (sizes, strategies, ...) -> (strategies, sizes, repeat, ...)
            **{name: np.stack([size[name] for size in read], axis=1)[:, :, None] for name in Cell.__dataclass_fields__},
        )
        table = one if table is None else joined(table, one)
        repeat += 1
    return table


def _weights(folder: Path, task: str) -> dict[str, Any]:
    import torch

    files = [*(folder / "studies" / task).glob("source-*.pt")]
    return {name: value.numpy() for name, value in torch.load(files[0], weights_only=True).items()} if files else {}
