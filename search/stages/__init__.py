"""A backbone cut between its layer groups: what frozen groups make of an example, and going on from there."""

from search.stages.cuts import Cuts, Resumed, Stages, Values

__all__ = ["Cuts", "Resumed", "Stages", "Values"]
