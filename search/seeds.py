"""Seeds of random streams, and a seed for all global generators at once."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch


def derive_seed(*parts: Any) -> int:
    """Derive a seed of 31 bits from the parts that identify a random stream."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest()) % 2**31


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's, numpy's and Python's global generators in a block, and restore them afterwards.

    A user's own code may draw from any of them.
    """
    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
