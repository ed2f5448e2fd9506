"""Explore and confirm: which trial comes next, claimed by exactly one process, to exactly the budget."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from search.errors import StudyError
from search.explore import lesson, pruner, sampler
from search.home import Home, Owner
from search.leases import Leases
from search.measure import MEASURES
from search.reaper import Reaper
from search.results import read_results, rows_of, stored_spec
from search.rows import Row, best_of_each_family, wanted_confirms
from search.shared import LeaseLost, shared
from search.space import anchors, fixed_params, samples_pretrained, strategy_of, suggest
from search.spec import StudySpec
from search.storage import open_storage
from strategies import FreezingStrategy

T = TypeVar("T")


def check_stored(storage: BaseStorage, home: Home, spec: StudySpec) -> None:
    """Raises `StudyError` if a study is stored under another spec; growing budgets are no difference."""
    stored = stored_spec(storage, home)
    if stored is not None and (differences := spec.differences(stored)):
        raise StudyError(
            f"Study {home.name!r} is stored with another spec: {'; '.join(differences)}. Only sizes, trials and "
            "chains may grow, and where activations are kept may change: give this study file another name, or --out "
            "or --storage another place."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A trial that this process, and no other, is to run."""

    study: optuna.Study
    trial: optuna.Trial
    strategy: FreezingStrategy
    size: int
    chain: int
    confirms: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A trial that raised: not told to the database yet, because it may be everybody's fault but the trial's."""

    claim: Claim
    reason: str
    attributes: dict[str, Any]


class TrialQueue:
    """The studies of one spec as a queue of trials: per size explore on chain 0, then confirm on fresh chains.

    What comes next is decided under a lock from what the database holds, so any number of processes share the
    queue, and one that starts again goes on where the last one stopped. First come the anchors, then finalists of
    the smaller sizes; the sampler of the others is seeded from (seed, size, number). The trial of a process that died
    goes back into the queue as itself - same number, same params - so the budget stays exact by construction.
    """

    def __init__(
        self,
        storage: BaseStorage,
        home: Home,
        spec: StudySpec,
        *,
        num_groups: int,
        owner: Owner | None = None,
        kind: str = "classification",
        groups: Sequence[str] = (),
        data: str = "",
        leases: Leases | None = None,
    ) -> None:
        self.storage = storage
        self.shared = shared(storage)
        self.home = home
        self.spec = spec
        self.num_groups = num_groups
        self.kind = kind
        self.groups = list(groups)
        self.data = data
        self.owner = owner
        self.reaper = Reaper(self.shared, home, owner=owner, leases=leases, has_complete=self.has_complete)
        self.anchors = anchors(spec, num_groups=num_groups)
        self._finished: set[int] = set()  # sizes that need not be looked at again
        self._explore: dict[int, optuna.Study] = {}

        def begin() -> None:
            check_stored(storage, home, spec)
            self._explore = {size: self._open(home.explore_name(size)) for size in spec.task.sizes}
            self._confirm = self._open(home.confirm_name)

        self._alone(begin)

    def check_weights(self, weights: str) -> None:
        """Raises `StudyError` if the study was begun with other pretrained weights; `weights` is the digest of ours."""

        def check() -> None:
            stored = self._confirm.user_attrs.get("weights")
            if stored is None:
                self._confirm.set_user_attr("weights", weights)
            elif stored != weights:
                raise StudyError(
                    f"Study {self.home.name!r} was begun with other weights of its backbone than are here. All its "
                    f"workers need the same: those of a source task lie in {self.home.folder}, so share that (--out), "
                    "or copy it; those of a file or a library must be the same version."
                )

        self._alone(check)

    def claim(self, sizes: list[int]) -> Claim | None:
        """The next trial of these sizes, or None if there is none just now (or none any more)."""

        def claim() -> Claim | None:
            for size in sizes:
                if size in self._finished:
                    continue
                if claim := self._claim_explore(size) or self._claim_confirm(size):
                    return claim
            return None

        claimed = self._alone(claim)
        if claimed is not None:
            self.shared.hold(claimed.trial._trial_id, str(self.owner))
        return claimed

    def finished(self, sizes: list[int]) -> bool:
        """Whether nothing is left to do at these sizes."""
        return read_results(self.storage, self.home, with_outcomes=False).is_finished(sizes)

    def requeue_dead(self) -> None:
        """Put the trials of processes that ended back into the queue."""

        def requeue() -> None:
            for study in [*self._explore.values(), self._confirm]:
                self.reaper.trials(study)

        self._alone(requeue)

    def note(self, claim: Claim, attributes: dict[str, Any]) -> None:
        """Store a trial's attributes."""
        for key, content in attributes.items():
            claim.trial.set_user_attr(key, content)

    def finish(
        self, claim: Claim, state: TrialState, attributes: dict[str, Any], *, value: float | None = None
    ) -> None:
        """Store a trial's attributes, then its end. Raises `LeaseLost`."""
        self.note(claim, attributes)
        claim.study.tell(claim.trial, value, state=state)
        self.shared.let_go(claim.trial._trial_id)

    def fail(self, failure: Failure) -> None:
        """Store a trial that raised an error as failed for good; one that is not ours any more is left alone."""
        with suppress(LeaseLost):
            self.finish(failure.claim, TrialState.FAIL, {**failure.attributes, "reason": failure.reason})

    def put_back(self, claim: Claim) -> None:
        """Let a claimed trial wait again, as if it had not been run; one that is not ours any more is left alone."""
        with suppress(LeaseLost):
            self._alone(lambda: self.storage.set_trial_state_values(claim.trial._trial_id, TrialState.WAITING))
        self.shared.let_go(claim.trial._trial_id)

    def take_over(self, trial_id: int, *, strategy: FreezingStrategy, size: int, chain: int, confirms: bool) -> Claim:
        """A trial that another process has claimed under this queue's owner, for this one to run."""
        study = self._confirm if confirms else self._explore[size]
        self.shared.hold(trial_id, str(self.owner))
        trial = optuna.Trial(study, trial_id)
        return Claim(study=study, trial=trial, strategy=strategy, size=size, chain=chain, confirms=confirms)

    def let_go(self, claim: Claim) -> None:
        """Have no part any more in a trial that went to another process."""
        self.shared.let_go(claim.trial._trial_id)

    def note_hung(self, how: str) -> None:
        """Store that the trials in hand hang, with `how`; from another thread, so not over the queue's connection."""
        storage = open_storage(self.home.url)
        for trial_id in self.shared.in_hand():
            storage.set_trial_user_attr(trial_id, "hung", how)

    def has_complete(self) -> bool:
        """Whether any trial of the study has come to its end."""
        studies = [*self._explore.values(), self._confirm]
        return any(t.state == TrialState.COMPLETE for study in studies for t in study.get_trials(deepcopy=False))

    def _alone(self, act: Callable[[], T]) -> T:
        """Do it under the lock of claims. If the database goes away in the midst, it is done again from the start."""

        def alone() -> T:
            with self.shared.alone(self.home.name):
                return act()

        return self.shared.patiently(alone)

    # -- under the lock ------------------------------------------------------------------------------------

    def _claim_explore(self, size: int) -> Claim | None:
        study = self._explore[size]
        trials = self.reaper.trials(study)
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
        return Claim(study=study, trial=trial, strategy=strategy, size=size, chain=0, confirms=False)

    def _opening(self, size: int, trials: list[FrozenTrial]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The params of what is tried before the sampler has its turn, and what to store of where they are from."""
        if len(trials) < len(self.anchors):
            anchor = self.anchors[len(trials)]
            return fixed_params(anchor, self.spec, num_groups=self.num_groups), {"anchor": True}
        smaller = {other: self.reaper.trials(study) for other, study in self._explore.items() if other < size}
        explored = {
            other: self._rows(found, other)
            for other, found in smaller.items()
            if len(found) >= self.spec.search.trials and all(trial.state.is_finished() for trial in found)
        }
        tried = [row.strategy for row in self._rows(trials, size)]
        row = lesson(self.spec, anchors=len(self.anchors), tried=tried, smaller=explored)
        return None if row is None else (smaller[row.size][row.number].params, {"learned_at": row.size})

    def _rows(self, trials: list[FrozenTrial], size: int | None) -> list[Row]:
        return rows_of(trials, self.spec, self.home, num_groups=self.num_groups, size=size)

    def _claim_confirm(self, size: int) -> Claim | None:
        explored = self.reaper.trials(self._explore[size])
        if not all(trial.state.is_finished() for trial in explored):
            return None
        rows = rows_of(explored, self.spec, self.home, num_groups=self.num_groups, size=size)
        maximize = self.spec.task.direction == "maximize"
        finalists = best_of_each_family(rows, maximize=maximize)
        trials = self._confirms(size)
        confirmed = rows_of(trials, self.spec, self.home, num_groups=self.num_groups, size=None)
        wanted = wanted_confirms(finalists, confirmed, spec=self.spec, measure=MEASURES[self.kind])
        if missing := wanted - {_place(trial) for trial in trials}:
            for number, chain in sorted(missing, key=lambda place: (place[1], place[0])):
                self._confirm.add_trial(self._again(explored[number], size, chain))
            trials = self._confirms(size)
        numbers = {finalist.number for finalist in finalists}
        for trial in trials:
            if trial.state == TrialState.WAITING:
                if _place(trial) in wanted:
                    return self._take(trial, size)
                if trial.user_attrs["explored"] not in numbers:
                    self.reaper.fail(trial, "its strategy is no finalist any more: the search found a better one")
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
            chain=waiting.user_attrs["chain"],
            confirms=True,
        )

    def _confirms(self, size: int) -> list[FrozenTrial]:
        return [trial for trial in self.reaper.trials(self._confirm) if trial.user_attrs["size"] == size]

    def _again(self, finalist: FrozenTrial, size: int, chain: int) -> FrozenTrial:
        return optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=finalist.params,
            distributions=finalist.distributions,
            user_attrs={
                "size": size,
                "chain": chain,
                "explored": finalist.number,
                "family": finalist.user_attrs["family"],
            },
        )

    def _open(self, name: str) -> optuna.Study:
        study = optuna.create_study(
            study_name=name,
            storage=self.storage,
            direction=self.spec.task.direction,
            pruner=optuna.pruners.NopPruner()
            if name == self.home.confirm_name
            else pruner(self.spec, num_groups=self.num_groups, anchors=len(self.anchors)),
            load_if_exists=True,
        )
        spec = self.spec.model_dump(mode="json", exclude_none=True)
        if "spec" not in study.user_attrs:
            study.set_user_attr("num_groups", self.num_groups)
            study.set_user_attr("kind", self.kind)
            study.set_user_attr("groups", self.groups)
            study.set_user_attr("data", self.data)
        elif self.data and study.user_attrs.get("data", "") not in ("", self.data):
            raise StudyError(
                f"Study {self.home.name!r} was begun on other data: [task] data = {self.spec.task.data!r} has changed "
                "since. Bring it back, or give this study file another name."
            )
        if study.user_attrs.get("spec") != spec:
            study.set_user_attr("spec", spec)
        return study


def _place(trial: FrozenTrial) -> tuple[int, int]:
    """Which finalist a confirm trial runs again, and on which chain."""
    return trial.user_attrs["explored"], trial.user_attrs["chain"]
