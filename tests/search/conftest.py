"""Fixtures that several modules of these tests share."""

import pytest

from search.spec.study_spec import StudySpec
from search.storage.location import StudyLocation


@pytest.fixture
def location(tmp_path):
    location = StudyLocation.of("tiny", out=tmp_path, storage=None)
    location.folder.mkdir()
    return location


@pytest.fixture
def spec(tiny):
    return StudySpec.from_file(tiny)
