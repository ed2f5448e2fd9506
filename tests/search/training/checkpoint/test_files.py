"""When checkpoints are written, which of them are resumed, and when they are removed."""

import os
import resource
import sys
import zipfile
from dataclasses import replace

import pytest
import torch
from optuna.trial import TrialState

from search.activations.frozen_prefix import FrozenPrefix
from search.device import PLAIN, ComputeFormat
from search.training import checkpoint
from search.workers.trial import run_trial
from strategies import FreezingStrategy
from tests.search.training.checkpoint.dying import EPOCHS, GRADUAL, NETS, STEPS, Queue, come_to, task_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_trial_that_raises_leaves_no_checkpoint(task, tmp_path, always):
    queue = Queue(tmp_path, task)

    def progress():
        if queue.files:
            raise ValueError("no more")

    failure = run_trial(queue, queue.claim(GRADUAL), task, progress=progress)
    assert failure.result.reason.startswith("ValueError: no more")
    assert queue.files == []


def test_a_diverging_trial_leaves_no_checkpoint(task, tmp_path, always):
    queue = Queue(tmp_path, task)
    run_trial(queue, claim := queue.claim(replace(GRADUAL, head_lr=1e30)), task)
    assert queue.stored(claim).state == TrialState.FAIL
    assert "checkpoint" in queue.stored(claim).user_attrs, "there was one"
    assert queue.files == []


@pytest.mark.parametrize(("cost", "expected"), [(0.0, [1, 3, 5, 7]), (1.0, [1, 5])])
def test_checkpoints_keep_their_interval_and_share_of_time(cost, expected, task, tmp_path, monkeypatch):
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
    "one bit flipped": flipped,
    "text": lambda file: file.write_text("a checkpoint\n" * 1000),
    "a folder": replaced_by_a_folder,
    "a pipe": replaced_by_a_pipe,
    "packed zeros": packed,
    "nobody's": lambda file: torch.save({}, file),
    "pickled code": lambda file: torch.save(Bomb(file.parent / "executed"), file),
    "of other code, or another run": changed(frostline__made_by="0" * 32),
    "without its seconds": changed(frostline__seconds=None),
    "without its callbacks": changed(callbacks=None),
    "without the optimizer": changed(optimizer_states=None),
    "without a weight": changed(**{"state_dict__head.weight": None}),
    "a weight of another shape": changed(**{"state_dict__head.weight": torch.zeros(2, 2)}),
    "of an epoch that was never reported": later,
}


@pytest.mark.fault
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_checkpoint_starts_the_trial_again(how, task, whole, tmp_path, always, capfd, monkeypatch, tell):
    monkeypatch.chdir(tmp_path)
    queue = Queue(tmp_path / "study", task)
    claim = queue.claim(GRADUAL)
    assert queue.dies(task, claim)
    file = queue.location.folder / "checkpoints" / queue.files[0]
    BROKEN[how](file)
    capfd.readouterr()
    assert not queue.dies_of(lambda: None, task, queue.again(claim))
    said = capfd.readouterr().out.splitlines()
    assert len([line for line in said if line.startswith(f"{file}: ")]) == 1, said
    assert said[0].endswith(": the trial starts again from its first epoch.")
    assert come_to(queue, claim) == whole
    assert not list(tmp_path.rglob("executed"))
    assert queue.files == [file.name] * (how == "a folder"), "which is not ours to remove"
    tell(f"checkpoint: {how}", "said; the trial starts again, and ends the same")


def edited(folder, monkeypatch):
    """Replace the user's file as if a worker had started after it was edited."""
    file = folder / "edited.py"
    file.write_text(NETS + "something = 1\n")
    monkeypatch.setattr(sys.modules["nets"], "__file__", str(file))


OTHERS = {
    "strategy": lambda claim: (replace(claim, strategy=replace(GRADUAL, head_lr=0.02)), PLAIN),
    "precision": lambda claim: (claim, ComputeFormat(channels_last=True)),
    "code": lambda claim: (claim, PLAIN),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_other_code_or_run_is_not_resumed(what, nets, tmp_path, always, capfd, monkeypatch):
    mine = task_of(model={"backbone": "nets:Mine", "weights": "none"})
    queue = Queue(tmp_path, mine)
    claim = queue.claim(GRADUAL)
    assert queue.dies(mine, claim)
    claim, compute_format = OTHERS[what](queue.again(claim))
    if what == "code":
        edited(tmp_path, monkeypatch)
    run_trial(queue, claim, mine, compute_format=compute_format)
    assert "it is of another run, or of other code: the trial starts again" in capfd.readouterr().out
    assert queue.stored(claim).state == TrialState.COMPLETE


@pytest.mark.parametrize(
    "name", ["../../victim", "/victim", "victim", "..", "", "000001-00000000.ckpt", 7, None, ["000000-00000000.ckpt"]]
)
def test_a_stored_name_touches_only_the_trials_own_file(name, task, tmp_path, always):
    (tmp_path / "a").mkdir()
    queue = Queue(tmp_path / "a" / "study", task)
    (queue.location.folder / "checkpoints").mkdir()
    victims = [tmp_path / "victim", tmp_path / "a" / "victim", queue.location.folder / "checkpoints" / "victim"]
    victims.append(queue.location.folder / "checkpoints" / "000001-00000000.ckpt")
    for victim in victims:
        victim.write_text("mine")
    claim = queue.claim(GRADUAL)
    claim.trial.set_user_attr("checkpoint", name)
    run_trial(queue, queue.again(claim), task)
    assert queue.stored(claim).state == TrialState.COMPLETE
    assert all(victim.read_text() == "mine" for victim in victims)


@pytest.mark.fault
def test_a_full_disk_costs_the_checkpoint_not_the_trial(task, whole, tmp_path, always, capfd, tell):
    queue, limits = Queue(tmp_path, task), resource.getrlimit(resource.RLIMIT_FSIZE)
    claim = queue.claim(GRADUAL)
    assert queue.dies(task, claim)
    before = (queue.location.folder / "checkpoints" / queue.files[0]).read_bytes()
    seen = []

    def progress():
        seen.append([(queue.location.folder / "checkpoints" / name).read_bytes() == before for name in queue.files])

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
    assert said[0].endswith("the trial continues without.")
    tell("the disk is full in a checkpoint", "said; the checkpoint before stays, the trial continues")


def test_sweep_removes_ended_trials_checkpoints_alone(task, tmp_path, always):
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
    checkpoint.sweep(queue.location, [queue.study])
    assert queue.files == sorted(others)


def test_progress_is_called_after_every_batch(task, tmp_path):
    counted = []
    for cached in (False, True):
        queue, count = Queue(tmp_path / str(cached), task), [0]

        def progress(count=count):
            count[0] += 1

        frozen_prefix = (
            FrozenPrefix.of(task, cache=tmp_path / "cache", say=print, progress=progress) if cached else None
        )
        probing = FreezingStrategy(freeze_depth=3)
        run_trial(queue, queue.claim(probing, judged=True), task, frozen_prefix=frozen_prefix, progress=progress)
        counted.append(count[0])
    plain = EPOCHS * (STEPS + 1) + 2  # of 497 test examples two batches
    assert counted[0] == plain
    assert counted[1] > plain + 2, "what frozen layers make of training, validation and test examples"
