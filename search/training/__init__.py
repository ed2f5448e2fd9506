"""One Lightning run of one strategy, from its network to its test scores."""
