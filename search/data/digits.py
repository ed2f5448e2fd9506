"""scikit-learn's digits: a task of ten classes, and a source task of five."""

import torch

from search.data.examples import Examples, RawData


def digits(_: str) -> RawData:
    """Read 8x8 digits of ten classes: 847 to draw from, 500 to test on."""
    _source, pool, test = _parts()
    return RawData(pool=pool, test=test, classes=tuple("0123456789"))


def digits_source(_: str) -> RawData:
    """Read 450 other images of the digits 0-4; the test set is empty."""
    source, _pool, _test = _parts()
    return RawData(pool=source, test=source.subset(torch.arange(0)), classes=tuple("01234"))


def _parts() -> list[Examples]:
    # Three disjoint parts of one fixed shuffle: the source must not leak into the target. Its 450 images halve
    # what is left of the classes 0-4; pool and test share the rest in equal proportions.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    inputs = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    targets = torch.tensor(bunch.target, dtype=torch.int64)
    few = torch.nonzero(targets < 5).squeeze(1)
    many = torch.nonzero(targets >= 5).squeeze(1)
    source, rest = train_test_split(few, train_size=450, stratify=targets[few], random_state=0)
    rest = torch.cat([rest, many])
    test, pool = train_test_split(rest, train_size=500, stratify=targets[rest], random_state=0)
    return [Examples(inputs[part], targets[part]) for part in (source, pool, test)]
