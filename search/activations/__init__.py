"""Outputs of frozen layers, computed once and shared by trials, processes and later runs."""
