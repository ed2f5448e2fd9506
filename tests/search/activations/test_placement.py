from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.activations.placement import (
    DISK_BYTES_PER_SECOND,
    FLOPS_PER_SECOND,
    MEMORY_BYTES_PER_SECOND,
    MIN_SHARE_SPARED,
    BoundaryCost,
    choose_boundaries,
)

# ResNet-50 at 224 px in float16: after the stem and each of the four stages, the last one pooled.
NBYTES = (401_408, 1_605_632, 802_816, 401_408, 4_096)
GFLOP = (0.24, 1.60, 3.66, 6.60, 8.18)
RESNET50 = [
    BoundaryCost(index=index, nbytes=nbytes, flops=gflop * 1e9)
    for index, (nbytes, gflop) in enumerate(zip(NBYTES, GFLOP, strict=True), start=1)
]


@pytest.mark.parametrize(
    ("gigabytes", "kept"),
    [(0.01, ()), (0.1, (5,)), (4, (4, 5)), (10, (3, 4, 5)), (100, (2, 3, 4, 5))],
)
def test_a_resnet50_keeps_late_boundaries_and_never_the_stem(gigabytes, kept):
    for in_memory in (0, int(1e9), int(1e11)):
        assert choose_boundaries(RESNET50, examples=5000, room=int(gigabytes * 1e9), in_memory=in_memory) == kept


def test_cheap_boundaries_are_kept_where_reading_is_fast():
    cheap = BoundaryCost(index=1, nbytes=10_000, flops=1e6)  # 10 us to compute, 2 from memory, 29 from a file
    boundaries = [cheap, BoundaryCost(index=2, nbytes=40, flops=2e6)]
    assert choose_boundaries(boundaries, examples=100, room=10**7, in_memory=0) == (2,)
    assert choose_boundaries(boundaries, examples=100, room=10**7, in_memory=10**7) == (1, 2)


def test_features_are_kept_whatever_they_spare():
    late = BoundaryCost(index=1, nbytes=1000, flops=1e9)
    assert choose_boundaries(
        [late, BoundaryCost(index=2, nbytes=1000, flops=1.01e9)], examples=1, room=2000, in_memory=0
    ) == (
        1,
        2,
    )


@st.composite
def repeats(draw: st.DrawFn) -> list[BoundaryCost]:
    groups = draw(st.integers(1, 6))
    flops = 0.0
    repeat = []
    for index in range(1, groups + 1):
        flops += draw(st.integers(1, 100)) * 1e7
        if index == groups or draw(st.booleans()):
            repeat.append(BoundaryCost(index=index, nbytes=draw(st.integers(1, 400)) * 1000, flops=flops))
    return repeat


def spared(kept: tuple[BoundaryCost, ...], groups: int, rate: float) -> float:
    """Seconds over all depths, where a run reads the last boundary kept."""
    total = 0.0
    for depth in range(1, groups + 1):
        for one in [one for one in kept if one.index <= depth][-1:]:
            total += seconds(one, rate)
    return total


def seconds(one: BoundaryCost, rate: float) -> float:
    return one.flops / FLOPS_PER_SECOND - one.nbytes / rate


def sound(kept: tuple[BoundaryCost, ...], features: BoundaryCost, rate: float) -> bool:
    """Return whether each but the features spares enough over the one before."""
    before = [0.0, *(seconds(one, rate) for one in kept)]
    least = MIN_SHARE_SPARED * features.flops / FLOPS_PER_SECOND
    pairs = zip(kept, before, strict=False)
    return all(one is features or seconds(one, rate) >= previous + least for one, previous in pairs)


@given(repeats(), st.integers(0, 2_000_000), st.booleans())
def test_the_greedy_choice_is_at_most_a_tenth_below_the_best(repeat, room, in_memory):
    rate = MEMORY_BYTES_PER_SECOND if in_memory else DISK_BYTES_PER_SECOND
    features, groups = repeat[-1], repeat[-1].index
    chosen = choose_boundaries(repeat, examples=10, room=room, in_memory=room if in_memory else 0)
    kept = tuple(one for one in repeat if one.index in chosen)
    assert tuple(one.index for one in kept) == chosen
    assert sum(one.nbytes for one in kept) * 10 <= room
    assert sound(kept, features, rate)
    features_fit = features.nbytes * 10 <= room
    assert (features in kept) == features_fit
    possible = [
        some
        for count in range(len(repeat) + 1)
        for some in combinations(repeat, count)
        if sum(one.nbytes for one in some) * 10 <= room
        and sound(some, features, rate)
        and (features in some) == features_fit
    ]
    best = max(spared(some, groups, rate) for some in possible)
    assert spared(kept, groups, rate) >= 0.9 * best - 1e-12
