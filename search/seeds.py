"""Random streams: which seed each has, and all the global ones at once."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch


def derive_seed(*parts: Any) -> int:
    """A seed of 31 bits from whatever tells one random stream from another."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest()) % 2**31


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global random streams (torch's, numpy's, Python's) from this seed on, and as they were afterwards.

    Code of the user's own may draw from any of them.
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
