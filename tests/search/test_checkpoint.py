"""A trial whose process dies goes on from its last epoch's checkpoint, and nobody can tell from what it comes to."""

import os
import pickle
import resource
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from search import checkpoint
from search.frozen import FrozenLayers
from search.home import Home
from search.spec import StudySpec
from search.study import Claim
from search.tasks.module import PLAIN, Arithmetic
from search.tasks.task import Task
from search.trial import run_trial
from strategies import FreezingStrategy

pytestmark = pytest.mark.usefixtures("one_thread")
EPOCHS, STEPS = 4, 3

NETS = """
import random
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule
from torch import nn


def conv():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2)),
        nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)),
        nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Dropout(0.2)),
    )


class Shaking(Callback):
    def __init__(self):
        self.shakes = 1.0

    def state_dict(self):
        return {"shakes": self.shakes}

    def load_state_dict(self, state):
        self.shakes = state["shakes"]

    def on_train_epoch_start(self, trainer, module):
        self.shakes *= random.random()

    def on_train_epoch_end(self, trainer, module):
        module.share = module.share * 0.9 + 0.1 * torch.rand(())


class Mine(LightningModule):
    def __init__(self, folder=Path("somewhere")):
        super().__init__()
        self.save_hyperparameters()  # a path: `weights_only` would not load that
        self.backbone = conv()
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 10))
        self.register_buffer("share", torch.ones(()))
        self.shaking = Shaking()

    def on_train_start(self):
        random.random(), torch.rand(3), np.random.rand()

    def forward(self, inputs):
        return self.head(self.backbone(inputs))

    def configure_callbacks(self):
        return [self.shaking]

    def training_step(self, batch, index):
        share = self.share * np.random.beta(1, 1) * self.shaking.shakes
        return share * nn.functional.cross_entropy(self(batch[0]), batch[1])

    def on_train_epoch_end(self):
        self.share = self.share * (0.5 + random.random() / 2)

    def validation_step(self, batch, index):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))
"""


class Died(BaseException):
    """The process is gone: nothing catches that."""


class Queue:
    """What a trial's run needs of a `TrialQueue`, and a study in which every trial is claimed by hand."""

    def __init__(self, folder, task, *, storage=None, pruner=None):
        self.storage = optuna.storages.get_storage(storage or optuna.storages.InMemoryStorage())
        pruner = pruner or optuna.pruners.NopPruner()
        self.study = optuna.create_study(storage=self.storage, study_name="s", pruner=pruner, load_if_exists=True)
        self.home = Home(name="s", folder=folder, url="sqlite://")
        self.num_groups = task.num_groups
        folder.mkdir(exist_ok=True)

    def claim(self, strategy, *, confirms=False, again=None):
        trial = self.study.ask() if again is None else optuna.Trial(self.study, again.trial._trial_id)
        return Claim(study=self.study, trial=trial, strategy=strategy, size=40, chain=0, confirms=confirms)

    def note(self, claim, attributes):
        for key, content in attributes.items():
            claim.trial.set_user_attr(key, content)

    def finish(self, claim, state, attributes, *, value=None):
        self.note(claim, attributes)
        self.study.tell(claim.trial, value, state=state)

    def stored(self, claim):
        return self.storage.get_trial(claim.trial._trial_id)

    @property
    def files(self):
        return sorted(file.name for file in (self.home.folder / "checkpoints").glob("*"))

    def dies(self, task, claim, *, batches=2, **options):
        """Run it; the process dies so many batches after the next new value was reported, if there is another."""
        known, left = len(self.stored(claim).intermediate_values), [batches]

        def progress():
            left[0] -= len(self.stored(claim).intermediate_values) > known
            if left[0] == 0:
                raise Died

        return self.dies_of(progress, task, claim, **options)

    def dies_of(self, progress, task, claim, **options):
        try:
            assert run_trial(self, claim, task, progress=progress, **options) is None
        except Died:
            return True
        return False

    def again(self, claim):
        return self.claim(claim.strategy, confirms=claim.confirms, again=claim)


def task_of(**tables):
    content = {
        "task": {"data": "digits", "sizes": [40]},
        "model": {"backbone": "nets:conv", "weights": "none"},
        "train": {"epochs": EPOCHS, "steps_per_epoch": STEPS, "accelerator": "cpu"},
    }
    task = Task.load(StudySpec.from_dict({**content, **tables}, where="test"))
    weights = task.start(FreezingStrategy(freeze_depth=0), chain=0)[0].state_dict()
    return task.with_weights(weights) if task.parts.module is None else task


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    (folder / "nets.py").write_text(NETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def task(nets):
    return task_of()


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "COST", float("inf"))


def come_to(queue, claim):
    """All that is stored of a trial in the end, but for what two runs may differ in."""
    stored = queue.stored(claim)
    attributes = {key: one for key, one in stored.user_attrs.items() if key not in ("seconds", "checkpoint")}
    if (name := attributes.pop("outcomes", None)) is not None:
        with np.load(queue.home.outcomes_file(name)) as content:
            attributes["predicted"] = content["predicted"].tobytes()
    return stored.state, stored.values, stored.intermediate_values, attributes


GRADUAL = FreezingStrategy(freeze_depth=0, epochs_per_group=1, head_lr=0.01, layer_lr_decay=0.7)
AUGMENTED = {"epochs": EPOCHS, "steps_per_epoch": STEPS, "accelerator": "cpu", "augment": ["crop", "flip"]}
CASES = {
    "linear probing, cached": ({}, FreezingStrategy(freeze_depth=3, head_lr=0.01), {"layers": True}),
    "gradual unfreezing": ({}, GRADUAL, {}),
    "gradual unfreezing, cached": ({}, GRADUAL, {"layers": True}),
    "batch norm still, from scratch": (
        {},
        FreezingStrategy(freeze_depth=0, batch_norm="still", pretrained=False),
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
    "momentum": ({"train": {**AUGMENTED, "augment": [], "optimizer": "sgd"}}, GRADUAL, {}),
    "bfloat16, channels last": ({}, GRADUAL, {"arithmetic": Arithmetic(bfloat16=True, channels_last=True)}),
    "fresh views": ({"train": {**AUGMENTED, "views": float("inf")}, "images": True}, GRADUAL, {"layers": True}),
    "views that take turns": ({"train": {**AUGMENTED, "views": 3}, "images": True}, GRADUAL, {"layers": True}),
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
def test_a_trial_that_dies_after_every_epoch_comes_to_the_same_to_the_bit(case, nets, tmp_path, always, capfd):
    _, strategy, wanted = CASES[case]
    task = task_for(case, tmp_path)

    def options(folder):
        layers = FrozenLayers.of(task, cache=tmp_path / folder, say=print) if wanted.get("layers") else None
        return {"layers": layers, "arithmetic": wanted.get("arithmetic", PLAIN)}

    whole, queue = Queue(tmp_path / "whole", task), Queue(tmp_path / "broken", task)
    run_trial(whole, unbroken := whole.claim(strategy, confirms=True), task, **options("a"))
    claim = queue.claim(strategy, confirms=True)
    assert whole.stored(unbroken).state == TrialState.COMPLETE
    deaths = 0
    while queue.dies(task, claim, **options("b")):
        deaths += 1
        name = queue.stored(claim).user_attrs["checkpoint"]
        assert queue.files == [name], "the latest, and nothing else"
        claim = queue.again(claim)
    said = capfd.readouterr().out
    assert said.count("the trial goes on from it") == deaths >= EPOCHS - 1
    assert "starts again" not in said
    assert come_to(queue, claim) == come_to(whole, unbroken)
    assert queue.stored(claim).state == TrialState.COMPLETE
    assert queue.files == []


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """What a gradual unfreezing comes to that nothing happens to."""
    queue = Queue(tmp_path_factory.mktemp("whole"), task)
    claim = queue.claim(GRADUAL)
    assert run_trial(queue, claim, task) is None
    assert queue.stored(claim).state == TrialState.COMPLETE
    assert not (queue.home.folder / "checkpoints").exists(), "a short trial leaves nothing"
    assert "checkpoint" not in queue.stored(claim).user_attrs
    return come_to(queue, claim)


@pytest.mark.parametrize("seed", range(4))
def test_it_may_die_at_any_batch(seed, task, whole, tmp_path, always, capfd):
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


def test_one_that_dies_between_its_report_and_its_judgement_is_pruned_all_the_same(task, tmp_path, always):
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


def test_what_was_reported_stays_and_is_neither_reported_nor_judged_again(task, whole, tmp_path, always):
    pruner = PruneAt(99)
    queue = Queue(tmp_path, task, pruner=pruner)
    claim = queue.claim(GRADUAL)
    while queue.dies(task, claim):
        claim = queue.again(claim)
    assert pruner.asked == [0, 1, 2, 3]
    assert queue.stored(claim).intermediate_values == whole[2]


def test_its_seconds_are_those_of_all_its_processes(task, tmp_path, always):
    queue = Queue(tmp_path, task)
    claim = queue.claim(GRADUAL)
    assert queue.dies(task, claim)
    saved = torch.load(queue.home.folder / "checkpoints" / queue.files[0], weights_only=True)
    saved["frostline"]["seconds"] = 1000.0
    torch.save(saved, queue.home.folder / "checkpoints" / queue.files[0])
    run_trial(queue, queue.again(claim), task)
    assert 1000.0 < queue.stored(claim).user_attrs["seconds"] < 1060.0


def test_a_trial_that_raises_an_error_leaves_nothing(task, tmp_path, always):
    queue = Queue(tmp_path, task)

    def progress():
        if queue.files:
            raise ValueError("no more")

    failure = run_trial(queue, queue.claim(GRADUAL), task, progress=progress)
    assert failure.reason.startswith("ValueError: no more")
    assert queue.files == []


def test_a_diverging_trial_leaves_nothing(task, tmp_path, always):
    queue = Queue(tmp_path, task)
    run_trial(queue, claim := queue.claim(replace(GRADUAL, head_lr=1e30)), task)
    assert queue.stored(claim).state == TrialState.FAIL
    assert "checkpoint" in queue.stored(claim).user_attrs, "there was one"
    assert queue.files == []


@pytest.mark.parametrize(("cost", "expected"), [(0.0, [1, 3, 5, 7]), (1.0, [1, 5])])
def test_checkpoints_are_half_a_minute_apart_or_a_fiftieth_of_the_time(cost, expected, task, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now[0])
    queue, saved = Queue(tmp_path, task), []

    def save(content, stream):
        saved.append(content["epoch"])
        now[0] += cost

    monkeypatch.setattr(torch, "save", save)

    def progress():
        now[0] += 16.0 / (STEPS + 1)  # an epoch takes 16 s

    longer = replace(task, spec=task.spec.changed(train={"epochs": 9}))
    run_trial(queue, queue.claim(GRADUAL), longer, progress=progress)
    assert saved == expected, "and none at the end"


class Bomb:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def changed(**changes):
    def change(file):
        content = torch.load(file, weights_only=True)
        for path, value in changes.items():
            *way, last = path.split("__")
            place = content
            for key in way:
                place = place[key]
            if value is None:
                del place[last]
            else:
                place[last] = value
        torch.save(content, file)

    return change


def later(file):
    content = torch.load(file, weights_only=True)
    for count in content["loops"]["fit_loop"]["epoch_progress"].values():
        count.update({key: number + 2 for key, number in count.items()})
    torch.save(content, file)


def flipped(file):
    content = bytearray(file.read_bytes())
    weight = torch.load(file, weights_only=True)["state_dict"]["backbone.2.1.weight"].numpy().tobytes()
    content[content.index(weight) + 100] ^= 1
    file.write_bytes(content)


def packed(file):
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["zeros"] = bytes(10**7)
    with zipfile.ZipFile(file, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def replaced_by_a_pipe(file):
    file.unlink()
    os.mkfifo(file)


def replaced_by_a_folder(file):
    file.unlink()
    file.mkdir()


BROKEN = {
    "empty": lambda file: file.write_bytes(b""),
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "without its last byte": lambda file: os.truncate(file, file.stat().st_size - 1),
    "one bit flipped": flipped,
    "text": lambda file: file.write_text("a checkpoint\n" * 1000),
    "a folder": replaced_by_a_folder,
    "a pipe": replaced_by_a_pipe,
    "packed zeros": packed,
    "no dictionary": lambda file: torch.save([1, 2, 3], file),
    "nobody's": lambda file: torch.save({}, file),
    "pickled code": lambda file: torch.save(Bomb(file.parent / "executed"), file),
    "pickled code within": changed(epoch=Bomb("executed")),
    "an old pickle": lambda file: file.write_bytes(pickle.dumps(Bomb(file.parent / "executed"))),
    "of other code, or another run": changed(frostline__made_by="0" * 32),
    "without its seconds": changed(frostline__seconds=None),
    "seconds of no time": changed(frostline__seconds=float("nan")),
    "without its callbacks": changed(callbacks=None),
    "without the optimizer": changed(optimizer_states=None),
    "without a weight": changed(**{"state_dict__head.weight": None}),
    "a weight of another shape": changed(**{"state_dict__head.weight": torch.zeros(2, 2)}),
    "of an epoch that was never reported": later,
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_can_not_be_gone_on_from_is_said_and_the_trial_starts_again(
    how, task, whole, tmp_path, always, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    queue = Queue(tmp_path / "study", task)
    claim = queue.claim(GRADUAL)
    assert queue.dies(task, claim)
    file = queue.home.folder / "checkpoints" / queue.files[0]
    BROKEN[how](file)
    capfd.readouterr()
    assert not queue.dies_of(lambda: None, task, queue.again(claim))
    said = capfd.readouterr().out.splitlines()
    assert len([line for line in said if line.startswith(f"{file}: ")]) == 1, said
    assert said[0].endswith(": the trial starts again from its first epoch.")
    assert come_to(queue, claim) == whole
    assert not list(tmp_path.rglob("executed"))
    assert queue.files == [file.name] * (how == "a folder"), "which is not ours to remove"


def edited(folder, monkeypatch):
    """The user's file, as if a worker had been started after it was edited."""
    file = folder / "edited.py"
    file.write_text(NETS + "something = 1\n")
    monkeypatch.setattr(sys.modules["nets"], "__file__", str(file))


OTHERS = {
    "strategy": lambda claim: (replace(claim, strategy=replace(GRADUAL, head_lr=0.02)), PLAIN),
    "precision": lambda claim: (claim, Arithmetic(channels_last=True)),
    "code": lambda claim: (claim, PLAIN),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_run_or_of_other_code_is_not_gone_on_from(
    what, nets, tmp_path, always, capfd, monkeypatch
):
    mine = task_of(model={"backbone": "nets:Mine", "weights": "none"})
    queue = Queue(tmp_path, mine)
    claim = queue.claim(GRADUAL)
    assert queue.dies(mine, claim)
    claim, arithmetic = OTHERS[what](queue.again(claim))
    if what == "code":
        edited(tmp_path, monkeypatch)
    run_trial(queue, claim, mine, arithmetic=arithmetic)
    assert "it is of another run, or of other code: the trial starts again" in capfd.readouterr().out
    assert queue.stored(claim).state == TrialState.COMPLETE


@pytest.mark.parametrize(
    "name", ["../../victim", "/victim", "victim", "..", "", "000001-00000000.ckpt", 7, None, ["000000-00000000.ckpt"]]
)
def test_a_stored_name_leads_nowhere_but_to_the_trials_own_file(name, task, tmp_path, always):
    (tmp_path / "a").mkdir()
    queue = Queue(tmp_path / "a" / "study", task)
    (queue.home.folder / "checkpoints").mkdir()
    victims = [tmp_path / "victim", tmp_path / "a" / "victim", queue.home.folder / "checkpoints" / "victim"]
    victims.append(queue.home.folder / "checkpoints" / "000001-00000000.ckpt")
    for victim in victims:
        victim.write_text("mine")
    claim = queue.claim(GRADUAL)
    claim.trial.set_user_attr("checkpoint", name)
    run_trial(queue, queue.again(claim), task)
    assert queue.stored(claim).state == TrialState.COMPLETE
    assert all(victim.read_text() == "mine" for victim in victims)


def test_a_full_disk_costs_the_checkpoint_and_not_the_trial(task, whole, tmp_path, always, capfd):
    queue, limits = Queue(tmp_path, task), resource.getrlimit(resource.RLIMIT_FSIZE)
    claim = queue.claim(GRADUAL)
    assert queue.dies(task, claim)
    before = (queue.home.folder / "checkpoints" / queue.files[0]).read_bytes()
    seen = []

    def progress():
        seen.append([(queue.home.folder / "checkpoints" / name).read_bytes() == before for name in queue.files])

    capfd.readouterr()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        assert not queue.dies_of(progress, task, queue.again(claim))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert come_to(queue, claim) == whole
    assert seen == [[True]] * len(seen), "the old one stays, and nothing lies beside it"
    said = [line for line in capfd.readouterr().out.splitlines() if "can't be written" in line]
    assert len(said) == 1
    assert said[0].endswith("the trial goes on without.")


def test_what_ended_trials_left_is_swept_and_nothing_else(task, tmp_path, always):
    queue = Queue(tmp_path, task)
    folder = tmp_path / "checkpoints"
    given_up, running = queue.claim(GRADUAL), queue.claim(GRADUAL)
    assert queue.dies(task, given_up)
    assert queue.dies(task, running)
    left = queue.stored(given_up).user_attrs["checkpoint"]
    (folder / f"{left}.0a1b2c3d.partial").write_bytes(b"half")
    queue.study.tell(given_up.trial, state=TrialState.FAIL)
    others = [queue.stored(running).user_attrs["checkpoint"], "000000-ffffffff.ckpt", "notes.txt"]
    for name in others[1:]:  # of another database, and of the user's
        (folder / name).write_text("kept")
    checkpoint.sweep(queue.home, queue.study)
    assert queue.files == sorted(others)


def test_progress_is_told_of_every_batch(task, tmp_path):
    told = []
    for cached in (False, True):
        queue, count = Queue(tmp_path / str(cached), task), [0]
        layers = FrozenLayers.of(task, cache=tmp_path / "cache", say=print) if cached else None

        def progress(count=count):
            count[0] += 1

        probing = FreezingStrategy(freeze_depth=3)
        run_trial(queue, queue.claim(probing, confirms=True), task, layers=layers, progress=progress)
        told.append(count[0])
    plain = EPOCHS * (STEPS + 1) + 2  # of 497 test examples two batches
    assert told[0] == plain
    assert told[1] > plain + 2, "what frozen layers make of training, validation and test examples"


@pytest.mark.slow
def test_a_kill_in_the_midst_of_a_save_leaves_the_checkpoint_before(nets, task, whole, tmp_path, always, capfd):
    database = f"sqlite:///{tmp_path / 'study.db'}"
    done = subprocess.run([sys.executable, __file__, nets, tmp_path, database], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    queue = Queue(tmp_path, task, storage=database)
    stored = queue.study.trials[0]
    name = stored.user_attrs["checkpoint"]
    assert len(queue.files) == 2, "and half of another"
    claim = replace(queue.claim(GRADUAL), trial=optuna.Trial(queue.study, stored._trial_id))
    assert run_trial(queue, claim, task) is None
    assert "the trial goes on from it, in epoch 2." in capfd.readouterr().out
    assert come_to(queue, claim) == whole
    assert name not in queue.files
    assert queue.files == []


def be_killed(folder, database):
    task, save, saved = task_of(), torch.save, []

    def half(content, stream):
        saved.append(content)
        if len(saved) == 3:
            stream.write(b"PK" * 1000)
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        save(content, stream)

    torch.set_num_threads(1)
    torch.save, checkpoint.EVERY, checkpoint.COST = half, 0.0, float("inf")
    queue = Queue(folder, task, storage=database)
    run_trial(queue, queue.claim(GRADUAL), task)


if __name__ == "__main__":
    from pathlib import Path

    sys.path.insert(0, sys.argv[1])
    be_killed(Path(sys.argv[2]), sys.argv[3])
