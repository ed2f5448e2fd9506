"""Optuna's relational storage, with retries, a lock, and owners of trials."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb.models import TrialUserAttributeModel
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from search.storage.locks import locked
from search.storage.retry import T, retrying
from search.storage.url import Database

_OWNER = sqlalchemy.text(
    "SELECT a.value_json FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'owner' "
    "WHERE t.trial_id = :trial AND t.state = 'RUNNING'"
)
_OWNER_SHARED = sqlalchemy.text(f"{_OWNER.text} FOR SHARE OF t")
_RETRIED = (
    "create_new_study get_all_studies get_study_id_from_name get_study_name_from_id get_study_directions "
    "get_study_user_attrs get_study_system_attrs set_study_user_attr set_study_system_attr get_trial "
    "set_trial_intermediate_value set_trial_user_attr set_trial_system_attr _create_new_trial _get_trials "
    "_set_trial_param"
)


class LeaseLost(Exception):
    """Another process has taken over the trial, so this process writes nothing more of it."""


class LeasedStorage(RDBStorage):
    """A study's database, shared by processes that may die, hang, or lose its connection.

    - A call that fails while the database is away is tried again (`retrying`).
    - In a `locked` block, no other process decides what is claimed next.
    - A process that has acquired a trial writes of it only while it owns it; else it raises `LeaseLost`.

    For one thread.
    """

    def __init__(
        self,
        database: Database,
        *,
        patience: float = 0.0,
        notify: Callable[[str], None] = print,
        meanwhile: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        self.database = database
        self.patience = patience
        self.notify = notify
        self.meanwhile = meanwhile
        self._owners: dict[int, str] = {}
        self._is_locked = False
        # Optuna formats the URL as a template.
        template = database.url.replace("{", "{{").replace("}", "}}")
        try:
            super().__init__(template, engine_kwargs=database.engine_options, **options)
        except BaseException:
            if hasattr(self, "engine"):  # a failed storage must not keep a connection: there may be too many
                self.engine.dispose()
            raise
        sqlalchemy.event.listen(self.engine, "connect", self._connected)

    # -- retries -------------------------------------------------------------------------------------------

    def retrying(self, act: Callable[[], T]) -> T:
        """Return what `act` returns, tried again while the database is away.

        A `locked` block can only be tried again as a whole.
        """
        if self._is_locked:
            return act()
        return retrying(act, patience=self.patience, notify=self.notify, meanwhile=self.meanwhile)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        tried = False

        def act() -> bool:
            nonlocal tried
            # The connection may have broken between the commit and its answer. If it broke before the commit, another
            # process may have set that state since.
            if tried and self._is_already_set(trial_id, state):
                return True
            tried = True
            return RDBStorage.set_trial_state_values(self, trial_id, state, values)

        return self.retrying(act)

    def _is_already_set(self, trial_id: int, state: TrialState) -> bool:
        trial = RDBStorage.get_trial(self, trial_id)
        return trial.state == state and self._owners.get(trial_id) in (None, trial.user_attrs.get("owner"))

    def set_trial_user_attrs(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Set several attributes in one transaction, where `set_trial_user_attr` takes one each."""

        def act() -> None:
            with _create_scoped_session(self.scoped_session, True) as session:
                for key, content in attributes.items():
                    self._set_trial_attr_without_commit(session, TrialUserAttributeModel, trial_id, key, content)

        self.retrying(act)

    # -- one process at a time -----------------------------------------------------------------------------

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock of that name between all processes that use this database.

        On PostgreSQL all statements of the block use the connection that holds the lock. If it breaks, the lock is
        free, and the block fails at its next statement.
        """
        with locked(self.engine, self.database, name) as connection:
            if connection is None:
                yield
                return
            self.scoped_session.remove()
            self.scoped_session.configure(bind=connection)
            self._is_locked = True
            try:
                yield
            finally:
                self._is_locked = False
                self.scoped_session.remove()
                self.scoped_session.configure(bind=self.engine)

    def _connected(self, connection: Any, record: Any) -> None:
        if self._is_locked:
            raise OperationalError("connect", {}, ConnectionError("the connection that held the lock was lost"))

    # -- leases --------------------------------------------------------------------------------------------

    def acquire(self, trial_id: int, owner: str) -> None:
        """Record the owner in whose name this process writes of the trial."""
        self._owners[trial_id] = owner

    def has_acquired(self, trial_id: int) -> bool:
        """Return whether this process has acquired the trial."""
        return trial_id in self._owners

    def acquired(self) -> list[int]:
        """Return the trials that this process has acquired."""
        return [*self._owners]

    def release(self, trial_id: int) -> None:
        """Give up the trial, if it was acquired."""
        self._owners.pop(trial_id, None)

    def check_trial_is_updatable(self, trial_id: int, trial_state: TrialState) -> None:
        # Every method that writes of a trial calls this, in the transaction in which it writes.
        if trial_id in self._owners:
            query = _OWNER if self.database.file is not None else _OWNER_SHARED
            owner = self.scoped_session().execute(query, {"trial": trial_id}).scalar()
            if owner != json.dumps(self._owners[trial_id]):
                raise LeaseLost(f"Trial {trial_id} has another owner now.")
        super().check_trial_is_updatable(trial_id, trial_state)


def _with_retries(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: LeasedStorage, *arguments: Any, **options: Any) -> Any:
        return self.retrying(lambda: method(self, *arguments, **options))

    return call


# In a loop: as methods of their own, all sixteen would have the same body.
for _name in _RETRIED.split():
    setattr(LeasedStorage, _name, _with_retries(getattr(RDBStorage, _name)))


def leased_storage(storage: BaseStorage) -> LeasedStorage:
    """Return the `LeasedStorage` behind the cache that Optuna puts before it."""
    backend = storage._backend  # type: ignore[attr-defined]
    assert isinstance(backend, LeasedStorage)
    return backend
