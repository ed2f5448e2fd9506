"""Heartbeats in the database: they show other hosts which processes live, without comparing clocks."""

import json
import threading
import time
import traceback
from typing import Any, Self

import sqlalchemy
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

HEARTBEAT_SECONDS = 10.0
"""Interval between two heartbeats of a process."""
GRACE_SECONDS = 60.0
"""Time without a new heartbeat after which a process that polls considers the owner dead."""

_BEAT = sqlalchemy.text(
    "INSERT INTO trial_heartbeats (trial_id, heartbeat) "
    "SELECT t.trial_id, CURRENT_TIMESTAMP FROM trials t "
    "JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'owner' "
    "WHERE t.state = 'RUNNING' AND a.value_json = :owner "
    "ON CONFLICT (trial_id) DO UPDATE SET heartbeat = excluded.heartbeat"
)
_RUNNING = sqlalchemy.text(
    "SELECT t.trial_id, a.value_json, h.heartbeat FROM trials t "
    "JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'owner' "
    "LEFT JOIN trial_heartbeats h ON h.trial_id = t.trial_id "
    "JOIN studies s ON s.study_id = t.study_id AND substr(s.study_name, 1, :length) = :prefix "
    "WHERE t.state = 'RUNNING'"
)


class Heartbeat:
    """The heartbeat of one owner of trials, and its view of the study's other owners.

    Another owner has expired when its heartbeat has not changed for `GRACE_SECONDS` in which this process polled
    regularly. So no two clocks are compared. After a pause of its own, or of the database, a process starts to count
    again.

    As a context it beats and polls in a thread, every `HEARTBEAT_SECONDS`. The thread survives any failure of the
    database.
    """

    def __init__(self, engine: Engine, *, owner: str, study: str) -> None:
        self.engine = engine
        self.prefix = f"{study}/"
        self.owner = owner
        self._seen: dict[tuple[int, str], tuple[Any, float]] = {}  # by trial and owner: its heartbeat, since when
        self._polled = -float("inf")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=1.0)
        self.engine.dispose()

    def has_expired(self, trial_id: int, owner: str) -> bool:
        """Return whether that owner of a running trial must be considered dead."""
        seen = self._seen.get((trial_id, owner))
        return seen is not None and self._polled - seen[1] > GRACE_SECONDS

    def poll(self) -> None:
        """Beat for this owner's trials, and read the other owners' heartbeats. Raises `SQLAlchemyError`."""
        begun = time.monotonic()
        with self.engine.begin() as connection:
            connection.execute(_BEAT, {"owner": json.dumps(self.owner)})
            running = connection.execute(_RUNNING, {"prefix": self.prefix, "length": len(self.prefix)}).all()
        now = time.monotonic()
        was_blind = now - self._polled > 2 * HEARTBEAT_SECONDS
        seen = {}
        for trial_id, text, beat in running:
            owner = json.loads(text)
            if not isinstance(owner, str):
                continue
            place = (trial_id, owner)
            before = self._seen.get(place)
            seen[place] = before if before is not None and before[0] == beat and not was_blind else (beat, now)
        self._seen, self._polled = seen, begun

    def _run(self) -> None:
        while True:
            try:
                self.poll()
            except SQLAlchemyError:
                pass  # away: the thread that trains waits for it too, and notifies the user
            except Exception:  # anything may be stored in the database; the thread must not end
                traceback.print_exc()
            if self._stopped.wait(HEARTBEAT_SECONDS):
                return
