"""The queue of a study's trials, each claimed by one process, exactly to the budget."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import isnan, nan
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from search.errors import StudyError
from search.spec.study_spec import StudySpec
from search.spec.values import Size
from search.storage.database import connected
from search.storage.heartbeat import Heartbeat
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.storage.rdb import LeaseLost, leased_storage
from search.storage.records import StudyAttributes
from search.storage.retry import PATIENCE_SECONDS, retrying
from search.study.candidates import Origins, of_explored, of_unexplored
from search.study.create import check_weights
from search.study.recovery import Recovery, under_lock
from search.study.result import TrialResult
from search.study.sampling import pruner, sampler, warm_start
from search.study.space import baselines, fixed_params, samples_pretrained, suggest
from search.verdict.confirm import needed_confirm_trials
from search.verdict.load import read_results, rows_of
from search.verdict.metric import metric_of
from search.verdict.predictions import save_predictions
from search.verdict.rows import Row
from strategies import FreezingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A trial that this process alone is to run."""

    study: optuna.Study
    trial: optuna.Trial
    strategy: FreezingStrategy
    size: int
    repeat: int
    judged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A trial that raised an error, not stored yet: it may not be at fault."""

    claim: Claim
    result: TrialResult


class TrialQueue:
    """A queue of trials: each size explores on repeat 0, then confirms on other repeats.

    The next trial is chosen under a lock from the database. So any number of processes share the queue, and a study
    resumes where it stopped. Baselines are first, then the best strategies of smaller sizes, then the sampler's, seeded
    from (seed, size, number). A dead process's trial is requeued with its number and params: the budget stays exact.

    The studies exist already: see `create_studies`. Without an `owner` a queue only reads.
    """

    def __init__(
        self,
        storage: BaseStorage,
        location: StudyLocation,
        spec: StudySpec,
        *,
        owner: WorkerLease | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self.storage = storage
        self.leased = leased_storage(storage)  # behind Optuna's cache
        self.location = location
        self.spec = spec
        self.owner = owner
        self._confirm = optuna.load_study(
            study_name=location.confirm_name, storage=storage, pruner=optuna.pruners.NopPruner()
        )
        stored = StudyAttributes.of(self._confirm.user_attrs, where=f"The stored study {location.name!r}")
        self.num_groups = stored.num_groups
        self.metric = metric_of(spec.task.metric, stored.kind, own=stored.own_metric)
        self._all, self._unexplored = stored.drawn.all, frozenset(stored.drawn.unexplored)
        self.extension = len(stored.extensions)
        self.baselines = baselines(spec, num_groups=self.num_groups)
        rule = pruner(spec, num_groups=self.num_groups, baselines=len(self.baselines))
        self._explore = {
            size: optuna.load_study(study_name=location.explore_name(size), storage=storage, pruner=rule)
            for size in self.sizes(spec.task.sizes)
        }
        self._locked = partial(under_lock, self.leased, location)
        self._recovery = Recovery(
            storage=self.leased, location=location, studies=self.studies, owner=owner, heartbeat=heartbeat
        )
        self._finished: set[int] = set()  # sizes with no trial left to claim

    @property
    def studies(self) -> list[optuna.Study]:
        """The Optuna studies: one a size to explore, and the one that confirms."""
        return [*self._explore.values(), self._confirm]

    def sizes(self, wanted: Sequence[Size]) -> list[int]:
        """Return sizes as numbers."""
        return [self._all if size == "all" else size for size in wanted]

    def check_weights(self, weights: str) -> None:
        """Raise `StudyError` if the study was created with pretrained weights of another digest."""
        self._locked(lambda: check_weights(self._confirm, self.location, weights))

    def claim(self, sizes: list[int]) -> Claim | None:
        """Claim the next trial of these sizes; None if there is none now."""

        def next_claim() -> Claim | None:
            for size in sizes:
                if size in self._finished:
                    continue
                explored = self._recovery.trials(self._explore[size])
                if found := self._claim_explore(size, explored) or self._claim_confirm(size, explored):
                    return found
            return None

        claimed = self._locked(next_claim)
        if claimed is not None:
            self.leased.acquire(claimed.trial._trial_id, str(self.owner))
        return claimed

    def finished(self, sizes: list[int]) -> bool:
        """Return whether nothing is left to do here. Raises `StudyError` after labels were added."""
        results = read_results(self.storage, self.location)
        if results.extension > self.extension:
            raise StudyError(f"Labels were added to study {self.location.name!r} since this began: start it again.")
        return results.is_finished(sizes)

    def notify(self, line: str) -> None:
        """Show a line to the user."""
        self.leased.notify(line)

    def note(self, claim: Claim, attributes: dict[str, Any]) -> None:
        """Store attributes of a trial."""
        self.leased.set_trial_user_attrs(claim.trial._trial_id, attributes)

    def finish(self, claim: Claim, result: TrialResult, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Store a trial's predictions, its attributes, then its end.

        meanwhile: is called while a full disk is waited for.
        Raises `LeaseLost`, and `OSError` if the predictions can't be written.
        """
        attributes = result.attributes
        if (predictions := result.predictions) is not None:
            attributes["predictions_file"] = retrying(
                lambda: save_predictions(self.location, claim.trial.number, **predictions),
                patience=PATIENCE_SECONDS,
                notify=self.notify,
                meanwhile=meanwhile,
            )
        trial_id, value = claim.trial._trial_id, result.value
        self.note(claim, attributes)
        if result.state == TrialState.PRUNED:  # as in Optuna, the last value reported
            reported = self.storage.get_trial(trial_id)
            value = nan if reported.last_step is None else reported.intermediate_values[reported.last_step]
        values = None if result.state == TrialState.FAIL or isnan(value) else [value]
        # Not by `study.tell`: it reads the trial's state before it writes. If the trial was taken from a suspended
        # process just there, it raises a ValueError.
        self.storage.set_trial_state_values(trial_id, result.state, values)
        self.leased.release(trial_id)

    def fail(self, failure: Failure) -> None:
        """Store that a trial failed for good, unless another process has it now."""
        with suppress(LeaseLost):
            self.finish(failure.claim, failure.result)

    def requeue(self, claim: Claim) -> None:
        """Let a claimed trial wait to be run again, unless another process has it now."""
        trial_id = claim.trial._trial_id
        with suppress(LeaseLost):
            self._locked(lambda: self.storage.set_trial_state_values(trial_id, TrialState.WAITING))
        self.leased.release(trial_id)

    def release(self, claim: Claim) -> None:
        """Give up a trial that another process has now."""
        self.leased.release(claim.trial._trial_id)

    def mark_hung(self, how: str) -> None:
        """Store `how` the acquired trials hang.

        It is called by another thread, so not over the queue's connection.
        """
        with connected(self.location.database) as storage:
            assert storage is not None
            for trial_id in self.leased.acquired():
                storage.set_trial_user_attr(trial_id, "hung", how)

    def has_complete(self) -> bool:
        """Return whether any trial of the study is complete."""
        return self._recovery.has_complete()

    # -- under the lock ------------------------------------------------------------------------------------

    def _claim_explore(self, size: int, trials: list[FrozenTrial]) -> Claim | None:
        if size in self._unexplored:
            size, trials = self._smaller(size)
            if not trials:
                return None
        study = self._explore[size]
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        number = waiting[0].number if waiting else len(trials)
        if not waiting and number >= self.spec.search.trials:
            return None
        if not waiting and (first := self._before_sampler(size, trials)) is not None:
            params, origin = first
            study.enqueue_trial(params, user_attrs=origin)
        study.sampler = sampler(self.spec, size=size, number=number)
        trial = study.ask()
        trial.set_user_attr("owner", str(self.owner))
        fixed = self.storage.get_trial(trial._trial_id).system_attrs.get("fixed_params")
        pretrained = fixed.get("pretrained", True) if fixed is not None else samples_pretrained(self.spec)
        strategy = suggest(trial, self.spec, num_groups=self.num_groups, pretrained=pretrained)
        return Claim(study=study, trial=trial, strategy=strategy, size=size, repeat=0, judged=False)

    def _before_sampler(self, size: int, trials: list[FrozenTrial]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the params to try before the sampler's turn, and the attributes of their origin."""
        if len(trials) < len(self.baselines):
            baseline = self.baselines[len(trials)]
            return fixed_params(baseline, self.spec, num_groups=self.num_groups), {"baseline": True}
        smaller = {other: self._recovery.trials(study) for other, study in self._explore.items() if other < size}
        explored = {other: self._rows(found, other) for other, found in smaller.items() if self._is_explored(found)}
        tried = [row.strategy for row in self._rows(trials, size)]
        baselines = len(self.baselines)
        row = warm_start(self.spec, metric=self.metric, baselines=baselines, tried=tried, smaller=explored)
        return None if row is None else (smaller[row.size][row.number].params, {"warm_started_from": row.size})

    def _rows(self, trials: list[FrozenTrial], size: int | None) -> list[Row]:
        return rows_of(trials, self.spec, self.location, num_groups=self.num_groups, size=size, metric=self.metric)

    def _claim_confirm(self, size: int, explored: list[FrozenTrial]) -> Claim | None:
        known = self._candidates(size, explored)
        if known is None:
            return None
        trials = self._confirms(size)
        confirmed = self._rows(trials, None)
        needed = needed_confirm_trials([*known], confirmed, spec=self.spec, metric=self.metric)
        if missing := needed - {(row.strategy, row.repeat) for row in confirmed}:
            order = {strategy: place for place, strategy in enumerate(known)}
            for strategy, repeat in sorted(missing, key=lambda place: (place[1], order[place[0]])):
                waiting = known[strategy].waiting(size=size, repeat=repeat, extension=self.extension)
                self._confirm.add_trial(waiting)
            trials = self._confirms(size)
            confirmed = self._rows(trials, None)
        needed_trials = [
            trial for trial, row in zip(trials, confirmed, strict=True) if (row.strategy, row.repeat) in needed
        ]
        for trial in needed_trials:
            if trial.state == TrialState.WAITING:
                return self._claim_waiting(trial, size)
        # Trials of former candidates stay waiting: as the budget grows, these may become candidates again.
        if all(trial.state.is_finished() for trial in needed_trials):
            self._finished.add(size)
        return None

    def _candidates(self, size: int, explored: list[FrozenTrial]) -> Origins | None:
        """Return the candidates of a size; None until they are known."""
        if size not in self._unexplored:
            if not all(trial.state.is_finished() for trial in explored):
                return None
            return of_explored(explored, self._rows(explored, size), metric=self.metric)
        nearest, trials = self._smaller(size)
        if trials and not self._is_explored(trials):
            return None
        rows = self._rows(trials, nearest)
        return of_unexplored(
            self.baselines, trials, rows, spec=self.spec, num_groups=self.num_groups, metric=self.metric
        )

    def _smaller(self, size: int) -> tuple[int, list[FrozenTrial]]:
        """Return the next smaller size that has exploring trials, with them; none for 0."""
        smaller = {other: self._recovery.trials(study) for other, study in self._explore.items() if other < size}
        nearest = max((other for other, trials in smaller.items() if trials), default=0)
        return nearest, smaller.get(nearest, [])

    def _is_explored(self, trials: list[FrozenTrial]) -> bool:
        return len(trials) >= self.spec.search.trials and all(trial.state.is_finished() for trial in trials)

    def _claim_waiting(self, waiting: FrozenTrial, size: int) -> Claim:
        # As `study.ask`, but for this waiting trial instead of the first.
        self.storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)
        trial = optuna.Trial(self._confirm, waiting._trial_id)
        trial.set_user_attr("owner", str(self.owner))
        strategy, repeat = self.spec.strategy(waiting.params, num_groups=self.num_groups), waiting.user_attrs["repeat"]
        return Claim(study=self._confirm, trial=trial, strategy=strategy, size=size, repeat=repeat, judged=True)

    def _confirms(self, size: int) -> list[FrozenTrial]:
        found = [trial for trial in self._recovery.trials(self._confirm) if trial.user_attrs["size"] == size]
        return [trial for trial in found if trial.user_attrs.get("extension", 0) == self.extension]
