"""Training of the cells that the replay table lacks, by the product's own `fit`."""

import gc
import logging
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from search.activations.frozen_prefix import FrozenPrefix
from search.device import PLAIN, ComputeFormat, eval_batch
from search.storage.location import StudyLocation
from search.task.task import Task
from search.training.fit import fit
from search.training.module import predict
from search.training.source_task import with_source_weights
from strategies import FreezingStrategy
from tests.replay.data import prepare
from tests.replay.grid import SMALL, Grid, spec_of, stops
from tests.replay.table import TABLES, Cell, Table, accuracy, joined, stacked

Block = tuple[str, int, int]
"""A task, a repeat and a size, of which all strategies are trained together."""


def fill(folder: Path, *, assets: Path, tasks: list[str], repeats: int, dear_repeats: int, workers: int) -> None:
    """Train the blocks that the tables lack, repeat by repeat, then pack them in.

    Each block is a file in `folder`: the same command resumes after a stop. A table that `current` leaves out is filled
    from its first repeat.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder, assets, [spec_of(task) for task in tasks])
    there = {task: table.repeats if (table := current(task)) else 0 for task in tasks}
    wanted = [
        block
        for block in blocks(tasks, repeats, dear_repeats)
        if block[1] >= there[block[0]] and not file_of(folder, block).is_file()
    ]
    started = time.monotonic()
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=begin, initargs=(str(folder),)
    ) as pool:
        for done, (block, seconds) in enumerate(pool.map(train_block, wanted), start=1):
            left = (time.monotonic() - started) / done * (len(wanted) - done)
            print(f"{done}/{len(wanted)} {block}: {seconds:.0f} s; about {left / 60:.0f} min left", flush=True)
    for task in tasks:
        if table := pack(folder, task):
            print(table.save(), f"{table.repeats} repeats")


def blocks(tasks: list[str], repeats: int, dear_repeats: int) -> Iterator[Block]:
    """Blocks in the order of training: repeat by repeat, the expensive task's spread among the others'."""
    wanted = {task: repeats if task in SMALL else dear_repeats for task in tasks}
    order = sorted(
        (repeat / wanted[task], place, repeat) for place, task in enumerate(tasks) for repeat in range(wanted[task])
    )
    for _, place, repeat in order:
        for size in spec_of(tasks[place]).task.sizes:
            yield tasks[place], repeat, size


def stored(task: str) -> Table | None:
    """Return the table as it is so far."""
    return Table.load(task) if (TABLES / f"{task}.npz").is_file() else None


def current(task: str) -> Table | None:
    """Return the table as it is so far, unless it trained on four fifths, or has another grid or other sizes."""
    table = stored(task)
    if table is None or not table.trains_all or table.sizes != tuple(spec_of(task).task.sizes):
        return None
    return table if len(table.val_loss) == len(table.strategies) else None


def file_of(folder: Path, block: Block) -> Path:
    task, repeat, size = block
    return folder / "cells" / f"{task}-{repeat}-{size}.npz"


# -- in a worker -------------------------------------------------------------------------------------------


def begin(folder: str) -> None:
    """Make ready a process that trains in that folder, on one thread."""
    os.chdir(folder)
    os.nice(6)
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)


@cache
def loaded(task: str) -> tuple[Task, FrozenPrefix | None]:
    """Return a task of the working directory, and the frozen layers whose outputs are cached."""
    location = StudyLocation.of(task, out=Path("studies"), storage=None)
    found = Task.load(spec_of(task), cache=location.folder / "cache")
    table = stored(task)
    if table is not None and table.weights:  # on another machine the source task itself comes out otherwise
        found = found.with_weights({name: torch.from_numpy(value) for name, value in table.weights.items()})
    else:
        found = with_source_weights(found, location)
    frozen_prefix = FrozenPrefix.of(found, cache=location.folder / "cache", say=print)
    gc.collect()
    gc.freeze()  # spares the collections after each run
    return found, frozen_prefix


def format_of(task: str) -> ComputeFormat:
    """Return the format that is fastest on a CPU: channels last for depthwise convolutions, bfloat16 for a BERT."""
    images = spec_of(task).model.image_size is not None
    return PLAIN if task in SMALL else ComputeFormat(channels_last=images, bfloat16=not images)


def train_block(block: Block) -> tuple[Block, float]:
    """Train all strategies of a block and write its file, unless another process wrote it meanwhile."""
    started = time.monotonic()
    task, repeat, size = block
    file = file_of(Path(), block)
    if file.is_file():
        return block, 0.0
    data, frozen_prefix = loaded(task)
    cells = [
        train_cell(
            data,
            strategy,
            size=size,
            repeat=repeat,
            frozen_prefix=frozen_prefix,
            compute_format=format_of(task),
        )
        for strategy in Grid.of(task, data.num_groups).strategies()
    ]
    file.parent.mkdir(exist_ok=True)
    partial = file.with_suffix(f".partial-{os.getpid()}")
    with partial.open("wb") as stream:
        np.savez_compressed(stream, num_groups=data.num_groups, **stacked(cells))
    partial.replace(file)
    return block, time.monotonic() - started


class Recorder(Callback):
    """Validation loss and accuracy and CPU seconds of every epoch; weights that may have changed, at the stops.

    They are tested after the run, which so stays as it is without.
    """

    def __init__(self) -> None:
        self.val_loss: list[float] = []
        self.val_accuracy: list[float] = []
        self.seconds: list[float] = []
        self.weights: dict[int, dict[str, Tensor]] = {}
        self._since = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.process_time()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds.append(time.process_time() - self._since)
        self.val_loss.append(trainer.callback_metrics["val_loss"].item())
        self.val_accuracy.append(trainer.callback_metrics["val_accuracy"].item())
        assert trainer.max_epochs is not None
        if trainer.current_epoch in stops(trainer.max_epochs):
            held = {p for group in trainer.optimizers[0].param_groups for p in group["params"]}
            still = {name for name, parameter in pl_module.named_parameters() if parameter not in held}
            state: dict[str, Any] = pl_module.state_dict()
            self.weights[trainer.current_epoch] = {
                name: value.detach().clone() for name, value in state.items() if name not in still
            }


def train_cell(
    task: Task,
    strategy: FreezingStrategy,
    *,
    size: int,
    repeat: int,
    frozen_prefix: FrozenPrefix | None = None,
    compute_format: ComputeFormat = PLAIN,
) -> Cell:
    """Train one strategy by the product's `fit`, and test its weights at every stop."""
    recorder = Recorder()
    result = fit(
        task,
        strategy,
        size=size,
        repeat=repeat,
        callbacks=[recorder],
        frozen_prefix=frozen_prefix,
        compute_format=compute_format,
    )
    targets, right = task.data.test.targets, []
    for epoch, weights in recorder.weights.items():
        result.model.load_state_dict(weights, strict=False)
        test = task.data.test if result.reader is None else result.reader.test(epoch)
        logits = predict(result.model, test, batch_size=eval_batch(task.spec.train.batch_size))
        right.append((logits.argmax(1) == targets).numpy())
    loss = np.array(recorder.val_loss, dtype=np.float32)
    loss[~np.isfinite(loss)] = np.inf
    cell = Cell(
        val_loss=loss,
        val_accuracy=np.nan_to_num(np.array(recorder.val_accuracy, dtype=np.float32)),
        seconds=np.array(recorder.seconds, dtype=np.float32),
        outcomes=np.stack(right),
    )
    gc.collect()  # a finished Trainer and its module hold each other
    return cell


def pack(folder: Path, task: str) -> Table | None:
    """Return the table with the repeats complete at every size; None before there is one.

    Of a table that `current` leaves out only the source task's weights stay.
    """
    before, table, sizes = stored(task), current(task), spec_of(task).task.sizes
    weights = before.weights if before is not None and before.weights else _weights(folder, task)
    repeat = table.repeats if table is not None else 0
    while all(file_of(folder, (task, repeat, size)).is_file() for size in sizes):
        read = [np.load(file_of(folder, (task, repeat, size))) for size in sizes]
        # (sizes, strategies, ...) -> (strategies, sizes, repeat, ...)
        arrays = {
            name: np.stack([size[name] for size in read], axis=1)[:, :, None] for name in Cell.__dataclass_fields__
        }
        one = Table(
            task=task,
            num_groups=int(read[0]["num_groups"]),
            sizes=tuple(sizes),
            repeats=1,
            weights=weights,
            trains_all=True,
            test_accuracy=accuracy(arrays["outcomes"]),
            **arrays,
        )
        table = one if table is None else joined(table, one)
        repeat += 1
    return table


def _weights(folder: Path, task: str) -> dict[str, Any]:
    files = [*(folder / "studies" / task).glob("source-*.pt")]
    return {name: value.numpy() for name, value in torch.load(files[0], weights_only=True).items()} if files else {}
