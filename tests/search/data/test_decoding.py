"""Image files of every kind come to squares of bytes: decoded once, kept, and named where they can't be read."""

import errno
import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from search.data.decoding import decode
from search.data.image_folders import image_folder
from search.data.preparation import prepare
from search.errors import TaskError
from tests.search.data.pictures import GREY, RGB, examples, prepare_one


def as_mode(photo, mode):
    if mode == "I;16":
        return Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    if mode == "I":
        return Image.fromarray(np.asarray(photo.convert("L")).astype(np.int32) * 257)
    if mode == "F":
        return Image.fromarray(np.asarray(photo.convert("L")).astype(np.float32) / 255)
    return photo.convert(mode)


FULL = {"bytes": 255, "integers": 65535, "floats": 1}


def pixels_of(image, *, channels, side, interpolation):
    """Decode an image to values (channels, side, side) of 0 to 255."""
    pixels, values = decode(image, channels=channels, side=side, interpolation=interpolation)
    if values.kind != "bytes":
        pixels = (pixels + values.low) / FULL[values.kind] * 255
    return np.broadcast_to(pixels, (channels, side, side))


@pytest.mark.parametrize(
    ("mode", "ending", "tolerance"),
    [
        ("RGB", "png", 0), ("RGB", "jpg", 12), ("RGBA", "png", 0), ("CMYK", "jpg", 12), ("CMYK", "tif", 1),
        ("P", "png", 40), ("P", "gif", 40), ("YCbCr", "jpg", 12), ("L", "png", None), ("LA", "png", None),
        ("1", "png", None), ("I;16", "png", None), ("I", "tif", None), ("F", "tif", None),
    ],
)  # fmt: skip
def test_every_mode_gives_the_same_picture(photo, tmp_path, mode, ending, tolerance):
    file = tmp_path / f"image.{ending}"
    as_mode(photo, mode).save(file)
    grey = mode in ("L", "LA", "1", "I;16", "I", "F")
    reference = pixels_of(
        photo.convert("L").convert("RGB") if grey else photo, channels=3, side=64, interpolation="bilinear"
    )
    with Image.open(file) as image:
        found = pixels_of(image, channels=3, side=64, interpolation="bilinear")
    difference = np.abs(found.astype(int) - reference.astype(int))
    assert found.shape == (3, 64, 64)
    assert difference.mean() <= (2 if mode != "1" else 60) if tolerance is None else difference.mean() <= tolerance
    with Image.open(file) as image:
        assert pixels_of(image, channels=1, side=64, interpolation="bilinear").shape == (1, 64, 64)


def test_transparent_parts_are_white(photo):
    clear = photo.convert("RGBA")
    clear.putalpha(0)
    assert (pixels_of(clear, channels=3, side=64, interpolation="bilinear") == 255).all()
    palette = Image.new("P", (64, 64), 3)
    palette.info["transparency"] = 3
    assert (pixels_of(palette, channels=1, side=64, interpolation="bilinear") == 255).all()


def test_a_turned_photograph_is_set_upright(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: show it turned by 90 degrees clockwise
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        found = pixels_of(image, channels=3, side=64, interpolation="bilinear")
    assert np.array_equal(found, pixels_of(photo, channels=3, side=64, interpolation="bilinear"))


def test_a_big_jpeg_read_at_a_smaller_scale_looks_the_same(photo, tmp_path):
    photo.resize((2560, 1708)).save(tmp_path / "big.jpg", quality=95)
    with Image.open(tmp_path / "big.jpg") as image:
        found = pixels_of(image, channels=3, side=64, interpolation="bilinear")
    reference = pixels_of(photo, channels=3, side=64, interpolation="bilinear")
    assert np.abs(found.astype(int) - reference.astype(int)).mean() < 4


def test_decoding_is_kept_and_shared(tmp_path, monkeypatch):
    first, _ = prepare_one(examples(), RGB, cache=tmp_path)
    assert len(list(tmp_path.glob("images-*.npy"))) == 1
    monkeypatch.setattr("search.data.decoded.decode", None)
    second, notes = prepare_one(examples(), RGB, augment=("flip",), cache=tmp_path)
    assert notes == []
    assert torch.equal(first.__getitems__([2, 5])[0], second.__getitems__([2, 5])[0])
    assert not list(tmp_path.glob("*.partial"))


def test_other_pixels_or_formats_are_decoded_again(tmp_path):
    prepare_one(examples(), RGB, cache=tmp_path)
    prepare_one(examples(size=(30, 40)), RGB, cache=tmp_path)
    prepare_one(examples(), GREY, cache=tmp_path)
    prepare_one(examples().subset(torch.arange(5)), RGB, cache=tmp_path)
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


def test_a_few_unreadable_images_are_skipped_and_named(folder, tmp_path):
    cut_short(folder / "cat" / "003.png")
    (folder / "dog" / "010.jpg").write_text("no image")
    for _ in range(2):
        data = image_folder(str(folder))
        ready, notes = prepare_one(data.pool, RGB, cache=tmp_path / "cache")
        assert len(ready) == 198
        assert ready.targets.bincount().tolist() == [99, 99]
        assert len(notes) == 1
        assert "2 of 200 images can't be read: pets/cat/003.png" in notes[0]
        assert "pets/dog/010.jpg" in notes[0]
        assert "\n" not in notes[0]
    # Images after a skipped one keep their own pixels and labels.
    last, label = ready.__getitems__([197])
    whole, _ = prepare_one(data.pool.subset(torch.tensor([199])), RGB)
    assert torch.equal(last, whole.__getitems__([0])[0])
    assert label.item() == 1


def test_a_full_disk_is_one_line_and_leaves_nothing(folder, tmp_path, monkeypatch):
    def full(descriptor, content):
        if len(content) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    write = os.write
    data = image_folder(str(folder))
    monkeypatch.setattr("search.array_file.os.write", full)
    with pytest.raises(TaskError, match=r"^the decoded images can't be kept in .*: No space left on device.$"):
        prepare_one(data.pool, RGB, cache=tmp_path / "cache")
    assert not [file for file in (tmp_path / "cache").iterdir() if file.suffix != ".lock"]


def test_pixels_that_are_no_numbers_are_no_image(folder):
    pixels = np.full((20, 20), np.nan, dtype=np.float32)
    Image.fromarray(pixels).save(folder / "cat" / "nan.tif")
    _, notes = prepare_one(image_folder(str(folder)).pool, RGB)
    assert "pets/cat/nan.tif (pixels that are NaN or infinite)" in notes[0]


def test_too_many_unreadable_images_are_refused(folder):
    for number in (1, 2, 3):
        (folder / "cat" / f"00{number}.{'png' if number % 2 else 'jpg'}").write_bytes(b"")
    data = image_folder(str(folder))
    with pytest.raises(TaskError, match=r"3 of 200 images can't be read: pets/cat/001.png .* At most 1% are skipped"):
        prepare_one(data.pool, RGB)


@pytest.mark.parametrize("place", [("train", 0), ("train", 39), ("test", 3)])
def test_the_limit_of_skipped_images_is_over_all_parts(photo, tmp_path, place):
    """One broken image of 100 is skipped and named in either part, two in different parts are refused."""
    for part, count in (("train", 45), ("test", 5)):
        for label in ("cat", "dog"):
            (tmp_path / "pets" / part / label).mkdir(parents=True)
            for number in range(count):
                photo.crop((number, 0, number + 20, 20)).save(tmp_path / "pets" / part / label / f"{number}.png")
    part, number = place
    cut_short(tmp_path / "pets" / part / "cat" / f"{number}.png")
    raw = image_folder(str(tmp_path / "pets"))
    (pool, test), (note,) = prepare([raw.pool, raw.test], RGB)
    assert (len(pool), len(test)) == (89, 10) if part == "train" else (90, 9)
    assert f"1 of 100 images can't be read: {part}/cat/{number}.png (" in note
    cut_short(tmp_path / "pets" / "test" / "dog" / "0.png")
    with pytest.raises(TaskError, match=rf"2 of 100 images can't be read: {part}/cat.* test/dog/0.png .* At most 1%"):
        prepare([raw.pool, raw.test], RGB)


def test_a_single_unreadable_image_is_always_skipped(folder):
    """One image is skipped even of fewer than 100, in a half of the data too."""
    cut_short(folder / "cat" / "003.png")
    half = image_folder(str(folder)).pool.subset(torch.arange(0, 200, 3))
    ready, notes = prepare_one(half, RGB)
    assert len(ready) == len(half) - 1
    assert "1 of 67 images can't be read: pets/cat/003.png" in notes[0]


def test_a_class_must_not_vanish(folder):
    for file in (folder / "cat").glob("*"):
        if file.stem != "003":
            file.unlink()
    data = image_folder(str(folder))
    cut_short(folder / "cat" / "003.png")
    with pytest.raises(TaskError, match="no whole class"):
        prepare_one(data.pool, RGB)


def test_reading_warns_of_nothing(folder):
    Image.new("P", (20, 20)).save(folder / "cat" / "odd.png", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare_one(image_folder(str(folder)).pool, GREY)
