"""Who still works on a trial where no lock of this host can tell: heartbeats in the database, without clocks."""

import json
import threading
import time
import traceback
from typing import Any, Self

import sqlalchemy
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

BEAT = 10.0
"""Seconds between two heartbeats of a process, and between its looks at those of the others."""
GRACE = 60.0
"""Seconds that an owner's heartbeat may stand still, as seen by a process that could have seen it move."""

_BEATS = sqlalchemy.text(
    "INSERT INTO trial_heartbeats (trial_id, heartbeat) "
    "SELECT t.trial_id, CURRENT_TIMESTAMP FROM trials t "
    "JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'owner' "
    "WHERE t.state = 'RUNNING' AND a.value_json = :owner "
    "ON CONFLICT (trial_id) DO UPDATE SET heartbeat = excluded.heartbeat"
)
_LOOKS = sqlalchemy.text(
    "SELECT t.trial_id, a.value_json, h.heartbeat FROM trials t "
    "JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'owner' "
    "LEFT JOIN trial_heartbeats h ON h.trial_id = t.trial_id "
    "JOIN studies s ON s.study_id = t.study_id AND substr(s.study_name, 1, :length) = :prefix "
    "WHERE t.state = 'RUNNING'"
)


class Heartbeat:
    """The heartbeat of one owner, and what it sees of the others': a trial is its owner's as long as that one beats.

    An owner of a trial of that study has expired when its heartbeat has stood still for `GRACE` seconds in which this
    process looked every few seconds. So no two clocks are compared, a database that was away makes nobody look dead
    (nobody was looking), and a process that was suspended itself begins its watch anew.

    Used as a context: the thread in it beats and looks, every `BEAT` seconds. It outlives any failure of the database.
    """

    def __init__(self, engine: Engine, *, owner: str, study: str) -> None:
        self.engine = engine
        self.prefix = f"{study}/"
        self.owner = owner
        self._seen: dict[tuple[int, str], tuple[Any, float]] = {}
        self._looked = -float("inf")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=1.0)
        self.engine.dispose()

    def has_expired(self, trial_id: int, owner: str) -> bool:
        """Whether that owner of a running trial must be taken for dead."""
        seen = self._seen.get((trial_id, owner))
        return seen is not None and self._looked - seen[1] > GRACE

    def look(self) -> None:
        """Beat for the trials of this owner, and note whose heartbeat stands still. Raises `SQLAlchemyError`."""
        begun = time.monotonic()
        with self.engine.begin() as connection:
            connection.execute(_BEATS, {"owner": json.dumps(self.owner)})
            running = connection.execute(_LOOKS, {"prefix": self.prefix, "length": len(self.prefix)}).all()
        now = time.monotonic()
        was_blind = now - self._looked > 2 * BEAT
        seen = {}
        for trial_id, text, beat in running:
            owner = json.loads(text)
            if not isinstance(owner, str):
                continue
            place = (trial_id, owner)
            before = self._seen.get(place)
            seen[place] = before if before is not None and before[0] == beat and not was_blind else (beat, now)
        self._seen, self._looked = seen, begun

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except SQLAlchemyError:
                pass  # away: whoever trains waits for it too, and says so
            except Exception:  # whatever somebody may have stored: a heart must not stop of it
                traceback.print_exc()
            if self._stopped.wait(BEAT):
                return
