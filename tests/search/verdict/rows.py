"""Rows of trials for the tests of verdicts."""

from search.verdict.rows import Row

GROUPS = 4


def row(number, strategy, value=1.0, **more):
    """Return a complete exploring trial at size 50, with these fields changed."""
    fields = {
        "state": "COMPLETE", "size": 50, "repeat": 0, "family": str(strategy.family(GROUPS)),
        "epochs": 1, "seconds": 1.0, "trainable_parameters": 1, "seed": 0, "curve": (), "baseline": False,
    }  # fmt: skip
    return Row(number=number, strategy=strategy, value=value, **{**fields, **more})
