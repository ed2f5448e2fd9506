"""The Optuna studies behind a run: which trial comes next, and where an interrupted one resumes."""
