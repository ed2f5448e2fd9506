"""The Optuna studies of a run: which trial comes next, and how interrupted trials resume."""
