"""Progress while a study runs, and the answer when it ends."""

import time
from collections.abc import Mapping
from textwrap import fill
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.report.sentences import advises, answers, more_labels
from search.spec.values import Size
from search.verdict.judge import Verdict, judge
from search.verdict.predictions import with_example_scores
from search.verdict.results import Results


class Progress:
    """A live table of the sizes; without a terminal, a line for each new verdict."""

    def __init__(self, console: Console, sizes: list[Size]) -> None:
        self.console = console
        self.sizes = sizes
        self.started = time.monotonic()
        self.done_before: int | None = None
        self.verdicts: dict[int, Verdict | None] = {}
        self._explored: set[int] = set()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
            self._live.update(Text("Loading the data and the model ..."), refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, at)

    def update(self, results: Results) -> None:
        """Show how far the study is; judge each size once, when it is confirmed."""
        for size in map(results.size, self.sizes):
            if size not in self._explored and results.is_explored(size):
                self._explored.add(size)
                self._line(f"{size} labels: {'nothing to explore' if size in results.unexplored else 'explored'}")
            if size not in self.verdicts and results.is_confirmed(size):
                self.verdicts[size] = verdict = judge(with_example_scores(results), size)
                if verdict is not None:
                    self._line(f"{size} labels: {verdict.sentence}")
        if self._live is not None:
            self._live.update(self._table(results), refresh=True)

    def _line(self, text: str) -> None:
        if self._live is None:
            self.console.print(f"{text}, {_clock(time.monotonic() - self.started)}", soft_wrap=True)

    def _table(self, results: Results) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), title=self._title(results), title_justify="left")
        for heading in ("labels", "explore", "", "confirm", ""):
            table.add_column(heading, justify="right" if heading == "labels" else "left")
        table.add_column("verdict", overflow="ellipsis", no_wrap=True)
        for wanted in self.sizes:
            size = results.size(wanted)
            explored, budget, confirmed, repeats = _counts(results, size)
            verdict = self.verdicts.get(size)
            table.add_row(
                str(size or wanted), ProgressBar(total=max(budget, 1), completed=explored, width=16),
                f"{explored}/{budget}",
                ProgressBar(total=max(repeats, 1), completed=confirmed, width=16),
                f"{confirmed}/{repeats}" if results.candidates(size) else "", verdict.sentence if verdict else "",
            )  # fmt: skip
        return table

    def _title(self, results: Results) -> str:
        counts = [_counts(results, size) for size in map(results.size, self.sizes)]
        done = sum(explored + confirmed for explored, _, confirmed, _ in counts)
        total = sum(budget + repeats for _, budget, _, repeats in counts)
        if self.done_before is None:
            self.done_before = done
        elapsed = time.monotonic() - self.started
        left = ""
        if done > self.done_before + 3:
            left = f", about {_clock(elapsed / (done - self.done_before) * (total - done))} left"
        return f"{results.location.name}: trial {done} of about {total}, {_clock(elapsed)}{left}"


def answer(results: Results, verdicts: Mapping[int, Verdict], *, width: int | None = None) -> str:
    """Return the answer in sentences, then the verdict at each size, wrapped to a width."""
    lines = [one.text for one in answers(results, verdicts)]
    lines += filter(None, [more_labels(results, verdicts)])
    for size, verdict in sorted(verdicts.items()):
        if not advises(verdict):  # its sentence is said above
            continue
        best, failed = verdict.recommended, f"; failed: {', '.join(verdict.failed)}" if verdict.failed else ""
        score = verdict.metric.interval(best.score, best.low, best.high)
        lines.append(f"  {size:>6}  {score}, {verdict.sentence}{failed}")
    if width is not None:
        lines = [fill(line, width, subsequent_indent=" " * 10, break_on_hyphens=False) for line in lines]
    return "\n".join(lines)


def _counts(results: Results, size: int) -> tuple[int, int, int, int]:
    explored = results.explored(size)
    return (
        sum(row.is_finished for row in explored),
        max(0 if size in results.unexplored else results.spec.search.trials, len(explored)),
        sum(row.is_finished for row in results.confirmed(size)),
        results.most_confirms(size),
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
