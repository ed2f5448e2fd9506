"""The strategy to take at a size, and its provenance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.errors import StudyError
from search.spec.study_spec import NAME, NAMES
from search.spec.values import Size
from search.storage.location import OUT, StudyLocation
from search.verdict.judge import Candidate, judge_all, verdicts_at
from search.verdict.load import load_results
from search.verdict.other_sizes import estimate
from search.verdict.provenance import provenance
from search.verdict.results import Results
from search.verdict.rows import Row
from strategies import FreezingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """A strategy with its status and provenance."""

    strategy: FreezingStrategy
    status: str
    provenance: dict[str, Any]


def best_strategy(
    study: str, *, size: Size, storage: str | None = None, out: str | Path = OUT, unconfirmed: bool = False
) -> FreezingStrategy:
    """Return a study's recommended strategy at a size: the cheapest as good as the leader.

    At a size that was not run it is the one of the nearest size, up to three times the largest. No code that the
    study's file names is imported.

    study: its name, or its study file.
    size: labelled examples, or "all" that there are.
    storage: its database, a URL or "env:VARIABLE"; None for its own SQLite file under `out`.
    unconfirmed: take the best exploring trial where nothing is confirmed.

    Raises `StudyError` or `StorageError`.
    """
    location = StudyLocation.of(study_name(study), out=Path(out), storage=storage)
    return find_best(load_results(location), size, unconfirmed=unconfirmed).strategy


def study_name(study: str) -> str:
    """Return a study's name, from its name or file. Raises `StudyError` for an invalid one."""
    name = Path(study).stem if study.endswith(".toml") else study
    if not NAME.fullmatch(name):
        raise StudyError(f"{study[:120]!r} can't name a study: {NAMES}.")
    return name


def find_best(results: Results, wanted: Size | str, *, unconfirmed: bool = False) -> Best:
    """Return the recommended strategy at a size of these results. Raises `StudyError`."""
    if wanted != "all" and not (isinstance(wanted, int) and wanted > 0):
        raise StudyError(f'size = {wanted!r:.100} is not possible; allowed: a whole number from 1, or "all".')
    size = results.size(wanted)
    if size == 0:
        name = results.location.name
        raise StudyError(f'Study {name!r} does not know yet how many labels "all" is: run it, or give a number.')
    if not any(size in view.sizes for view in results.views):
        return _estimated(results, size)
    verdict = next(verdicts_at(results, size), None)
    if verdict is None:
        return _unconfirmed(results, size, allowed=unconfirmed)
    chosen, metric = verdict.recommended, verdict.metric
    scores = {
        metric.attribute: metric.rounded(chosen.score),
        "interval_90": [metric.rounded(chosen.low), metric.rounded(chosen.high)],
        "p_within_margin": round(chosen.p_within_margin, 3),
        "expected_loss": metric.rounded(chosen.expected_loss),
        "p_best": round(chosen.p_best, 3),
        **_costs(chosen),
        "repeats": chosen.repeats,
        "failed_to_train": chosen.failed_to_train,
        **({"drawn_from": verdict.labels} if verdict.labels else {}),
    }
    rows = results.view(verdict.extension).confirmed(size)
    return _best(results, size, chosen.strategy, rows, family=chosen.family, status=verdict.sentence, facts=scores)


def _unconfirmed(results: Results, size: int, *, allowed: bool) -> Best:
    complete = [row for row in results.explored(size) if row.final_value is not None]
    if not allowed or not complete:
        failed = bool(complete) and results.spec.confirm.repeats > 0 and results.is_finished([size])
        way = "all its candidates failed there, and the page says why" if failed else "run it to its end"
        raise StudyError(
            f"Study {results.location.name!r} is not confirmed at size {size}: {way}; or take what the search has so "
            f"far with {'--unconfirmed' if complete else 'more trials: none is complete yet'}."
        )
    choose = max if results.metric.higher_is_better else min
    found = choose(complete, key=lambda row: row.final_value or 0.0)
    status = "unconfirmed: the best exploring trial, whose own score is too high (winner's curse)"
    return _best(results, size, found.strategy, complete, family=found.family, status=status, facts={})


def _estimated(results: Results, size: int) -> Best:
    verdicts, metric = judge_all(results), results.metric
    found = estimate(results, verdicts, size=size)
    chosen = found.candidate
    status = (
        f"between sizes: {size} was not run; the strategy is the recommended one at {found.source}, "
        f"the score is estimated from {found.sizes[0]} and {found.sizes[1]}"
    )
    scores = {
        f"predicted_{metric.attribute}": metric.rounded(found.score),
        "predicted_interval_90": [metric.rounded(found.low), metric.rounded(found.high)],
        **{
            f"near_optimal_{name}": [end if isinstance(end, int) else float(f"{end:.3g}") for end in band]
            for name, band in found.bands.items()
        },
        **_costs(chosen),
        "sizes": list(found.sizes),
    }
    rows = [row for other in found.sizes for row in results.view(verdicts[other].extension).confirmed(other)]
    return _best(results, size, chosen.strategy, rows, family=chosen.family, status=status, facts=scores)


def _costs(candidate: Candidate) -> dict[str, float]:
    counted = {} if candidate.gflops is None else {"gflops_to_train": float(f"{candidate.gflops:.4g}")}
    return {**counted, "seconds_to_train": round(candidate.seconds, 2)}


def _best(
    results: Results,
    size: int,
    strategy: FreezingStrategy,
    rows: Sequence[Row],
    *,
    family: str,
    status: str,
    facts: dict[str, Any],
) -> Best:
    # With what its rates were found with: they mean little under another optimizer.
    train = results.spec.train
    return Best(
        strategy=replace(strategy, epochs=train.epochs, steps_per_epoch=train.steps),
        status=status,
        provenance={
            "study": results.location.name,
            "size": size,
            "family": family,
            "status": status,
            **facts,
            **provenance(results, rows),
            "layer_groups": results.num_groups,
            **({"layer_group_names": list(results.groups)} if results.groups else {}),
            "optimizer": train.optimizer,
            "weight_decay": train.weight_decay,
            "batch_size": train.batch_size,
        },
    )
