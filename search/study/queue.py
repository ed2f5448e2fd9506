"""The queue of a study's trials, each claimed by one process, exactly to the budget."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
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
from search.study.candidates import Origin
from search.study.create import check_weights
from search.study.recovery import Recovery, under_lock
from search.study.result import TrialResult
from search.study.sampling import pruner, sampler
from search.study.space import fixed_params, samples_pretrained, suggest
from search.verdict.load import read_results, rows_of
from search.verdict.metric import metric_of
from search.verdict.predictions import save_predictions
from search.verdict.results import Results
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
    """A queue of trials: sizes explore on repeat 0, then race together on other repeats.

    The next trial is chosen under a lock from the database. So any number of processes share the queue, and a study
    resumes where it stopped. Baselines are first, then the portfolio, then the sampler's, seeded from (seed, size,
    number). A dead process's trial is requeued with its number and params: the budget stays exact.

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
        self.spec = self._whole = spec
        self.owner = owner
        self._confirm = optuna.load_study(
            study_name=location.confirm_name, storage=storage, pruner=optuna.pruners.NopPruner()
        )
        stored = StudyAttributes.of(self._confirm.user_attrs, where=f"The stored study {location.name!r}")
        self.num_groups = stored.num_groups
        self.metric = metric_of(spec.task.metric, stored.kind, own=stored.own_metric)
        self._all, self._unexplored = stored.drawn.all, frozenset(stored.drawn.unexplored)
        self.extension = len(stored.extensions)
        self._plan: tuple[int, int] | None = None
        self._known = replace(read_results(storage, location), spec=spec, rows=())
        self.baselines = self._known.baselines
        self._opening = [*self.baselines, *self._known.portfolio]
        rule = pruner(spec, num_groups=self.num_groups, first=len(self._opening))
        self._explore = {
            size: optuna.load_study(study_name=location.explore_name(size), storage=storage, pruner=rule)
            for size in self.sizes(spec.task.sizes)
        }
        self._locked = partial(under_lock, self.leased, location)
        self._recovery = Recovery(
            storage=self.leased, location=location, studies=self.studies, owner=owner, heartbeat=heartbeat
        )
        self._explored: dict[int, list[Row]] = {}  # the trials of sizes that are explored to the budget
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
        """Claim the next trial of these sizes and those that race with them, if any.

        All of them explore before any is judged.
        """

        def next_claim() -> Claim | None:
            self._follow_plan()
            for size in sizes:
                if found := self._claim_explore(size):
                    return found
            return None if self._finished.issuperset(sizes) else self._claim_confirm(sizes)

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

    def _follow_plan(self) -> None:
        """Take over the budgets that a run with a time limit has left."""
        plan = StudyAttributes.of(self._confirm.user_attrs, where=f"The stored study {self.location.name!r}").budget
        if plan != self._plan:
            self._plan, self.spec = plan, self._whole.within(plan)
            self._known = replace(self._known, spec=self.spec)
            self._explored.clear()
            self._finished.clear()

    def _claim_explore(self, size: int) -> Claim | None:
        if size in self._unexplored or size in self._explored:
            return None
        study = self._explore[size]
        trials = self._recovery.trials(study)
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        number = waiting[0].number if waiting else len(trials)
        if not waiting and number >= self.spec.search.trials:
            if all(trial.state.is_finished() for trial in trials):
                self._explored[size] = self._rows(study, size)
            return None
        if not waiting and number < len(self._opening):
            first = fixed_params(self._opening[number], self.spec, num_groups=self.num_groups)
            study.enqueue_trial(first, user_attrs={"baseline": True} if number < len(self.baselines) else {})
        study.sampler = sampler(self.spec, size=size, number=number)
        trial = study.ask()
        trial.set_user_attr("owner", str(self.owner))
        fixed = self.storage.get_trial(trial._trial_id).system_attrs.get("fixed_params")
        pretrained = fixed.get("pretrained", True) if fixed is not None else samples_pretrained(self.spec)
        strategy = suggest(trial, self.spec, num_groups=self.num_groups, pretrained=pretrained)
        return Claim(study=study, trial=trial, strategy=strategy, size=size, repeat=0, judged=False)

    def _claim_confirm(self, sizes: list[int]) -> Claim | None:
        results = self._results(sizes)
        companions = sorted({other for size in sizes for other in results.raced_with(size)})
        for size in companions:  # whose budget may have grown
            if found := self._claim_explore(size):
                return found
        needed = {size: results.needed_confirm_trials(size) for size in companions}
        known = {(row.size, (row.strategy, row.repeat)) for row in results.rows if row.judged}
        if missing := [size for size in companions if any((size, place) not in known for place in needed[size])]:
            trials = {size: study.get_trials(deepcopy=False) for size, study in self._explore.items()}
            for size in missing:
                order = {strategy: place for place, strategy in enumerate(results.candidates(size))}
                for strategy, repeat in sorted(needed[size], key=lambda place: (place[1], order[place[0]])):
                    if (size, (strategy, repeat)) not in known:
                        origin = Origin.of(strategy, results, size=size, trials=trials)
                        self._confirm.add_trial(origin.waiting(size=size, repeat=repeat, extension=self.extension))
        for trial in self._recovery.trials(self._confirm):
            if trial.user_attrs.get("extension", 0) != self.extension:
                continue
            # Trials of former candidates stay waiting: as the budget grows, these may become candidates again.
            if trial.state == TrialState.WAITING:
                place = self._strategy(trial), trial.user_attrs["repeat"]
                if place in needed.get(trial.user_attrs["size"], ()):
                    return self._claim_waiting(trial)
        if results.is_finished(sizes):
            self._finished.update(sizes)
        return None

    def _results(self, sizes: list[int]) -> Results:
        """Return what is known now, as the report sees it; no example scores."""
        rows = [
            row for size, study in self._explore.items() for row in self._explored.get(size) or self._rows(study, size)
        ]
        rows += [row for row in self._rows(self._confirm, None) if row.extension == self.extension]
        return replace(self._known, rows=tuple(rows), together=frozenset(sizes))

    def _rows(self, study: optuna.Study, size: int | None) -> list[Row]:
        trials = self._recovery.trials(study)
        return rows_of(trials, self.spec, self.location, num_groups=self.num_groups, size=size, metric=self.metric)

    def _claim_waiting(self, waiting: FrozenTrial) -> Claim:
        # As `study.ask`, but for this waiting trial instead of the first.
        self.storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)
        trial = optuna.Trial(self._confirm, waiting._trial_id)
        trial.set_user_attr("owner", str(self.owner))
        size, repeat = waiting.user_attrs["size"], waiting.user_attrs["repeat"]
        strategy = self._strategy(waiting)
        return Claim(study=self._confirm, trial=trial, strategy=strategy, size=size, repeat=repeat, judged=True)

    def _strategy(self, trial: FrozenTrial) -> FreezingStrategy:
        return self.spec.strategy(trial.params, num_groups=self.num_groups)
