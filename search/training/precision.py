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
from search.task.optimizers import build_optimizer
from search.task.task import Task
from search.training.module import loss_of
from strategies import FreezingStrategy, param_groups

MAX_TIME_RATIO = 0.9
"""The largest time of a format, relative to plain float32, at which it replaces that."""
MEASURING_SECONDS = 2.0
"""Seconds of steps after which the fastest so far counts."""


def compute_format_of(task: Task, location: StudyLocation, *, notify: Callable[[str], None]) -> ComputeFormat:
    """Return the format of `[train] precision`; for "auto" the fastest here for this network.

    That depends on the network too: in bfloat16 on one CPU, a ResNet-18 takes 0.7 times as long as in float32, a
    MobileNetV2 1.3 times. It is measured once a study, so that all trials use the same, and stored in its folder.
    Raises `StudyError` if the stored file is broken.
    """
    if task.spec.train.precision == "32-true":
        return ComputeFormat()
    file = location.folder / "precision.json"
    with location.lock("precision"):
        if not file.is_file():
            with replacing(file) as stream:
                stream.write(json.dumps(asdict(fastest(task))).encode())
    try:
        stored = json.loads(file.read_text())
        found = ComputeFormat(**stored)
        if stored.keys() != asdict(found).keys() or {*map(type, stored.values())} != {bool}:
            raise ValueError
    except (OSError, ValueError, TypeError, RecursionError):
        raise StudyError(
            f"{file} is broken. It must hold the format in which the study's first trials ran: "
            '{"bfloat16": true or false, "channels_last": true or false}.'
        ) from None
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
    """Return the seconds of a training step, the best of few; inf if it fails."""
    train, strategy = task.spec.train, FreezingStrategy.full_fine_tuning()
    device = device_of(train.accelerator)
    batch = task.data.pool.take(torch.arange(min(train.batch_size, len(task.data.pool))))
    inputs, targets = move_data_to_device(batch, device)
    with seeded(0):
        backbone, head, _ = task.build(strategy, repeat=0)
        backbone, head = backbone.to(device).train(), head.to(device).train()
        compute_format.apply_memory_format(backbone)
        optimizer = build_optimizer(train, param_groups(backbone, head, strategy, groups=task.spec.model.groups))
        best, deadline = float("inf"), time.perf_counter() + MEASURING_SECONDS
        for step in range(4):  # the first warms up
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
            now = time.perf_counter()
            best = min(best, now - started) if step else best
            if step and now > deadline:
                break
    return best
