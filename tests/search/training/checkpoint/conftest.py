"""Fixtures for the tests of checkpoints."""

import pytest
from optuna.trial import TrialState

from search.training import checkpoint
from search.workers.trial import run_trial
from tests.search.training.checkpoint.dying import GRADUAL, NETS, Queue, come_to, task_of


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
    monkeypatch.setattr(checkpoint, "INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "MAX_TIME_SHARE", float("inf"))


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """Return what gradual unfreezing stores if nothing interrupts it."""
    queue = Queue(tmp_path_factory.mktemp("whole"), task)
    claim = queue.claim(GRADUAL)
    assert run_trial(queue, claim, task) is None
    assert queue.stored(claim).state == TrialState.COMPLETE
    assert not (queue.location.folder / "checkpoints").exists(), "a short trial leaves nothing"
    assert "checkpoint" not in queue.stored(claim).user_attrs
    return come_to(queue, claim)
