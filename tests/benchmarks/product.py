"""B, Frostline: a study's spec, its queue, one trial at a time. No other file of the benchmark knows its inside."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cases import Case, write_data, write_weights

from search.activations.frozen_prefix import FrozenPrefix
from search.models.flops import forward_flops
from search.spec.study_spec import StudySpec
from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.study.create import create_studies
from search.study.queue import TrialQueue
from search.study.space import fixed_params
from search.task.task import Task
from search.training.fit import FitResult
from search.training.module import predict
from search.training.precision import compute_format_of
from search.workers import trial
from search.workers.local import run_workers
from search.workers.trial import run_trial
from strategies import FreezingStrategy


def spec_of(case: Case, folder: Path) -> StudySpec:
    """Make the study of a case; write its data and weights into `folder`."""
    content = {
        "task": {"data": str(write_data(case, folder)), "sizes": [case.size], "metric": "loss"},
        "model": {
            "backbone": case.network,
            "weights": str(write_weights(case, folder)),
            "image_size": case.pixels,
            **({"mean": [0.5], "std": [0.5]} if case.network == "lenet" else {}),
        },
        "train": {
            "epochs": case.epochs,
            "steps_per_epoch": case.steps,
            "precision": case.precision,
            "accelerator": "cpu",
            "threads": case.threads,
        },
        "space": {"pretrained": True},
        "search": {"trials": case.trials, "pruner": case.pruner},
        "confirm": {"repeats": 0},
    }
    return StudySpec.from_dict(content, where="the benchmark")


def write_setup(case: Case, folder: Path) -> tuple[Path, list[int]]:
    """Write the script's split, starting weights, seed and settings; return file and groups' FLOPs."""
    task = Task.load(spec_of(case, folder))
    split = task.split(repeat=0, size=case.size)
    parts = {"train": split[0], "validation": split[1], "test": task.data.test}
    backbone, head, _ = task.build(FreezingStrategy(freeze_depth=0), repeat=0)
    setup = {
        **{name: examples.__getitems__(list(range(len(examples)))) for name, examples in parts.items()},
        "backbone": backbone.state_dict(),
        "head": head.state_dict(),
        "seed": task.seed(0),
        "batch_size": task.spec.train.batch_size,
        **{name: getattr(case, name) for name in ("network", "groups", "epochs", "steps", "threads", "pruner")},
    }
    file = folder / "setup.pt"
    torch.save(setup, file)
    return file, [flops // len(task.example) for flops in forward_flops(task.parts.backbone, task.groups, task.example)]


class Product:
    """Frostline at work on one study, as its worker processes are: long-lived, in an empty location of its own."""

    def __init__(self, case: Case, folder: Path) -> None:
        torch.set_num_threads(case.threads)
        if not torch.cuda.is_available():  # as a worker does: see `search.workers.process`
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.spec = spec_of(case, folder.parent)
        self.location = _home(folder)
        self.task = Task.load(self.spec, cache=self.location.folder / "cache")
        self.queue = _queue(self.spec, self.location, case)
        self.compute_format = compute_format_of(self.task, self.location, notify=print)
        self.frozen_prefix = FrozenPrefix.of(self.task, cache=self.location.folder / "cache", say=print)
        self.in_layers = 0.0
        if self.frozen_prefix is not None:
            self.frozen_prefix.values = self._timed(self.frozen_prefix.values)  # type: ignore[method-assign]
        self.result: FitResult | None = None
        trial.fit = self._kept(trial.fit)

    def trial(self, params: dict[str, Any] | None) -> list[float]:
        """Run the trial of these params, or the study's own next; its validation losses, one an epoch."""
        self.in_layers = 0.0
        if params is not None:
            enqueue(self.queue, self.spec, params)
        claim = self.queue.claim(self.spec.task.sizes)
        assert claim is not None
        failure = run_trial(
            self.queue, claim, self.task, frozen_prefix=self.frozen_prefix, compute_format=self.compute_format
        )
        assert failure is None, failure
        return list(self.queue.storage.get_trial(claim.trial._trial_id).intermediate_values.values())

    def seconds_in_layers(self) -> float:
        """CPU seconds that the last trial spent on frozen layers: filling the cache, and layers that are not cached."""
        return self.in_layers

    def accuracy(self) -> float:
        """Return the share of test images that the last trial's last epoch gets right."""
        assert self.result is not None
        reader = self.result.reader
        test = self.task.data.test if reader is None else reader.test(self.spec.train.epochs - 1)
        right = predict(self.result.model, test, batch_size=256).argmax(1) == test.targets
        return right.float().mean().item()

    def _kept(self, fit: Callable[..., FitResult]) -> Callable[..., FitResult]:
        def kept(*arguments: Any, **options: Any) -> FitResult:
            self.result = fit(*arguments, **options)
            return self.result

        return kept

    def _timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.process_time()
            result = work(*arguments)
            self.in_layers += time.process_time() - started
            return result

        return timed


class Workers:
    """Frostline's own worker processes, at a whole list of strategies."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.spec, self.location = case, spec_of(case, folder.parent), _home(folder)

    def run(self, strategies: list[dict[str, Any]], count: int) -> int:
        """Run them all in `count` new workers; return the number of complete trials."""
        queue = _queue(self.spec, self.location, self.case)
        for params in strategies:
            enqueue(queue, self.spec, params)
        run_workers(self.spec, self.location, self.spec.task.sizes, count=count)
        trials = queue._explore[self.case.size].get_trials()
        return sum(trial.state.name == "COMPLETE" for trial in trials)


def enqueue(queue: TrialQueue, spec: StudySpec, params: dict[str, Any]) -> None:
    """Let a study try this strategy next."""
    fixed = fixed_params(FreezingStrategy.from_params(params), spec, num_groups=queue.num_groups)
    queue._explore[spec.task.sizes[0]].enqueue_trial(fixed)


def _home(folder: Path) -> StudyLocation:
    location = StudyLocation.of("study", out=folder, storage=None)
    location.folder.mkdir(parents=True)
    return location


def _queue(spec: StudySpec, location: StudyLocation, case: Case) -> TrialQueue:
    with location.lock("queue"):
        storage = open_storage(location.database, create=True)
    create_studies(storage, location, spec, num_groups=case.groups)
    return TrialQueue(storage, location, spec, owner=WorkerLease.new())
