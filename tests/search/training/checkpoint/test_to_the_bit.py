"""A trial resumed from its checkpoint ends as if its process had not died."""

import signal
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from search.activations.frozen_prefix import FrozenPrefix
from search.device import PLAIN, ComputeFormat
from search.workers.trial import run_trial
from strategies import FreezingStrategy
from tests.forks import FORKS
from tests.search.training.checkpoint.dying import EPOCHS, GRADUAL, STEPS, Died, Queue, be_killed, come_to, task_of

pytestmark = pytest.mark.usefixtures("one_thread")


AUGMENTED = {"epochs": EPOCHS, "steps_per_epoch": STEPS, "accelerator": "cpu", "augment": ["crop", "flip"]}


CASES = {
    "linear probing, cached": ({}, FreezingStrategy(freeze_depth=3, head_lr=0.01), {"frozen_prefix": True}),
    "gradual unfreezing, cached": ({}, GRADUAL, {"frozen_prefix": True}),
    "batch norm still, from scratch": (
        {},
        FreezingStrategy(freeze_depth=0, batch_norm="frozen", pretrained=False),
        {},
    ),
    "norms, their rates growing": (
        {},
        FreezingStrategy(freeze_depth=1, unfreeze_epoch=1, parameters="norm", lr_growth=2.0, warmup_steps=4),
        {},
    ),
    "cosine, pulled back": (
        {},
        FreezingStrategy(freeze_depth=1, unfreeze_epoch=1, scheduler="cosine", l2_sp=0.1, head_lr=0.01),
        {},
    ),
    "bfloat16, channels last": ({}, GRADUAL, {"compute_format": ComputeFormat(bfloat16=True, channels_last=True)}),
    "fresh views": ({"train": {**AUGMENTED, "views": float("inf")}, "images": True}, GRADUAL, {"frozen_prefix": True}),
    "views that take turns": ({"train": {**AUGMENTED, "views": 3}, "images": True}, GRADUAL, {"frozen_prefix": True}),
    "one's own module": ({"model": {"backbone": "nets:Mine", "weights": "none"}}, GRADUAL, {}),
}


def task_for(case, folder):
    tables = dict(CASES[case][0])
    if tables.pop("images", False):
        images = np.random.default_rng(0).integers(0, 256, (100, 12, 12), dtype=np.uint8)
        file, labels = folder / "images.npz", np.arange(100) % 4
        np.savez(file, x=images, y=labels, x_test=images[:20] ^ 1, y_test=labels[:20])
        tables["task"] = {"data": str(file), "sizes": [40]}
        tables["model"] = {"backbone": "nets:conv", "weights": "none", "image_size": 8, "mean": [0.5], "std": [0.5]}
    return task_of(**tables)


@pytest.mark.parametrize("case", CASES)
def test_a_trial_that_dies_every_epoch_ends_the_same_to_the_bit(case, nets, tmp_path, always, capfd):
    _, strategy, wanted = CASES[case]
    task = task_for(case, tmp_path)

    def options(folder):
        frozen_prefix = (
            FrozenPrefix.of(task, cache=tmp_path / folder, say=print) if wanted.get("frozen_prefix") else None
        )
        return {"frozen_prefix": frozen_prefix, "compute_format": wanted.get("compute_format", PLAIN)}

    whole, queue = Queue(tmp_path / "whole", task), Queue(tmp_path / "broken", task)
    run_trial(whole, unbroken := whole.claim(strategy, judged=True), task, **options("a"))
    claim = queue.claim(strategy, judged=True)
    assert whole.stored(unbroken).state == TrialState.COMPLETE
    deaths = 0
    while queue.dies(task, claim, **options("b")):
        deaths += 1
        name = queue.stored(claim).user_attrs["checkpoint"]
        assert queue.files == [name], "the latest, and nothing else"
        claim = queue.again(claim)
    said = capfd.readouterr().out
    assert said.count(": resumed in epoch ") == deaths >= EPOCHS - 1
    assert "starts again" not in said
    assert come_to(queue, claim) == come_to(whole, unbroken)
    assert queue.stored(claim).state == TrialState.COMPLETE
    assert queue.files == []


@pytest.mark.parametrize("seed", range(2))
def test_a_trial_may_die_at_any_batch(seed, task, whole, tmp_path, always, capfd):
    queue, chance = Queue(tmp_path, task), np.random.default_rng(seed)
    claim, deaths, dies = queue.claim(GRADUAL), 0, True
    while dies:
        left = [int(chance.integers(1, 2 * STEPS))]

        def progress(left=left):
            left[0] -= 1
            if left[0] == 0:
                raise Died

        dies = queue.dies_of(progress, task, claim)
        deaths += dies
        claim = queue.again(claim)
    assert deaths >= 3
    assert "starts again" not in capfd.readouterr().out
    assert come_to(queue, claim) == whole
    assert queue.files == []


class PruneAt(optuna.pruners.BasePruner):
    def __init__(self, step):
        self.step = step
        self.die = False
        self.asked = []

    def prune(self, study, trial):
        self.asked.append(trial.last_step)
        if self.die and trial.last_step == self.step:
            self.die = False
            raise Died
        return trial.last_step >= self.step


@pytest.mark.fault
def test_a_trial_that_dies_before_its_judgement_is_pruned(task, tmp_path, always, tell):
    pruner = PruneAt(2)
    whole, queue = Queue(tmp_path / "whole", task, pruner=pruner), Queue(tmp_path / "broken", task, pruner=pruner)
    run_trial(whole, unbroken := whole.claim(GRADUAL), task)
    pruner.die = True
    claim = queue.claim(GRADUAL)
    assert queue.dies_of(lambda: None, task, claim)
    assert list(queue.stored(claim).intermediate_values) == [0, 1, 2]
    assert not queue.dies_of(lambda: None, task, queue.again(claim))
    assert come_to(queue, claim) == come_to(whole, unbroken)
    assert queue.stored(claim).state == TrialState.PRUNED
    assert queue.files == []
    tell("dies in the midst of a report", "judged at that epoch when it comes back")


def test_a_resumed_trial_reports_and_judges_no_epoch_twice(task, whole, tmp_path, always):
    pruner = PruneAt(99)
    queue = Queue(tmp_path, task, pruner=pruner)
    claim = queue.claim(GRADUAL)
    while queue.dies(task, claim):
        claim = queue.again(claim)
    assert pruner.asked == [0, 1, 2, 3]
    assert queue.stored(claim).intermediate_values == whole[2]


def test_seconds_are_those_of_all_processes(task, tmp_path, always):
    queue = Queue(tmp_path, task)
    claim = queue.claim(GRADUAL)
    assert queue.dies(task, claim)
    saved = torch.load(queue.location.folder / "checkpoints" / queue.files[0], weights_only=True)
    saved["frostline"]["seconds"] = 1000.0
    torch.save(saved, queue.location.folder / "checkpoints" / queue.files[0])
    run_trial(queue, queue.again(claim), task)
    assert 1000.0 < queue.stored(claim).user_attrs["seconds"] < 1060.0


@pytest.mark.fault
@pytest.mark.slow
def test_a_kill_during_a_save_leaves_the_checkpoint_before(nets, task, whole, tmp_path, always, capfd, tell):
    database = f"sqlite:///{tmp_path / 'study.db'}"
    process = FORKS.Process(target=be_killed, args=(nets, tmp_path, database))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    queue = Queue(tmp_path, task, storage=database)
    stored = queue.study.trials[0]
    name = stored.user_attrs["checkpoint"]
    assert len(queue.files) == 2, "and half of another"
    claim = replace(queue.claim(GRADUAL), trial=optuna.Trial(queue.study, stored._trial_id))
    assert run_trial(queue, claim, task) is None
    assert ": resumed in epoch 2." in capfd.readouterr().out
    assert come_to(queue, claim) == whole
    assert name not in queue.files
    assert queue.files == []
    tell("SIGKILL while a checkpoint is written", "resumes from the one before, to the bit")
