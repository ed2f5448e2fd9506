"""Simulated studies with known truth: closed-form learners, trained on drawn examples of a Gaussian-mixture world.

    python -m tests.simulation coverage    intervals, verdicts and scores against the truth, for few labels and many
    python -m tests.simulation ways        a held-out fifth beside cross-validation, by the labels in all
    python -m tests.simulation explored    by how much cross-validation favours what was explored on its labels

Draws that share examples are correlated as in a real study, because learners are trained on them. Each prints a table
in minutes on one core.
"""
