"""What several modules of these tests stand on."""

import pytest

from search.spec.study_spec import StudySpec
from search.storage.location import Home


@pytest.fixture
def home(tmp_path):
    home = Home.of("tiny", out=tmp_path, storage=None)
    home.folder.mkdir()
    return home


@pytest.fixture
def spec(tiny):
    return StudySpec.from_file(tiny)
