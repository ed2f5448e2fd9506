"""A real photograph for the tests of images."""

import pytest
from PIL import Image
from sklearn.datasets import load_sample_image


@pytest.fixture(scope="module")
def photo():
    """Return a real photograph, 640 x 427."""
    return Image.fromarray(load_sample_image("china.jpg"))
