"""Processes that run a study's trials, on this machine or on a Ray cluster."""
