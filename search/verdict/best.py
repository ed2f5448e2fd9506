"""The strategy to take at a size, with where it came from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.errors import StudyError
from search.spec.study_spec import NAME, NAMES
from search.storage.location import OUT, StudyLocation
from search.verdict.judge import judge, judge_all
from search.verdict.load import load_results
from search.verdict.other_sizes import between
from search.verdict.rows import Results, Row
from strategies import FreezingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """A strategy with its status and provenance."""

    strategy: FreezingStrategy
    status: str
    provenance: dict[str, Any]


def best_strategy(
    study: str,
    *,
    size: int,
    storage: str | None = None,
    out: str | Path = OUT,
    unconfirmed: bool = False,
) -> FreezingStrategy:
    """The recommended strategy of a study at a size: the cheapest of the contenders that score as well as the leader.

    At a size that was not run it is told from those that were, up to three times the largest.
    `study` is its name (or its study file), looked up under `out`, or in the database `storage`.
    `unconfirmed=True` also takes the best trial of a search that no confirm trial has checked.
    Raises `StudyError` or `StorageError`. No code that the study's file names is imported.
    """
    location = StudyLocation.of(study_name(study), out=Path(out), storage=storage)
    return find_best(load_results(location), size, unconfirmed=unconfirmed).strategy


def study_name(study: str) -> str:
    """A study's name, from its name or its file. Raises `StudyError` for what can't be one."""
    name = Path(study).stem if study.endswith(".toml") else study
    if not NAME.fullmatch(name):
        raise StudyError(f"{study[:120]!r} can't name a study: {NAMES}.")
    return name


def find_best(results: Results, size: int, *, unconfirmed: bool = False) -> Best:
    """The recommended strategy at a size of these results. Raises `StudyError`."""
    name = results.location.name
    if size not in results.sizes:
        return _between(results, size)
    verdict = judge(results, size)
    if verdict is not None:
        chosen, measure = verdict.recommended, verdict.measure
        return Best(
            strategy=_with_budget(chosen.strategy, results),
            status=verdict.sentence,
            provenance={
                "study": name,
                "size": size,
                "family": chosen.family,
                "status": verdict.sentence,
                measure.attribute: measure.rounded(chosen.score),
                "interval_90": [measure.rounded(chosen.low), measure.rounded(chosen.high)],
                "p_best": round(chosen.p_best, 3),
                "seconds_to_train": round(chosen.seconds, 2),
                "repeats": chosen.repeats,
            }
            | _training(results),
        )
    complete = [row for row in results.explored(size) if row.state == "COMPLETE" and row.value is not None]
    if not unconfirmed or not complete:
        failed = bool(complete) and results.spec.confirm.repeats > 0 and results.is_finished([size])
        way = "all its candidates failed there, and the page says why" if failed else "run it to its end"
        raise StudyError(
            f"Study {name!r} is not confirmed at size {size}: {way}; or take what the search has so far "
            f"with {'--unconfirmed' if complete else 'more trials: none is complete yet'}."
        )
    found = _leader(complete, results)
    status = "unconfirmed: the best trial of the search, whose own score is too good to be true"
    return Best(
        strategy=_with_budget(found.strategy, results),
        status=status,
        provenance={"study": name, "size": size, "family": found.family, "status": status} | _training(results),
    )


def _between(results: Results, size: int) -> Best:
    found = between(results, judge_all(results), size)
    chosen, measure = found.candidate, results.measure
    status = (
        f"between sizes: {size} was not run; the strategy is what is recommended at {found.source}, "
        f"the score is told from {found.sizes[0]} and {found.sizes[1]}"
    )
    return Best(
        strategy=_with_budget(chosen.strategy, results),
        status=status,
        provenance={
            "study": results.location.name,
            "size": size,
            "family": chosen.family,
            "status": status,
            f"predicted_{measure.attribute}": measure.rounded(found.score),
            "predicted_interval_90": [measure.rounded(found.low), measure.rounded(found.high)],
            **{
                f"near_optimal_{name}": [end if isinstance(end, int) else float(f"{end:.3g}") for end in band]
                for name, band in found.bands.items()
            },
            "seconds_to_train": round(chosen.seconds, 2),
            "sizes": list(found.sizes),
        }
        | _training(results),
    )


def _leader(rows: list[Row], results: Results) -> Row:
    sign = 1.0 if results.spec.task.direction == "maximize" else -1.0
    return max(rows, key=lambda row: sign * (row.value or 0.0))


def _with_budget(strategy: FreezingStrategy, results: Results) -> FreezingStrategy:
    train = results.spec.train
    return replace(strategy, epochs=train.epochs, steps_per_epoch=train.steps)


def _training(results: Results) -> dict[str, Any]:
    # What a strategy's rates were found with: they mean little under another optimizer.
    train = results.spec.train
    return {
        "layer_groups": results.num_groups,
        **({"layer_group_names": list(results.groups)} if results.groups else {}),
        "optimizer": train.optimizer,
        "weight_decay": train.weight_decay,
        "batch_size": train.batch_size,
    }
