"""Images as a task's inputs: the squares that a network takes, plain, augmented or turned."""

import numpy as np
import pytest
import torch
from torchvision import transforms

from search.data.decoding import Pixels
from search.data.examples import Examples, TaskData
from search.data.images import ImageFormat, Images, rotations
from search.errors import TaskError
from tests.search.data.pictures import RGB, examples, prepare_one


@pytest.mark.parametrize("size", [(640, 427), (300, 427), (61, 64), (64, 130)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_picture_is_what_torchvision_makes_of_it(photo, size, interpolation):
    image = photo.crop((0, 0, *size))
    mode = transforms.InterpolationMode(interpolation)
    theirs = transforms.Compose(
        [
            transforms.Resize(64, interpolation=mode),
            transforms.CenterCrop(56),
            transforms.ToTensor(),
            transforms.Normalize(RGB.mean, RGB.std),
        ]
    )
    format = ImageFormat(size=56, resize=64, mean=RGB.mean, std=RGB.std, interpolation=interpolation)
    raw = Examples(Images.of(Pixels(np.asarray(image)[None], "photo")), torch.zeros(1).long())
    ours, notes = prepare_one(raw, format)
    assert notes == []
    torch.testing.assert_close(ours[0][0], theirs(image))


def test_a_view_is_a_function_of_seed_example_and_number():
    ready, _ = prepare_one(examples(), RGB, augment=("crop", "flip"), seed=7)
    views = [(index, view) for index in range(12) for view in (0, 1, 5)]
    whole = ready.__getitems__(views)[0]
    assert whole.shape == (36, 3, 56, 56)
    assert whole.dtype == torch.float32
    part = ready.subset(torch.tensor([3, 9, 11])).subset(torch.tensor([2, 0]))
    assert torch.equal(part.__getitems__([(0, 5), (1, 1)])[0], whole[[views.index((11, 5)), views.index((3, 1))]])
    assert len({tuple(one.flatten().tolist()) for one in whole}) == 36, "two views are the same"
    other, _ = prepare_one(examples(), RGB, augment=("crop", "flip"), seed=8)
    assert not torch.equal(other.__getitems__(views)[0], whole)


def test_without_a_view_or_augmentation_the_centre_is_taken():
    plain, _ = prepare_one(examples(), RGB)
    ready, _ = prepare_one(examples(), RGB, augment=("crop", "flip"))
    pairs = [(index, 3) for index in range(12)]
    expected = plain.__getitems__(list(range(12)))[0]
    assert torch.equal(plain.__getitems__(pairs)[0], expected)
    assert torch.equal(ready.__getitems__(list(range(12)))[0], expected)
    assert not torch.equal(ready.__getitems__(pairs)[0], expected)
    shown = ready.inputs.pixels_of(torch.arange(12)) / 255
    mean, std = (torch.tensor(value)[:, None, None] for value in (RGB.mean, RGB.std))
    torch.testing.assert_close((shown - mean) / std, expected)


def test_flips_exchange_sides_and_crops_keep_half():
    ready, _ = prepare_one(examples(), RGB, augment=("flip",))
    plain = ready.__getitems__([0])[0][0]
    seen = ready.__getitems__([(0, view) for view in range(40)])[0]
    flipped = [torch.equal(one, plain.flip(-1)) for one in seen]
    assert all(torch.equal(one, plain) for one, turned in zip(seen, flipped, strict=True) if not turned)
    assert 10 <= sum(flipped) <= 30
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 3))[None]  # each column's own number
    one = Examples(Images.of(Pixels(ramp, "ramp")), torch.zeros(1).long())
    crops, _ = prepare_one(one, RGB, augment=("crop",))
    rows = torch.stack([crops.inputs.take(torch.tensor([0]), torch.tensor([view]))[0] for view in range(60)])
    pixels = rows[:, 0, 0] * RGB.std[0] * 255 + RGB.mean[0] * 255
    widths = (pixels[:, -1] - pixels[:, 0] + 1) / 64
    assert 0.55 <= widths.min() < widths.max() <= 1, "sqrt(.5 * 3/4) is .61 of the side"


def test_rotations_are_four_of_each_image_without_labels():
    raw = examples(6)
    data = TaskData(pool=raw, test=raw.subset(torch.arange(2)), classes=("a", "b"))
    turned = rotations(data)
    assert turned.outputs == 4
    assert turned.pool.targets.tolist() == [0, 1, 2, 3] * 6
    assert len(turned.test) == 8
    plain = prepare_one(raw, RGB)[0].__getitems__(list(range(6)))[0]
    ready = prepare_one(turned.pool, RGB)[0]
    assert len(ready.inputs.pixels) == 6, "each image is decoded once"
    for number in range(24):
        upright = plain[number // 4]
        assert torch.equal(ready[number][0], upright.rot90(number % 4, (-2, -1)))
    shuffled = TaskData(pool=Examples(raw.inputs, 1 - raw.targets), test=data.test, classes=("a", "b"))
    assert torch.equal(rotations(shuffled).pool.targets, turned.pool.targets)


def test_rotations_of_tensors_are_the_same():
    pixels = torch.rand(3, 1, 8, 8)
    part = Examples(pixels, torch.zeros(3).long())
    turned = rotations(TaskData(pool=part, test=part, classes=("a", "b"))).pool
    assert torch.equal(turned.inputs[5], pixels[1].rot90(1, (-2, -1)))
    flat = Examples(torch.rand(3, 4), torch.zeros(3).long())
    with pytest.raises(TaskError, match="rotations need images"):
        rotations(TaskData(pool=flat, test=flat, classes=("a", "b")))


def test_images_as_they_are_keep_size_and_channels(photo):
    grey = Images.of(Pixels(np.zeros((2, 28, 30), dtype=np.uint8), "grey"))
    assert (grey.as_they_are().channels, grey.as_they_are().size) == (1, 28)
    assert Images.of(Pixels(np.asarray(photo)[None], "photo")).as_they_are().channels == 3


def test_other_inputs_than_images_are_refused():
    with pytest.raises(TaskError, match="the network takes images"):
        prepare_one(Examples(torch.zeros(2, 3), torch.zeros(2).long()), RGB)


@pytest.mark.parametrize(
    "values", [{"size": 65}, {"size": 0}, {"mean": (0.5,)}, {"std": (1, 1, 0)}, {"interpolation": "area"}]
)
def test_impossible_formats_are_refused(values):
    fields = {"size": 56, "resize": 64, "mean": (0, 0, 0), "std": (1, 1, 1)} | values
    with pytest.raises(
        ValueError,
        match=f"`{'size' if 'size' in values else 'interpolation' if 'interpolation' in values else 'mean'}`",
    ):
        ImageFormat(**fields)
