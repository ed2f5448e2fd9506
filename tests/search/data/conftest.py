"""What the tests of images stand on."""

import pytest
from PIL import Image
from sklearn.datasets import load_sample_image


@pytest.fixture(scope="module")
def photo():
    """A real photograph, 640 x 427."""
    return Image.fromarray(load_sample_image("china.jpg"))
