"""Trials whose process is gone: found, and put back into the queue as themselves."""

from collections.abc import Callable
from contextlib import suppress

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from search.errors import StudyError
from search.storage.heartbeat import Heartbeat
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.storage.rdb import LeasedStorage

ATTEMPTS = 3
"""A trial whose process died this often in one epoch stays failed; so many trials that all do so are not to blame.

Where it gets further each time it is not the trial that kills: a machine that is taken away, a laptop that is closed.
"""
Deaths = list[tuple[str, int]]
"""The processes that may have died of a trial, each with the last epoch that the trial had then reported (-1: none)."""


def deaths(trial: FrozenTrial, *more: str) -> Deaths:
    """The deaths that are stored of a trial, and those of more processes, unless they are among them.

    By name, so that who is interrupted while it notes one counts it once.
    """
    try:
        died = [(str(name), int(epoch)) for name, epoch in trial.user_attrs.get("died", [])]
    except (TypeError, ValueError):  # it is not we who stored that
        died = []
    epoch = -1 if trial.last_step is None else trial.last_step
    return [*died, *((name, epoch) for name in more if name not in dict(died))]


class Reaper:
    """Puts trials back whose process is gone; used under the lock of claims.

    has_complete: whether any trial of the whole study has come to its end.
    """

    def __init__(
        self,
        storage: LeasedStorage,
        location: StudyLocation,
        *,
        owner: WorkerLease | None,
        leases: Heartbeat | None,
        has_complete: Callable[[], bool],
    ) -> None:
        self.storage = storage
        self.location = location
        self.owner = owner
        self.leases = leases
        self.has_complete = has_complete

    def trials(self, study: optuna.Study) -> list[FrozenTrial]:
        """The study's trials, after those of dead processes have gone back into the queue.

        Raises `StudyError` where the first ones all kill their process.
        """
        trials = study.get_trials(deepcopy=False)
        gone = [trial for trial in trials if trial.state == TrialState.RUNNING and self._is_abandoned(trial)]
        for trial in gone:
            # Its owner may have ended it, and then itself, since the trials were read.
            with suppress(UpdateFinishedTrialError):
                self._reap(trial, trials)
        return study.get_trials(deepcopy=False) if gone else trials

    def _fail(self, trial: FrozenTrial, reason: str) -> None:
        """End a trial for good that nobody runs."""
        self.storage.set_trial_user_attr(trial._trial_id, "reason", reason)
        self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    def _reap(self, trial: FrozenTrial, peers: list[FrozenTrial]) -> None:
        died = self._died(trial)
        here = sum(epoch == died[-1][1] for _, epoch in died)
        last = trial.user_attrs.get("hung", "")
        reason = f"its process died {here} times{last and f', the last time {last}'}"
        is_last = here >= ATTEMPTS
        deadly = sum(bool(peer.user_attrs.get("died")) for peer in peers)
        stops = is_last and deadly >= ATTEMPTS and not self.has_complete()
        if is_last and not stops:
            self.storage.set_trial_user_attr(trial._trial_id, "died", died)
            self._fail(trial, reason)
            return
        # Nobody's before it waits: an owner that was only suspended may wake while another claims the trial.
        attributes = {"died": died[:-1] if is_last else died, "owner": None}
        self.storage.set_trial_user_attrs(trial._trial_id, attributes)
        # In place, so the trial keeps its number and its params; what it reported stays, and it goes on from its
        # checkpoint, or passes over those steps.
        self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        if stops:
            raise StudyError(
                f"No trial is complete, and {deadly} killed their process; trial {trial.number}: {reason}. "
                f"Out of memory? {self.location.folder / 'logs'} may tell. It waits to be run again."
            )

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        # Claims happen under the lock that is held here, so a running trial without an owner lost its process
        # in the middle of its claim; so did one of ours that we know nothing of, or its database.
        owner = WorkerLease.parse(trial.user_attrs.get("owner"))
        if owner is None:
            return True
        if owner == self.owner:
            return not self.storage.holds(trial._trial_id)
        expired = self.leases is not None and self.leases.has_expired(trial._trial_id, str(owner))
        return expired or owner.has_exited(self.location)

    def _died(self, trial: FrozenTrial) -> Deaths:
        """The processes that may have died of the trial, the last one included."""
        # One that was stopped, or killed, with its whole run says nothing of the trial it had in hand; one that dies
        # while its run lives on may have died of it (out of memory, a crash in native code). Without params the trial
        # had not begun.
        owner = WorkerLease.parse(trial.user_attrs.get("owner"))
        if owner is None or owner == self.owner or not trial.params or owner.parent_has_exited(self.location):
            return deaths(trial)
        return deaths(trial, str(owner))
