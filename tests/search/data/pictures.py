"""Formats of images, and random pixels for them."""

import numpy as np
import torch

from search.data.decoding import Pixels
from search.data.examples import Examples
from search.data.images import ImageFormat, Images
from search.data.preparation import prepare

RGB = ImageFormat(size=56, resize=64, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
GREY = ImageFormat(size=28, resize=28, mean=(0.5,), std=(0.5,))


def examples(count=12, size=(40, 30)):
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return Examples(Images.of(Pixels(pixels, "pixels")), torch.arange(count) % 2)


def prepare_one(pool, format, **options):
    """Prepare a pool without a test set."""
    (ready,), notes = prepare([pool], format, **options)
    return ready, notes
