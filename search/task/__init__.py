"""Data, network and weights of a study, checked against each other."""
