"""The number format of `precision = "auto"`, measured on this machine for this network."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import product

import torch
from lightning.fabric.utilities import move_data_to_device

from search.device import ComputeFormat, device_of
from search.errors import StudyError
from search.files import replacing
from search.seeds import seeded
from search.storage.location import StudyLocation
from search.task.task import Task
from search.training.module import loss_of
from search.training.trainer import build_optimizer
from strategies import FreezingStrategy, param_groups

MAX_TIME_RATIO = 0.9
"""The largest time of a format, relative to plain float32, at which it replaces that."""
MEASURING_SECONDS = 2.0
"""Seconds of steps after which the fastest so far counts."""


def compute_format_of(task: Task, location: StudyLocation, *, notify: Callable[[str], None]) -> ComputeFormat:
    """Return the format of `[train] precision`; for "auto" the one that trains this network fastest here.

    That depends on the network as much as on the hardware: on a CPU with bfloat16 units a ResNet-18 takes 0.7 times
    the time of float32, a MobileNetV2 1.3 times. So it is measured once a study and stored in its folder: all trials
    use the same. Raises `StudyError` if the stored file is broken.
    """
    if task.spec.train.precision == "32-true":
        return ComputeFormat()
    file = location.folder / "precision.json"
    with location.lock("precision"):
        if not file.is_file():
            with replacing(file) as stream:
                stream.write(json.dumps(asdict(fastest(task))).encode())
    try:
        known = json.loads(file.read_text())
        found = ComputeFormat(bfloat16=known["bfloat16"], channels_last=known["channels_last"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        found = None
    if found is None or {type(value) for value in asdict(found).values()} != {bool}:
        raise StudyError(
            f"{file} is broken. It must hold the format in which the study's first trials ran: "
            '{"bfloat16": true or false, "channels_last": true or false}.'
        )
    notify(f"[train] precision = 'auto': {found} trains {task.spec.model.backbone} fastest here.")
    return found


def fastest(task: Task) -> ComputeFormat:
    """Measure which format takes the least time for a step of full fine-tuning."""
    seconds = {
        candidate: _step(task, candidate)
        for candidate in (ComputeFormat(bfloat16=b, channels_last=c) for b, c in product((False, True), repeat=2))
    }
    best = min(seconds, key=lambda candidate: seconds[candidate])
    return best if seconds[best] <= MAX_TIME_RATIO * seconds[ComputeFormat()] else ComputeFormat()


def _step(task: Task, compute_format: ComputeFormat) -> float:
    """Measure the seconds of a training step, the best of a few; infinite if it fails."""
    train, strategy = task.spec.train, FreezingStrategy.full_fine_tuning()
    device = device_of(train.accelerator)
    batch = task.data.pool.take(torch.arange(min(train.batch_size, len(task.data.pool))))
    inputs, targets = move_data_to_device(batch, device)
    with seeded(0):
        backbone, head, _ = task.start(strategy, repeat=0)
        backbone, head = backbone.to(device).train(), head.to(device).train()
        compute_format.apply_memory_format(backbone)
        optimizer = build_optimizer(train, param_groups(backbone, head, strategy, groups=task.spec.model.groups))
        best, first = float("inf"), 0.0
        for step in range(4):
            started = time.perf_counter()
            try:
                with compute_format.autocast(device):
                    features = backbone(inputs)
                loss_of(head(features.float()), targets).backward()  # type: ignore[no-untyped-call]
            except RuntimeError:  # an operation that has no bfloat16 kernel on this device
                return float("inf")
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if step:  # the first warms up
                best = min(best, time.perf_counter() - started)
            first = first or started
            if time.perf_counter() - first > MEASURING_SECONDS and step:
                break
    return best
