"""Any number of workers, on both databases, finish exactly the budget."""

import pytest

from tests.faults.crew import Crew, check
from tests.faults.worker import Work


@pytest.fixture
def work(tmp_path, database):
    (tmp_path / "out").mkdir()
    return Work(out=str(tmp_path / "out"), storage=database, log=str(tmp_path / "log"))


@pytest.fixture
def crew_of():
    crews = []

    def start(works):
        crews.append(Crew(works))
        return crews[-1]

    yield start
    for crew in crews:
        crew.end()


@pytest.mark.parametrize(
    "workers",
    [
        1,
        4,
        pytest.param(2, marks=pytest.mark.soak),
        pytest.param(8, marks=pytest.mark.soak),
        pytest.param(16, marks=pytest.mark.soak),
    ],
)
def test_workers_that_begin_on_an_empty_database_finish_exactly_the_budget(work, crew_of, workers):
    crew = crew_of([work] * workers)
    crew.finish(within=120)
    check(work, crew)
    assert not crew.codes, "one of them died"
