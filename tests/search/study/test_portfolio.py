"""The stored portfolio, for networks and spaces of any kind."""

import pytest

from search.spec.study_spec import StudySpec
from search.study.portfolio import portfolio
from search.study.space import baselines

SPEC = StudySpec.from_dict(
    {"task": {"data": "digits", "sizes": [50]}, "model": {"backbone": "small_cnn", "weights": "none"}}, where="test"
)


@pytest.mark.parametrize("num_groups", [1, 4, 19, 60])
@pytest.mark.parametrize("epochs", [1, 8, 50])
def test_portfolio_fits_any_network_and_epochs(num_groups, epochs):
    spec = SPEC.changed(train={"epochs": epochs})
    found = portfolio(spec, num_groups=num_groups)
    assert len({*found}) == len(found)
    assert not {*found} & {*baselines(spec, num_groups=num_groups)}
    for one in found:
        assert one == one.canonical(num_groups, epochs)
        assert one.unfreeze_epoch < epochs
        assert one.freeze_depth < num_groups, "none of it is a linear probe"


def test_portfolio_has_the_studys_rates():
    """They move to the nearest that the space allows; what the space excludes is left out."""
    narrow = SPEC.changed(space={"head_lr": {"low": 1e-3, "high": 2e-3}, "epochs_per_group": 0})
    found = portfolio(narrow, num_groups=4)
    assert found
    assert all(1e-3 <= one.head_lr <= 2e-3 and one.epochs_per_group == 0 for one in found)
    assert len(found) < len(portfolio(SPEC, num_groups=4))
