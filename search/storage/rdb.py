"""Optuna's relational storage for processes that come and go: it waits for its database, and knows whose a trial is."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb.models import TrialUserAttributeModel
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from search.storage.locks import locked
from search.storage.retry import T, patiently

_OWNER = sqlalchemy.text(
    "SELECT a.value_json FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'owner' "
    "WHERE t.trial_id = :trial AND t.state = 'RUNNING'"
)
_OWNER_SHARED = sqlalchemy.text(f"{_OWNER.text} FOR SHARE OF t")
_PATIENT: list[Callable[..., Any]] = [
    RDBStorage.create_new_study,
    RDBStorage.get_all_studies,
    RDBStorage.get_study_id_from_name,
    RDBStorage.get_study_name_from_id,
    RDBStorage.get_study_directions,
    RDBStorage.get_study_user_attrs,
    RDBStorage.get_study_system_attrs,
    RDBStorage.set_study_user_attr,
    RDBStorage.set_study_system_attr,
    RDBStorage.get_trial,
    RDBStorage.set_trial_intermediate_value,
    RDBStorage.set_trial_user_attr,
    RDBStorage.set_trial_system_attr,
    RDBStorage._create_new_trial,
    RDBStorage._get_trials,
    RDBStorage._set_trial_param,
]


class LeaseLost(Exception):
    """The trial went to another process, which had to take this one for dead: nothing more of it is written here."""


class LeasedStorage(RDBStorage):
    """A study's database, shared by processes that may die, hang, or lose sight of it.

    - What fails because the database is away is tried again for `patience` seconds; `say` is told.
    - In `alone`, this process is the only one of all that decides what comes next.
    - Of a trial that it holds (`hold`) a process writes only as long as the trial is its own.

    file: the SQLite file, whose lock is a file beside it; None for PostgreSQL, whose lock is an advisory one.
    One thread uses it. Raises `LeaseLost`, and what `RDBStorage` raises.
    """

    def __init__(
        self,
        url: str,
        *,
        file: Path | None,
        patience: float = 0.0,
        say: Callable[[str], None] = print,
        **options: Any,
    ) -> None:
        self.file = file
        self.patience = patience
        self.say = say
        self.meanwhile: Callable[[], None] = lambda: None  # called now and then while the database is waited for
        self._held: dict[int, str] = {}
        self._alone = False
        try:
            super().__init__(url, **options)
        except BaseException:
            if hasattr(self, "engine"):  # one that fails must hold no connection: there may be too many of them
                self.engine.dispose()
            raise
        sqlalchemy.event.listen(self.engine, "connect", self._connected)

    # -- waiting -------------------------------------------------------------------------------------------

    def patiently(self, act: Callable[[], T]) -> T:
        """What `act` returns, tried again while the database is away. What is done alone is tried again as a whole."""
        if self._alone:
            return act()
        return patiently(act, patience=self.patience, say=self.say, meanwhile=lambda: self.meanwhile())

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        tried = False

        def act() -> bool:
            nonlocal tried
            # The connection may have broken after the commit, before its answer came. Or before it, and then the state
            # may be what another has made of the trial since.
            if tried and self._is_so(trial_id, state):
                return True
            tried = True
            return RDBStorage.set_trial_state_values(self, trial_id, state, values)

        return self.patiently(act)

    def _is_so(self, trial_id: int, state: TrialState) -> bool:
        trial = RDBStorage.get_trial(self, trial_id)
        return trial.state == state and self._held.get(trial_id) in (None, trial.user_attrs.get("owner"))

    def set_trial_user_attrs(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """All of them in one transaction, where `set_trial_user_attr` takes one each."""

        def act() -> None:
            with _create_scoped_session(self.scoped_session, True) as session:
                for key, content in attributes.items():
                    self._set_trial_attr_without_commit(session, TrialUserAttributeModel, trial_id, key, content)

        self.patiently(act)

    # -- one at a time -------------------------------------------------------------------------------------

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold the lock of that name: no other process, on any host that uses this database, is in such a block.

        On PostgreSQL everything in the block goes through the connection that holds the lock. If that breaks, the
        lock is free and the block fails at its next statement; it can't go on without the lock.
        """
        with locked(self.engine, self.file, name) as connection:
            if connection is None:
                yield
                return
            self.scoped_session.remove()
            self.scoped_session.configure(bind=connection)
            self._alone = True
            try:
                yield
            finally:
                self._alone = False
                self.scoped_session.remove()
                self.scoped_session.configure(bind=self.engine)

    def _connected(self, connection: Any, record: Any) -> None:
        if self._alone:
            raise OperationalError("connect", {}, ConnectionError("the connection that held the lock was lost"))

    # -- leases --------------------------------------------------------------------------------------------

    def hold(self, trial_id: int, owner: str) -> None:
        """From now on write of this trial only while it runs and its attribute "owner" says `owner`."""
        self._held[trial_id] = owner

    def holds(self, trial_id: int) -> bool:
        """Whether this process has the trial in hand."""
        return trial_id in self._held

    def in_hand(self) -> list[int]:
        """The trials that this process has in hand."""
        return [*self._held]

    def let_go(self, trial_id: int) -> None:
        """This process has no part in the trial any more."""
        self._held.pop(trial_id, None)

    def check_trial_is_updatable(self, trial_id: int, trial_state: TrialState) -> None:
        # Called by every method that writes of a trial, in the transaction in which it writes.
        if trial_id in self._held:
            query = _OWNER if self.file is not None else _OWNER_SHARED
            owner = self.scoped_session().execute(query, {"trial": trial_id}).scalar()
            if owner != json.dumps(self._held[trial_id]):
                raise LeaseLost(f"Trial {trial_id} has another owner now.")
        super().check_trial_is_updatable(trial_id, trial_state)


def _waits(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def patient(self: LeasedStorage, *arguments: Any, **options: Any) -> Any:
        return self.patiently(lambda: method(self, *arguments, **options))

    return patient


for _method in _PATIENT:
    setattr(LeasedStorage, _method.__name__, _waits(_method))


def shared(storage: BaseStorage) -> LeasedStorage:
    """What is behind the cache that `open_storage` returns."""
    backend = storage._backend  # type: ignore[attr-defined]
    assert isinstance(backend, LeasedStorage)
    return backend
