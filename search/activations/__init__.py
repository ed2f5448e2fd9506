"""What frozen layers make of the examples, computed once: by key, in memory and in files that all processes share."""

from search.activations.store import ActivationStore, Budget, NotFinite, halved

__all__ = ["ActivationStore", "Budget", "NotFinite", "halved"]
