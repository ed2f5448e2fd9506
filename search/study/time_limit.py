"""The time limit of a run, and the budget that fits into it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from search.errors import SpecError, StudyError
from search.spec.study_spec import StudySpec
from search.spec.values import Size
from search.verdict.race import LEAST_REPEATS
from search.verdict.results import Results
from search.verdict.rows import Row
from search.verdict.time_plan import Budget, Work, fitting, seconds_of

SPARE_SHARE = 0.02
"""Share of the limit that is not planned for: estimates are rough."""
SPARE_SECONDS = 10.0
"""The same in seconds: the verdicts and the page take some."""
MOST_LATE_SHARE = 0.1
"""Share by which the least budget may exceed the limit."""
FEW_TRIALS = 3
"""Trials of a kind from which their own mean is used."""
FIRST_TRIALS = 4
"""Trials that are looked at before a limit is found too short."""
MANY_TRIALS = 12
"""Trials from which their mean is no rough guess: linear probes, the fastest, come first."""
_TIME = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")

Key = tuple[int, bool, int]


def seconds_in(text: str) -> float:
    """Return the seconds in "2h", "90m", "3600s" or "1h30m". Raises `SpecError`."""
    match = _TIME.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in (match.groups() if match else "000"))
    total = 3600 * hours + 60 * minutes + seconds
    if total == 0:
        raise SpecError(f"--time-limit {text!r} is no time; allowed: hours, minutes or seconds, as 2h, 90m or 3600s.")
    return float(total)


def spelled(seconds: float) -> str:
    """Return a time as the option takes it, rounded up."""
    if seconds <= 120:
        return f"{max(1, round(seconds + 0.5))}s"
    minutes = round(seconds / 60 + 0.5)
    return f"{minutes}m" if minutes <= 120 else f"{minutes // 60}h{minutes % 60}m"


class Pace:
    """Seconds that trials take, and how many run at once, as a run sees them.

    workers: trials that can run at once, as far as known.
    per_label: an epoch is a pass, so that seconds grow with the size.
    """

    def __init__(self, *, epochs: int, workers: int, per_label: bool) -> None:
        self.epochs, self.workers, self.per_label = epochs, float(workers), per_label
        self._before: set[Key] | None = None
        self._seen: dict[Key, tuple[float, int]] = {}  # when a running trial was seen first, and its epochs then
        self._rows: Sequence[Row] = ()
        self._now = 0.0
        self._since: float | None = None

    def update(self, rows: Sequence[Row], now: float) -> None:
        """Look at all trials of the study."""
        if self._before is None:
            self._before = {_key(row) for row in rows if row.is_finished}
        running = [row for row in rows if row.state == "RUNNING"]
        for row in running:
            self._seen.setdefault(_key(row), (now, len(row.curve)))
        self.workers = max(self.workers, len(running))
        self._rows, self._now = rows, now
        if self._since is None and (running or self._new):
            self._since = now

    @property
    def _new(self) -> list[Row]:
        return [row for row in self._rows if row.is_finished and _key(row) not in (self._before or ())]

    def _times(self) -> list[tuple[Row, float]]:
        times = [(row, row.seconds) for row in self._rows if row.is_finished and row.seconds]
        return times + [(row, ran / share) for row, ran, share in self._running().values() if share > 0]

    @property
    def slowest(self) -> float:
        """The slowest trial's seconds over the mean."""
        times = [each for _, each in self._times()]
        return max(times) / mean(times)

    @property
    def known(self) -> int:
        """The number of trials that have ended, or run an epoch."""
        return len(self._times())

    def _running(self) -> Mapping[Key, tuple[Row, float, float]]:
        """Return running trials with the seconds that they ran, and the share of their epochs."""
        found = {}
        for row in self._rows:
            if row.state == "RUNNING" and (first := self._seen.get(_key(row))) is not None:
                found[_key(row)] = row, self._now - first[0], (len(row.curve) - first[1]) / self.epochs
        return found

    def seconds(self, size: int, *, judged: bool) -> float | None:
        """Return the seconds of a trial; None while none has run an epoch.

        Before confirm trials have run, those take as long as the slower half of all: winners train more layers.
        """
        times = self._times()
        own = [each for row, each in times if row.size == size and row.judged is judged]
        if len(own) >= FEW_TRIALS:
            return mean(own)
        whole = [each for row, each in times if row.size == size and row.state == "COMPLETE"]
        scaled = [each * (size / row.size if self.per_label else 1.0) for row, each in times]
        some = sorted(whole if len(whole) >= FEW_TRIALS else scaled)
        return mean(some[len(some) // 2 if judged else 0 :]) if some else None

    @property
    def progress(self) -> float:
        """Seconds of training that running trials have behind them."""
        done = 0.0
        for row, ran, share in self._running().values():
            whole = self.seconds(row.size, judged=row.judged) or 0.0
            done += min(share * whole if share > 0 else ran, whole)
        return done

    @property
    def at_once(self) -> float:
        """Trials that run at once: seconds of training done, by those that passed."""
        done = sum(row.seconds or 0.0 for row in self._new) + self.progress
        passed = 0.0 if self._since is None else self._now - self._since
        one = max((self.seconds(row.size, judged=row.judged) or 0.0 for row in self._rows), default=0.0)
        if passed == 0.0 or done == 0.0:
            return self.workers
        return (done + self.workers * one) / (passed + one)  # as if each worker had run one trial before


def _key(row: Row) -> Key:
    return row.size, row.judged, row.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The option of a run: seconds, the clock's time when it began, and its text."""

    seconds: float
    began: float
    text: str

    @classmethod
    def of(cls, text: str, *, began: float) -> "Limit":
        """Return the limit that an option spells. Raises `SpecError`."""
        return cls(seconds=seconds_in(text), began=began, text=text)


class TimeLimit:
    """A budget that stops exploring so early that the race fits.

    sizes: of this run. workers: trials that can run at once, if that is known.
    """

    def __init__(self, limit: Limit, spec: StudySpec, sizes: Sequence[Size], *, workers: int | None) -> None:
        self.limit, self.sizes = limit, sizes
        self.pace = Pace(epochs=spec.train.epochs, workers=workers or 1, per_label=spec.train.steps is None)
        self._is_possible = False
        self._races = False
        self._error: StudyError | None = None

    def check(self) -> None:
        """Raise `StudyError` where the limit is too short for a verdict at each size."""
        if self._error is not None:
            raise self._error

    def plan(self, results: Results, spec: StudySpec, now: float) -> Budget | None:
        """Return the budget that fits, if it is another than so far.

        results: with the budget so far. spec: with the study's whole budget.
        """
        self.pace.update(results.rows, now)
        sizes = [results.size(size) for size in self.sizes]
        work = self._work(results, sizes, repeats=spec.confirm.repeats)
        if work is None or results.is_finished(self.sizes):
            return None
        self._races |= any(row.judged and row.state == "RUNNING" for row in results.rows)
        whole = spec.search.trials, spec.confirm.repeats
        # Once the race has begun, no more is explored: its candidates would change.
        most = results.spec.search.trials if self._races else whole[0], whole[1]
        least = min(most[0], max(len(results.baselines), 1)), min(most[1], LEAST_REPEATS)
        pace = {"workers": self.pace.at_once, "progress": self.pace.progress}
        passed, spare = now - self.limit.began, SPARE_SHARE * self.limit.seconds + SPARE_SECONDS
        # Careful the other way: no limit is refused that may do.
        fast = [replace(one, judge_seconds=min(one.judge_seconds, one.explore_seconds)) for one in work]
        self._check_least(passed + seconds_of(least, fast, **pace) + spare, results, least)
        found = fitting(work, seconds=self.limit.seconds - spare - passed, least=least, most=most, **pace)
        return None if found == (results.spec.search.trials, results.spec.confirm.repeats) else found

    def _check_least(self, needed: float, results: Results, least: Budget) -> None:
        begun = sum(row.state != "WAITING" and not row.judged for row in results.rows)
        knows = self.pace.known >= FIRST_TRIALS
        if knows and not self._is_possible and needed > (1 + MOST_LATE_SHARE) * self.limit.seconds:
            rough = self.pace.slowest if self.pace.known < MANY_TRIALS else 1.05
            self._error = StudyError(
                f"--time-limit {self.limit.text} is too short for a verdict at each size: that takes about "
                f"{spelled(rough * needed)} here. Nothing is lost; give at least that, fewer sizes, or more workers."
            )
        self._is_possible |= knows and (begun > least[0] or self._races)

    def _work(self, results: Results, sizes: Sequence[int], *, repeats: int) -> list[Work] | None:
        work, least = (
            [],
            min((len(results.explored(size)) for size in sizes if size not in results.unexplored), default=1),
        )
        whole = results.with_budget(results.spec.search.trials, repeats)
        # The race as it is, if nothing more is explored.
        so_far = results.with_budget(least, repeats) if least else whole
        for size in sizes:
            explore, judge = (self.pace.seconds(size, judged=judged) for judged in (False, True))
            if explore is None or judge is None:
                return None
            explored = results.explored(size)
            work.append(
                Work(
                    begun=sum(row.state != "WAITING" for row in explored),
                    ended=sum(row.is_finished for row in explored),
                    searched=size not in results.unexplored,
                    rounds=so_far.rounds(size),
                    fresh=whole.whole_rounds(size),
                    explore_seconds=explore,
                    judge_seconds=judge,
                )
            )
        return work


def completed(results: Results, sizes: Sequence[Size]) -> Results:
    """Return the results with the budget that has ended at all sizes."""
    numbers = [size for size in map(results.size, sizes) if size not in results.unexplored]
    least = min((len(results.explored(size)) for size in numbers), default=results.spec.search.trials)
    trials = max(results.spec.search.trials, least)
    for repeats in range(results.spec.confirm.repeats, 0, -1):
        if (found := results.with_budget(trials, repeats)).is_finished(sizes):
            return found
    return results


def left_out(results: Results, spec: StudySpec, limit: Limit, now: float) -> str:
    """Return a line on what a time limit left out of the spec's budgets."""
    took = f"{spelled(now - limit.began)} of {limit.text}"
    done, whole = results.spec, f"{spec.search.trials} exploring trials a size and {spec.confirm.repeats} repeats"
    if (done.search.trials, done.confirm.repeats) == (spec.search.trials, spec.confirm.repeats):
        return f"The time limit left nothing out: {whole} took {took}."
    return (
        f"The time limit left room for {done.search.trials} of {spec.search.trials} exploring trials a size, and "
        f"{done.confirm.repeats} of {spec.confirm.repeats} repeats, in {took}. To run the rest: the same command with "
        "more time, or without the limit."
    )
