"""A study whose scores the user's own module logs."""

from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation
from search.verdict.results import Results
from search.verdict.rows import Row
from strategies import FreezingStrategy

SPEC = {
    "task": {"data": "labels:Data", "sizes": [50]},
    "model": {"backbone": "labels:Net", "weights": "none"},
    "search": {"trials": 2},
    "confirm": {"repeats": 5},
}


def own_results(losses, *, out, test_se=None):
    """Return a study at 50 labels, from losses (repeats, strategies) on the test set."""
    strategies = FreezingStrategy(freeze_depth=4), FreezingStrategy(freeze_depth=0)
    common = {
        "state": "COMPLETE", "size": 50, "epochs": 1, "seconds": 1.0, "trainable_parameters": 1, "seed": 0,
        "baseline": False,
    }  # fmt: skip
    rows = [
        Row(
            number=number,
            strategy=strategy,
            family=str(strategy.family(4)),
            repeat=0,
            value=0.5,
            curve=((0, 0.5),),
            **common,
        )
        for number, strategy in enumerate(strategies)
    ]
    for repeat, pair in enumerate(losses, start=1):
        rows += [
            Row(
                number=2 * repeat + number, strategy=strategy, family=str(strategy.family(4)), repeat=repeat,
                value=loss, curve=((0, loss),), judged=True, source_trial=number, scores={"test_loss": loss},
                test_examples=100, test_se=test_se, **common,
            )
            for number, (strategy, loss) in enumerate(zip(strategies, pair, strict=True))
        ]  # fmt: skip
    spec, location = StudySpec.from_dict(SPEC, where="test"), StudyLocation.of("labels", out=out, storage=None)
    return Results(
        location=location, spec=spec, num_groups=4, rows=tuple(rows), kind="regression", own_metric=True, labels=300
    )
