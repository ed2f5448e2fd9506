"""Explore and confirm: which trial comes next, claimed by exactly one process, to exactly the budget."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import isnan, nan
from typing import Any, TypeVar

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from search.spec.study_spec import StudySpec
from search.storage.database import connected
from search.storage.heartbeat import Heartbeat
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.storage.rdb import LeaseLost, shared
from search.study.create import check_stored, check_weights, open_study
from search.study.recovery import Reaper
from search.study.sampling import pruner, sampler, warm_start
from search.study.space import baselines, fixed_params, samples_pretrained, strategy_of, suggest
from search.verdict.confirm import needed_confirm_trials, nominees
from search.verdict.load import read_results, rows_of
from search.verdict.metric import METRICS
from search.verdict.rows import Row
from strategies import FreezingStrategy

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A trial that this process, and no other, is to run."""

    study: optuna.Study
    trial: optuna.Trial
    strategy: FreezingStrategy
    size: int
    repeat: int
    confirms: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A trial that raised: not told to the database yet, because it may be everybody's fault but the trial's."""

    claim: Claim
    reason: str
    attributes: dict[str, Any]


class TrialQueue:
    """The studies of one spec as a queue of trials: per size explore on repeat 0, then confirm on fresh repeats.

    What comes next is decided under a lock from what the database holds, so any number of processes share the
    queue, and one that starts again goes on where the last one stopped. First come the baselines, then what was best at
    smaller sizes; the sampler of the others is seeded from (seed, size, number). The trial of a process that died goes
    back into the queue as itself - same number, same params - so the budget stays exact by construction.
    """

    def __init__(
        self,
        storage: BaseStorage,
        location: StudyLocation,
        spec: StudySpec,
        *,
        num_groups: int,
        owner: WorkerLease | None = None,
        kind: str = "classification",
        groups: Sequence[str] = (),
        data: str = "",
        leases: Heartbeat | None = None,
    ) -> None:
        self.storage = storage
        self.shared = shared(storage)
        self.location = location
        self.spec = spec
        self.num_groups = num_groups
        self.kind = kind
        self.owner = owner
        self.reaper = Reaper(self.shared, location, owner=owner, leases=leases, has_complete=self.has_complete)
        self.baselines = baselines(spec, num_groups=num_groups)
        self._finished: set[int] = set()  # sizes that need not be looked at again
        self._explore: dict[int, optuna.Study] = {}

        facts = {"num_groups": num_groups, "kind": kind, "groups": list(groups), "data": data}
        rule = pruner(spec, num_groups=num_groups, baselines=len(self.baselines))

        def begin() -> None:
            check_stored(storage, location, spec)
            open_one = partial(open_study, storage=storage, location=location, spec=spec, facts=facts)
            self._explore = {size: open_one(location.explore_name(size), pruner=rule) for size in spec.task.sizes}
            self._confirm = open_one(location.confirm_name, pruner=optuna.pruners.NopPruner())

        self._alone(begin)

    def check_weights(self, weights: str) -> None:
        """Raises `StudyError` if the study was begun with other pretrained weights; `weights` is the digest of ours."""
        self._alone(lambda: check_weights(self._confirm, self.location, weights))

    def claim(self, sizes: list[int]) -> Claim | None:
        """The next trial of these sizes, or None if there is none just now (or none any more)."""

        def claim() -> Claim | None:
            for size in sizes:
                if size in self._finished:
                    continue
                explored = self.reaper.trials(self._explore[size])
                if claim := self._claim_explore(size, explored) or self._claim_confirm(size, explored):
                    return claim
            return None

        claimed = self._alone(claim)
        if claimed is not None:
            self.shared.hold(claimed.trial._trial_id, str(self.owner))
        return claimed

    def finished(self, sizes: list[int]) -> bool:
        """Whether nothing is left to do at these sizes."""
        return read_results(self.storage, self.location).is_finished(sizes)

    def requeue_dead(self) -> None:
        """Put the trials of processes that ended back into the queue."""

        def requeue() -> None:
            for study in [*self._explore.values(), self._confirm]:
                self.reaper.trials(study)

        self._alone(requeue)

    def say(self, what: str) -> None:
        """Tell the user."""
        self.shared.say(what)

    def note(self, claim: Claim, attributes: dict[str, Any]) -> None:
        """Store a trial's attributes."""
        self.shared.set_trial_user_attrs(claim.trial._trial_id, attributes)

    def finish(
        self, claim: Claim, state: TrialState, attributes: dict[str, Any], *, value: float | None = None
    ) -> None:
        """Store a trial's attributes, then its end. Raises `LeaseLost`.

        A pruned trial's value is the last one it reported, as with Optuna.
        """
        self.note(claim, attributes)
        trial_id = claim.trial._trial_id
        if state == TrialState.PRUNED:
            reported = self.storage.get_trial(trial_id)
            last = nan if reported.last_step is None else reported.intermediate_values[reported.last_step]
            value = None if isnan(last) else last
        # Not by `study.tell`: it asks for the trial's state before it writes, and where the trial was taken from a
        # process that was suspended just there, it raises a ValueError.
        self.storage.set_trial_state_values(trial_id, state, None if value is None else [value])
        self.shared.let_go(trial_id)

    def fail(self, failure: Failure) -> None:
        """Store a trial that raised an error as failed for good; one that is not ours any more is left alone."""
        with suppress(LeaseLost):
            self.finish(failure.claim, TrialState.FAIL, {**failure.attributes, "reason": failure.reason})

    def requeue(self, claim: Claim) -> None:
        """Let a claimed trial wait again, as if it had not been run; one that is not ours any more is left alone."""
        with suppress(LeaseLost):
            self._alone(lambda: self.storage.set_trial_state_values(claim.trial._trial_id, TrialState.WAITING))
        self.shared.let_go(claim.trial._trial_id)

    def adopt(self, trial_id: int, *, strategy: FreezingStrategy, size: int, repeat: int, confirms: bool) -> Claim:
        """A trial that another process has claimed under this queue's owner, for this one to run."""
        study = self._confirm if confirms else self._explore[size]
        self.shared.hold(trial_id, str(self.owner))
        trial = optuna.Trial(study, trial_id)
        return Claim(study=study, trial=trial, strategy=strategy, size=size, repeat=repeat, confirms=confirms)

    def let_go(self, claim: Claim) -> None:
        """Have no part any more in a trial that went to another process."""
        self.shared.let_go(claim.trial._trial_id)

    def mark_hung(self, how: str) -> None:
        """Store that the trials in hand hang, with `how`; from another thread, so not over the queue's connection."""
        with connected(self.location.url) as storage:
            assert storage is not None
            for trial_id in self.shared.in_hand():
                storage.set_trial_user_attr(trial_id, "hung", how)

    def has_complete(self) -> bool:
        """Whether any trial of the study has come to its end."""
        studies = [*self._explore.values(), self._confirm]
        return any(t.state == TrialState.COMPLETE for study in studies for t in study.get_trials(deepcopy=False))

    def _alone(self, act: Callable[[], T]) -> T:
        """Do it under the lock of claims. If the database goes away in the midst, it is done again from the start."""

        def alone() -> T:
            with self.shared.alone(self.location.name):
                return act()

        return self.shared.patiently(alone)

    # -- under the lock ------------------------------------------------------------------------------------

    def _claim_explore(self, size: int, trials: list[FrozenTrial]) -> Claim | None:
        study = self._explore[size]
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        number = waiting[0].number if waiting else len(trials)
        if not waiting and number >= self.spec.search.trials:
            return None
        if not waiting and (first := self._opening(size, trials)) is not None:
            params, origin = first
            study.enqueue_trial(params, user_attrs=origin)
        study.sampler = sampler(self.spec, size=size, number=number)
        trial = study.ask()
        trial.set_user_attr("owner", str(self.owner))
        fixed = self.storage.get_trial(trial._trial_id).system_attrs.get("fixed_params")
        pretrained = fixed.get("pretrained", True) if fixed is not None else samples_pretrained(self.spec)
        strategy = suggest(trial, self.spec, num_groups=self.num_groups, pretrained=pretrained)
        return Claim(study=study, trial=trial, strategy=strategy, size=size, repeat=0, confirms=False)

    def _opening(self, size: int, trials: list[FrozenTrial]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The params of what is tried before the sampler has its turn, and what to store of where they are from."""
        if len(trials) < len(self.baselines):
            baseline = self.baselines[len(trials)]
            return fixed_params(baseline, self.spec, num_groups=self.num_groups), {"baseline": True}
        smaller = {other: self.reaper.trials(study) for other, study in self._explore.items() if other < size}
        explored = {
            other: self._rows(found, other)
            for other, found in smaller.items()
            if len(found) >= self.spec.search.trials and all(trial.state.is_finished() for trial in found)
        }
        tried = [row.strategy for row in self._rows(trials, size)]
        row = warm_start(self.spec, baselines=len(self.baselines), tried=tried, smaller=explored)
        return None if row is None else (smaller[row.size][row.number].params, {"warm_started_from": row.size})

    def _rows(self, trials: list[FrozenTrial], size: int | None) -> list[Row]:
        return rows_of(trials, self.spec, self.location, num_groups=self.num_groups, size=size)

    def _claim_confirm(self, size: int, explored: list[FrozenTrial]) -> Claim | None:
        if not all(trial.state.is_finished() for trial in explored):
            return None
        rows = rows_of(explored, self.spec, self.location, num_groups=self.num_groups, size=size)
        families = nominees(rows, maximize=self.spec.task.direction == "maximize")
        trials = self._confirms(size)
        confirmed = rows_of(trials, self.spec, self.location, num_groups=self.num_groups, size=None)
        wanted = needed_confirm_trials(families, confirmed, spec=self.spec, metric=METRICS[self.kind])
        if missing := wanted - {_place(trial) for trial in trials}:
            for number, repeat in sorted(missing, key=lambda place: (place[1], place[0])):
                self._confirm.add_trial(self._again(explored[number], size, repeat))
            trials = self._confirms(size)
        for trial in trials:
            if trial.state == TrialState.WAITING and _place(trial) in wanted:
                return self._take(trial, size)
        # Those of former candidates wait on: as the budget grows, who lost its place may win it back.
        if all(trial.state.is_finished() for trial in trials if _place(trial) in wanted):
            self._finished.add(size)
        return None

    def _take(self, waiting: FrozenTrial, size: int) -> Claim:
        # What `study.ask` does, but for this waiting trial instead of the first.
        self.storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)
        trial = optuna.Trial(self._confirm, waiting._trial_id)
        trial.set_user_attr("owner", str(self.owner))
        return Claim(
            study=self._confirm,
            trial=trial,
            strategy=strategy_of(waiting.params, self.spec, num_groups=self.num_groups),
            size=size,
            repeat=waiting.user_attrs["repeat"],
            confirms=True,
        )

    def _confirms(self, size: int) -> list[FrozenTrial]:
        return [trial for trial in self.reaper.trials(self._confirm) if trial.user_attrs["size"] == size]

    def _again(self, entrant: FrozenTrial, size: int, repeat: int) -> FrozenTrial:
        return optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=entrant.params,
            distributions=entrant.distributions,
            user_attrs={
                "size": size,
                "repeat": repeat,
                "source_trial": entrant.number,
                "family": entrant.user_attrs["family"],
            },
        )


def _place(trial: FrozenTrial) -> tuple[int, int]:
    """Which exploring trial a confirm trial runs again, and on which repeat."""
    return trial.user_attrs["source_trial"], trial.user_attrs["repeat"]
