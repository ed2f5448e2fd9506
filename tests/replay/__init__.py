"""The replay table: every strategy of a grid, trained once, to replay searches and verdicts with the truth known.

    python -m tests.replay fill        train what is not trained yet, and pack it into tests/replay/tables
    python -m tests.replay summary     which family wins where, and which of the literature's directions show
    python -m tests.replay pruners     PhasePruner against Optuna's own
    python -m tests.replay samplers    which sampler reaches a good strategy soonest, at equal seconds
    python -m tests.replay stops       the epoch of the lowest validation loss, the last, and a chosen stop epoch
    python -m tests.replay values      the value that a trial reports, by the pick of a short search
    python -m tests.replay schedulers  a cosine scheduler against a constant one, by runs of its own
    python -m tests.replay arena       whole designs of a study against each other: what they choose, and their cost
    python -m tests.replay portfolio   the product's portfolio, made from all tables

Each prints a table; all but `fill` and `schedulers` take minutes at most.
"""
