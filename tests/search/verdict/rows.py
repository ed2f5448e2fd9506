"""Rows of trials and candidates for the tests of verdicts."""

from search.verdict.judge import Candidate
from search.verdict.rows import Row
from strategies import FreezingStrategy

GROUPS = 4


def row(number, strategy, value=1.0, **more):
    """Return a complete exploring trial at size 50, with these fields changed."""
    fields = {
        "state": "COMPLETE", "size": 50, "repeat": 0, "family": str(strategy.family(GROUPS)), "epochs": 1,
        "seconds": 1.0, "trainable_parameters": 1, "seed": 0, "curve": (), "baseline": False,
    }  # fmt: skip
    return Row(number=number, strategy=strategy, value=value, **{**fields, **more})


def candidate(family, score, **more):
    """Return a contender of that family after five repeats, with these fields changed."""
    fields = {
        "strategy": FreezingStrategy(freeze_depth=0), "baseline": False, "low": 0.9 * score, "high": 1.05 * score,
        "p_best": 0.5, "seconds": 1.0, "p_within_margin": 0.9, "expected_loss": 0.01, "mean": score, "contends": True,
        "is_near": True, "repeats": 5,
    }  # fmt: skip
    return Candidate(family=family, score=score, **{**fields, **more})
