import errno
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision import transforms

from search.errors import TaskError
from search.tasks.decoding import Pixels, decode
from search.tasks.examples import Examples, TaskData
from search.tasks.folders import folder_data
from search.tasks.images import ImageFormat, Images, prepare, rotations

RGB = ImageFormat(size=56, resize=64, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
GREY = ImageFormat(size=28, resize=28, mean=(0.5,), std=(0.5,))


@pytest.fixture(scope="module")
def photo():
    """A real photograph, 640 x 427."""
    return Image.fromarray(load_sample_image("china.jpg"))


def examples(count=12, size=(40, 30)):
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return Examples(Images.of(Pixels(pixels, "pixels")), torch.arange(count) % 2)


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
    ours, notes = prepare(raw, format, where="data")
    assert notes == []
    torch.testing.assert_close(ours[0][0], theirs(image))


def as_mode(photo, mode):
    if mode == "I;16":
        return Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    if mode == "I":
        return Image.fromarray(np.asarray(photo.convert("L")).astype(np.int32) * 257)
    if mode == "F":
        return Image.fromarray(np.asarray(photo.convert("L")).astype(np.float32) / 255)
    return photo.convert(mode)


@pytest.mark.parametrize(
    ("mode", "ending", "tolerance"),
    [
        ("RGB", "png", 0), ("RGB", "jpg", 12), ("RGBA", "png", 0), ("CMYK", "jpg", 12), ("CMYK", "tif", 1),
        ("P", "png", 40), ("P", "gif", 40), ("YCbCr", "jpg", 12), ("L", "png", None), ("LA", "png", None),
        ("1", "png", None), ("I;16", "png", None), ("I", "tif", None), ("F", "tif", None),
    ],
)  # fmt: skip
def test_every_mode_comes_to_the_same_picture(photo, tmp_path, mode, ending, tolerance):
    file = tmp_path / f"image.{ending}"
    as_mode(photo, mode).save(file)
    grey = mode in ("L", "LA", "1", "I;16", "I", "F")
    reference = decode(
        photo.convert("L").convert("RGB") if grey else photo, channels=3, side=64, interpolation="bilinear"
    )
    with Image.open(file) as image:
        found = decode(image, channels=3, side=64, interpolation="bilinear")
    difference = np.abs(found.astype(int) - reference.astype(int))
    assert found.shape == (3, 64, 64)
    assert difference.mean() <= (2 if mode != "1" else 60) if tolerance is None else difference.mean() <= tolerance
    with Image.open(file) as image:
        assert decode(image, channels=1, side=64, interpolation="bilinear").shape == (1, 64, 64)


def test_transparent_parts_are_white(photo):
    clear = photo.convert("RGBA")
    clear.putalpha(0)
    assert (decode(clear, channels=3, side=64, interpolation="bilinear") == 255).all()
    palette = Image.new("P", (64, 64), 3)
    palette.info["transparency"] = 3
    assert (decode(palette, channels=1, side=64, interpolation="bilinear") == 255).all()


def test_a_turned_photograph_is_set_upright(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: show it turned by 90 degrees clockwise
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        found = decode(image, channels=3, side=64, interpolation="bilinear")
    assert np.array_equal(found, decode(photo, channels=3, side=64, interpolation="bilinear"))


def test_a_big_jpeg_read_at_a_smaller_scale_looks_the_same(photo, tmp_path):
    photo.resize((2560, 1708)).save(tmp_path / "big.jpg", quality=95)
    with Image.open(tmp_path / "big.jpg") as image:
        found = decode(image, channels=3, side=64, interpolation="bilinear")
    reference = decode(photo, channels=3, side=64, interpolation="bilinear")
    assert np.abs(found.astype(int) - reference.astype(int)).mean() < 4


def test_a_view_is_a_function_of_seed_example_and_number():
    ready, _ = prepare(examples(), RGB, augment=("crop", "flip"), seed=7, where="data")
    views = [(index, view) for index in range(12) for view in (0, 1, 5)]
    whole = ready.__getitems__(views)[0]
    assert whole.shape == (36, 3, 56, 56)
    assert whole.dtype == torch.float32
    part = ready.subset(torch.tensor([3, 9, 11])).subset(torch.tensor([2, 0]))
    assert torch.equal(part.__getitems__([(0, 5), (1, 1)])[0], whole[[views.index((11, 5)), views.index((3, 1))]])
    assert len({tuple(one.flatten().tolist()) for one in whole}) == 36, "two views are the same"
    other, _ = prepare(examples(), RGB, augment=("crop", "flip"), seed=8, where="data")
    assert not torch.equal(other.__getitems__(views)[0], whole)


def test_without_a_view_or_augmentation_the_centre_is_taken():
    plain, _ = prepare(examples(), RGB, where="data")
    ready, _ = prepare(examples(), RGB, augment=("crop", "flip"), where="data")
    pairs = [(index, 3) for index in range(12)]
    expected = plain.__getitems__(list(range(12)))[0]
    assert torch.equal(plain.__getitems__(pairs)[0], expected)
    assert torch.equal(ready.__getitems__(list(range(12)))[0], expected)
    assert not torch.equal(ready.__getitems__(pairs)[0], expected)
    shown = ready.inputs.pixels_of(torch.arange(12)) / 255
    mean, std = (torch.tensor(value)[:, None, None] for value in (RGB.mean, RGB.std))
    torch.testing.assert_close((shown - mean) / std, expected)


def test_a_flip_exchanges_left_and_right_and_a_crop_keeps_at_least_half():
    ready, _ = prepare(examples(), RGB, augment=("flip",), where="data")
    plain = ready.__getitems__([0])[0][0]
    seen = ready.__getitems__([(0, view) for view in range(40)])[0]
    flipped = [torch.equal(one, plain.flip(-1)) for one in seen]
    assert all(torch.equal(one, plain) for one, turned in zip(seen, flipped, strict=True) if not turned)
    assert 10 <= sum(flipped) <= 30
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 3))[None]  # each column's own number
    one = Examples(Images.of(Pixels(ramp, "ramp")), torch.zeros(1).long())
    crops, _ = prepare(one, RGB, augment=("crop",), where="data")
    rows = torch.stack([crops.inputs.take(torch.tensor([0]), torch.tensor([view]))[0] for view in range(60)])
    pixels = rows[:, 0, 0] * RGB.std[0] * 255 + RGB.mean[0] * 255
    widths = (pixels[:, -1] - pixels[:, 0] + 1) / 64
    assert 0.55 <= widths.min() < widths.max() <= 1, "sqrt(.5 * 3/4) is .61 of the side"


def test_decoding_is_kept_and_shared(tmp_path, monkeypatch):
    first, _ = prepare(examples(), RGB, cache=tmp_path, where="data")
    assert len(list(tmp_path.glob("images-*.npy"))) == 1
    monkeypatch.setattr("search.tasks.decoding.decode", None)
    second, notes = prepare(examples(), RGB, augment=("flip",), cache=tmp_path, where="data")
    assert notes == []
    assert isinstance(second.inputs.pixels, np.memmap)
    assert torch.equal(first.__getitems__([2, 5])[0], second.__getitems__([2, 5])[0])
    assert not list(tmp_path.glob("*.partial"))


def test_other_pixels_or_another_format_are_decoded_anew(tmp_path):
    prepare(examples(), RGB, cache=tmp_path, where="data")
    prepare(examples(size=(30, 40)), RGB, cache=tmp_path, where="data")
    prepare(examples(), GREY, cache=tmp_path, where="data")
    prepare(examples().subset(torch.arange(5)), RGB, cache=tmp_path, where="data")
    assert len(list(tmp_path.glob("images-*.npy"))) == 4


@pytest.fixture
def folder(photo, tmp_path):
    """200 small real images in two classes."""
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(100):
            tile = photo.crop((number * 4, 0, number * 4 + 60, 50))
            tile.save(tmp_path / "pets" / label / f"{number:03}.{'png' if number % 2 else 'jpg'}")
    return tmp_path / "pets"


def cut_short(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_few_unreadable_images_are_skipped_and_named_the_same_from_the_cache(folder, tmp_path):
    cut_short(folder / "cat" / "003.png")
    (folder / "dog" / "010.jpg").write_text("no image")
    for _ in range(2):
        data = folder_data(str(folder), where="data", test=0.0)
        ready, notes = prepare(data.pool, RGB, cache=tmp_path / "cache", where="data")
        assert len(ready) == 198
        assert ready.targets.bincount().tolist() == [99, 99]
        assert len(notes) == 1
        assert "2 of 200 images can't be read: pets/cat/003.png" in notes[0]
        assert "pets/dog/010.jpg" in notes[0]
        assert "\n" not in notes[0]
    # Images after a skipped one keep their own pixels and labels.
    last, label = ready.__getitems__([197])
    whole, _ = prepare(data.pool.subset(torch.tensor([199])), RGB, where="data")
    assert torch.equal(last, whole.__getitems__([0])[0])
    assert label.item() == 1


def test_a_full_disk_is_one_line_and_leaves_nothing(folder, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, content):
            if memoryview(content).nbytes > 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    data = folder_data(str(folder), where="data", test=0.0)
    ordinary = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", **rest: (Full if mode == "xb" else ordinary)(path, mode, **rest)
    )
    with pytest.raises(TaskError, match=r"^data: the decoded images can't be kept in .*: No space left on device.$"):
        prepare(data.pool, RGB, cache=tmp_path / "cache", where="data")
    assert not [file for file in (tmp_path / "cache").iterdir() if file.suffix != ".lock"]


def test_pixels_that_are_no_numbers_are_no_image(folder):
    pixels = np.full((20, 20), np.nan, dtype=np.float32)
    Image.fromarray(pixels).save(folder / "cat" / "nan.tif")
    _, notes = prepare(folder_data(str(folder), where="data", test=0.0).pool, RGB, where="data")
    assert "pets/cat/nan.tif (pixels that are NaN or infinite)" in notes[0]


def test_too_many_unreadable_images_are_refused(folder):
    for number in (1, 2, 3):
        (folder / "cat" / f"00{number}.{'png' if number % 2 else 'jpg'}").write_bytes(b"")
    data = folder_data(str(folder), where="data", test=0.0)
    with pytest.raises(TaskError, match=r"3 of 200 images can't be read: pets/cat/001.png .* At most 1% are skipped"):
        prepare(data.pool, RGB, where="data")


def test_a_class_must_not_vanish(folder):
    for file in (folder / "cat").glob("*"):
        if file.stem != "003":
            file.unlink()
    data = folder_data(str(folder), where="data", test=0.0)
    cut_short(folder / "cat" / "003.png")
    with pytest.raises(TaskError, match="no whole class"):
        prepare(data.pool, RGB, where="data")


def test_reading_warns_of_nothing(folder):
    Image.new("P", (20, 20)).save(folder / "cat" / "odd.png", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(folder_data(str(folder), where="data", test=0.0).pool, GREY, where="data")


def test_rotations_are_four_of_each_image_and_know_no_labels():
    raw = examples(6)
    data = TaskData(pool=raw, test=raw.subset(torch.arange(2)), classes=("a", "b"))
    turned = rotations(data)
    assert turned.outputs == 4
    assert turned.pool.targets.tolist() == [0, 1, 2, 3] * 6
    assert len(turned.test) == 8
    plain = prepare(raw, RGB, where="data")[0].__getitems__(list(range(6)))[0]
    ready = prepare(turned.pool, RGB, where="data")[0]
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
    with pytest.raises(TaskError, match="only be told of images"):
        rotations(TaskData(pool=flat, test=flat, classes=("a", "b")))


def test_what_a_network_that_asks_for_nothing_gets(photo):
    grey = Images.of(Pixels(np.zeros((2, 28, 30), dtype=np.uint8), "grey"))
    assert (grey.as_they_are().channels, grey.as_they_are().size) == (1, 28)
    assert Images.of(Pixels(np.asarray(photo)[None], "photo")).as_they_are().channels == 3


def test_inputs_that_are_no_images_and_unknown_changes_are_refused():
    with pytest.raises(TaskError, match="data: the network takes images"):
        prepare(Examples(torch.zeros(2, 3), torch.zeros(2).long()), RGB, where="data")
    with pytest.raises(TaskError, match="augment = 'blur' is not known; allowed: crop, flip"):
        prepare(examples(), RGB, augment=("blur",), where="data")


@pytest.mark.parametrize(
    "values", [{"size": 65}, {"size": 0}, {"mean": (0.5,)}, {"std": (1, 1, 0)}, {"interpolation": "area"}]
)
def test_formats_that_can_not_be_are_refused(values):
    fields = {"size": 56, "resize": 64, "mean": (0, 0, 0), "std": (1, 1, 1)} | values
    with pytest.raises(
        ValueError,
        match=f"`{'size' if 'size' in values else 'interpolation' if 'interpolation' in values else 'mean'}`",
    ):
        ImageFormat(**fields)
