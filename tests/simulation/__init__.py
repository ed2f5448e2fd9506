"""Simulated studies with known truth: closed-form learners, trained on drawn examples of a Gaussian-mixture world.

    python -m tests.simulation power       false winners, and how often a true lead is found, beside the first edition
    python -m tests.simulation collapse    the leader's interval where 8 % of runs fail to train
    python -m tests.simulation raced       candidates that stop early, by labels that were not drawn
    python -m tests.simulation coverage    intervals, verdicts and scores against the truth, for few labels and many
    python -m tests.simulation ways        a held-out fifth beside cross-validation, by the labels in all
    python -m tests.simulation explored    by how much cross-validation favours what was explored on its labels

Draws that share examples are correlated as in a real study, because learners are trained on them. The first two take
scores with the spreads of real tasks instead (`spreads`). Each prints a table in minutes on one core.
"""
