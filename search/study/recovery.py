"""Recovery of trials whose process has died: they are requeued as themselves."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from search.errors import StudyError
from search.storage.heartbeat import Heartbeat
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.storage.rdb import LeasedStorage, leased_storage
from search.storage.records import name_of
from search.storage.retry import T

MAX_DEATHS = 3
"""Deaths in one epoch after which a trial fails.

If as many trials have died and none is complete, the study stops instead.

A trial that gets further each time is not to blame: a machine is taken away, or a laptop is closed.
"""
Deaths = list[tuple[str, int]]
"""Processes that may have died of a trial, each with the last epoch reported."""


def deaths(trial: FrozenTrial, *more: str) -> Deaths:
    """Return a trial's stored deaths, and those of more processes, each once."""
    try:
        died = [(str(name), int(epoch)) for name, epoch in trial.user_attrs.get("died", [])]
    except (TypeError, ValueError):  # not stored by Frostline
        died = []
    epoch = -1 if trial.last_step is None else trial.last_step
    return [*died, *((name, epoch) for name in more if name not in dict(died))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Requeues trials whose process has died; for use under the lock of claims.

    studies: all Optuna studies of the location.
    owner, heartbeat: of this process, if it runs trials.
    ended: an owner that is known to have ended.
    counts_as_death: False if that owner lost its machine: no death is counted.
    """

    storage: LeasedStorage
    location: StudyLocation
    studies: Sequence[optuna.Study]
    owner: WorkerLease | None = None
    heartbeat: Heartbeat | None = None
    ended: WorkerLease | None = None
    counts_as_death: bool = True

    def has_complete(self) -> bool:
        """Return whether any trial of the studies is complete."""
        return any(t.state == TrialState.COMPLETE for study in self.studies for t in study.get_trials(deepcopy=False))

    def trials(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return a study's trials, after requeueing those of dead processes.

        Raises `StudyError` if the first trials all kill their process.
        """
        trials = study.get_trials(deepcopy=False)
        gone = [trial for trial in trials if trial.state == TrialState.RUNNING and self._is_abandoned(trial)]
        for trial in gone:
            with suppress(UpdateFinishedTrialError):  # its owner ended it since the trials were read
                self._requeue(trial, trials)
        return study.get_trials(deepcopy=False) if gone else trials

    def _requeue(self, trial: FrozenTrial, peers: list[FrozenTrial]) -> None:
        """Requeue a trial in place, or fail it if its process died too often."""
        died = self._died(trial)
        deaths_in_epoch = sum(epoch == died[-1][1] for _, epoch in died)
        hang = f", the last time {how}" if (how := trial.user_attrs.get("hung")) else ""
        reason = f"its process died {deaths_in_epoch} times{hang}"
        too_many = deaths_in_epoch >= MAX_DEATHS
        trials_with_deaths = sum(bool(peer.user_attrs.get("died")) for peer in peers)
        stops_study = too_many and trials_with_deaths >= MAX_DEATHS and not self.has_complete()
        if too_many and not stops_study:
            self.storage.set_trial_user_attrs(trial._trial_id, {"died": died, "reason": reason})
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            return
        # Without an owner before it waits: one that was only suspended may wake while another claims the trial.
        attributes = {"died": died[:-1] if too_many else died, "owner": None}
        self.storage.set_trial_user_attrs(trial._trial_id, attributes)
        # The trial keeps its number, its params and its reported values. It resumes from its checkpoint, or skips the
        # epochs already reported.
        self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        if stops_study:
            raise StudyError(
                f"No trial is complete, and {trials_with_deaths} killed their process; trial {trial.number}: {reason}. "
                f"Out of memory? {self.location.folder / 'logs'} may show why. It waits to be run again."
            )

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        # Claims happen under the lock held here, so a running trial without an owner lost its process, or its database,
        # in the middle of its claim. So did one of this owner that this process has not acquired.
        owner = WorkerLease.parse(trial.user_attrs.get("owner"))
        if owner is None or owner == self.ended:
            return True
        if owner == self.owner:
            return not self.storage.has_acquired(trial._trial_id)
        expired = self.heartbeat is not None and self.heartbeat.has_expired(trial._trial_id, str(owner))
        return expired or owner.has_exited(self.location)

    def _died(self, trial: FrozenTrial) -> Deaths:
        """Return the processes that may have died of the trial, the last one included."""
        # A process that ends with its whole run did not die of its trial. One that dies while its run lives on may have
        # (out of memory, a crash in native code). A trial without params had not begun.
        owner = WorkerLease.parse(trial.user_attrs.get("owner"))
        if owner is None or owner == self.owner or not trial.params or owner.parent_has_exited(self.location):
            return deaths(trial)
        return deaths(trial) if owner == self.ended and not self.counts_as_death else deaths(trial, str(owner))


def requeue_dead(
    storage: BaseStorage, location: StudyLocation, *, ended: WorkerLease | None = None, counts_as_death: bool = True
) -> None:
    """Requeue all trials of a location whose process has died, with the options of `Recovery`.

    Raises `StudyError` if the first trials all kill their process.
    """
    leased = leased_storage(storage)

    def requeue() -> None:
        names = [name for study in storage.get_all_studies() if name_of(name := study.study_name) == location.name]
        studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
        recovery = Recovery(
            storage=leased, location=location, studies=studies, ended=ended, counts_as_death=counts_as_death
        )
        for study in studies:
            recovery.trials(study)

    under_lock(leased, location, requeue)


def under_lock(storage: LeasedStorage, location: StudyLocation, act: Callable[[], T]) -> T:
    """Return what `act` returns, run under the lock of claims.

    If the database goes away meanwhile, it is run again from its start.
    """

    def alone() -> T:
        with storage.locked(location.name):
            return act()

    return storage.retrying(alone)
