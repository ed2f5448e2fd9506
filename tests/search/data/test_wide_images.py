"""Images of more than 8 bits a channel: every level reaches the network, on the range that the data use."""

import numpy as np
import pytest
import torch
from PIL import Image

from search.data.decoding import Pixels
from search.data.examples import Examples
from search.data.image_folders import image_folder
from search.data.images import ImageFormat, Images
from search.data.load import load_data
from search.data.preparation import prepare
from search.errors import TaskError
from tests.search.data.pictures import prepare_one
from tests.search.data.wide_files import png, ppm, tiff

SIDE = 12
GREY = ImageFormat(size=SIDE, resize=SIDE, mean=(0.0,), std=(1.0,))
RGB = ImageFormat(size=SIDE, resize=SIDE, mean=(0.0,) * 3, std=(1.0,) * 3)


def random_values(low, high, dtype, *, count=6, channels=1):
    """Return values (count, SIDE, SIDE, channels); the first image has both ends."""
    values = np.random.default_rng(0).uniform(low, high, (count, SIDE, SIDE, channels)).astype(dtype)
    values[0, 0, 0], values[0, 0, 1] = low, high
    return values


def folder_of(tmp_path, contents, ending):
    """Write files of two classes in turn."""
    for number, content in enumerate(contents):
        place = tmp_path / "scans" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.{ending}").write_bytes(content)
    return image_folder(str(tmp_path / "scans")).pool


def in_order(values):
    """Return the values in the order of a folder's files."""
    return np.concatenate([values[::2], values[1::2]])


def inputs_of(ready):
    return ready.take(torch.arange(len(ready)))[0].numpy().transpose(0, 2, 3, 1)


def scaled(values):
    values = values.astype(np.float64)
    return (values - values.min()) / (values.max() - values.min())


FILES = {
    "10 bits": ("png", png, (0, 1023, "u2", 1)),
    "12 bits": ("png", png, (0, 4095, "u2", 1)),
    "14 bits": ("png", png, (0, 16383, "u2", 1)),
    "16 bits": ("png", png, (0, 65535, "u2", 1)),
    "an offset": ("png", png, (30000, 30400, "u2", 1)),
    "colour": ("png", png, (0, 4095, "u2", 3)),
    "TIFF": ("tif", tiff, (3, 4000, "u2", 1)),
    "TIFF, big-endian": ("tif", lambda v: tiff(v, order=">"), (3, 4000, "u2", 1)),
    "TIFF, signed": ("tif", tiff, (-1024, 3071, "i2", 1)),
    "TIFF, signed, big-endian, packed": ("tif", lambda v: tiff(v, order=">", packed=True), (-1024, 3071, "i2", 1)),
    "TIFF, signed bytes": ("tif", tiff, (-100, 100, "i1", 1)),
    "TIFF, 32 bits": ("tif", tiff, (-(10**6), 10**6, "i4", 1)),
    "TIFF, 32 bits, big-endian, packed": ("tif", lambda v: tiff(v, order=">", packed=True), (-99, 10**6, "i4", 1)),
    "TIFF, 32 bits, unsigned": ("tif", tiff, (0, 4 * 10**9, "u4", 1)),
    "TIFF, floats": ("tif", tiff, (-3.5, 900.25, "f4", 1)),
    "TIFF, floats, big-endian, packed": ("tif", lambda v: tiff(v, order=">", packed=True), (-3.5, 900.25, "f4", 1)),
    "TIFF, colour": ("tif", tiff, (0, 4095, "u2", 3)),
    "TIFF, colour, big-endian, packed": ("tif", lambda v: tiff(v, order=">", packed=True), (0, 4095, "u2", 3)),
    "PGM": ("pgm", lambda v: ppm(v, 4095), (0, 4095, "u2", 1)),
    "PPM": ("ppm", lambda v: ppm(v, 4095), (0, 4095, "u2", 3)),
    "PPM, 16 bits": ("ppm", lambda v: ppm(v, 65535), (0, 4095, "u2", 3)),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_keep_every_level_on_their_range(tmp_path, kind):
    """Each value of a file becomes its share of the range, whatever type and byte order."""
    ending, write, (low, high, dtype, channels) = FILES[kind]
    values = random_values(low, high, dtype, channels=channels)
    ready, (note,) = prepare_one(folder_of(tmp_path, map(write, values), ending), RGB if channels == 3 else GREY)
    np.testing.assert_allclose(inputs_of(ready), scaled(in_order(values)), atol=1e-5 if kind == "PGM" else 1e-6)
    assert (
        kind == "PGM" or f"{low} to {high} become 0 to 1; measured over all 6 in the pool" in note
    )  # Pillow scales PGM


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 4095, "<u2"), (0, 65535, ">u2"), (-1024, 3071, "<i2"), (0, 1023, "<i4"), (10**9, 10**9 + 900, "<i4"),
        (2**40, 2**40 + 5, "<i8"), (0, 2**32 - 1, "<u4"), (-100, 100, "i1"),
    ],
)  # fmt: skip
def test_arrays_keep_every_level_on_their_range(tmp_path, low, high, dtype, channels):
    """Whole numbers of any type are images, channels first or last."""
    values = random_values(low, high, dtype, channels=channels)
    for name, x in (("last", values), ("first", values.transpose(0, 3, 1, 2))):
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(6) % 2)
        data = load_data(str(tmp_path / f"{name}.npz"), {"test": 0.0}, where="[task] data")
        ready, _ = prepare_one(data.pool, RGB if channels == 3 else GREY)
        np.testing.assert_allclose(inputs_of(ready), scaled(values), atol=1e-6)
    assert len(np.unique(inputs_of(ready))) == len(np.unique(values))


def test_series_of_whole_numbers_stay_numbers(tmp_path):
    """Long or narrow arrays are no images, unless asked for; a note names the way out."""
    x = np.random.default_rng(0).integers(0, 999, (8, 40, 3), dtype=np.int16)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(8) % 2)
    series = load_data(str(tmp_path / "a.npz"), {"test": 0.0}, where="[task] data")
    assert torch.equal(series.pool.inputs, torch.from_numpy(x).float())
    assert "int16 of shape (8, 40, 3), are numbers as they are; option images = true for the other" in series.notes[0]
    images = load_data(str(tmp_path / "a.npz"), {"test": 0.0, "images": True}, where="[task] data")
    assert isinstance(images.pool.inputs, Images)
    assert images.notes == ()


def wide(values):
    """Return images of values (N, SIDE, SIDE, C)."""
    return Examples(Images.of(Pixels(values, "scans")), torch.arange(len(values)) % 2)


def test_test_values_beyond_the_pools_are_not_clipped():
    """The range is the pool's; higher and lower values of the test set go on in line, and get a note."""
    pool, test = random_values(100, 4095, "u2"), random_values(0, 8190, "u2")
    (_, held), (note,) = prepare([wide(pool), wide(test)], GREY)
    np.testing.assert_allclose(inputs_of(held), (test - 100.0) / 3995, atol=1e-6)
    assert "100 to 4095 become 0 to 1" in note
    assert "values from 0 to 8190 occur and are not clipped" in note


def test_an_outlier_gets_a_note_with_the_key_to_set():
    """One dead pixel stretches the range; the note has the range of most values."""
    values = random_values(800, 1000, "u2", count=40)
    values[3, 4, 4] = 65535
    ready, (note,) = prepare_one(wide(values), GREY)
    assert inputs_of(ready).max() == 1
    low, high = (int(text) for text in note.split("pixel_range = [")[2].split("]")[0].split(","))
    assert 800 <= low <= 810
    assert 990 <= high <= 1000


def test_a_range_that_was_asked_for_is_used_for_all_kinds(tmp_path):
    """`pixel_range` holds for wide numbers and for bytes."""
    for dtype in ("u2", "u1"):
        values = random_values(3, 15, dtype)
        np.savez(tmp_path / "a.npz", x=values, y=np.arange(6) % 2)
        data = load_data(str(tmp_path / "a.npz"), {"test": 0.0}, where="[task] data", pixel_range=[0, 15])
        ready, notes = prepare_one(data.pool, GREY)
        np.testing.assert_allclose(inputs_of(ready), values / 15, atol=1e-6)
        assert notes == []
        shown = ready.inputs.pixels_of(torch.arange(6)).numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(shown, values / 15 * 255, atol=1e-3)


def test_a_range_is_refused_for_what_is_no_image():
    """Numbers that are no images have no pixels, and a range has a low end and a higher one."""
    with pytest.raises(TaskError, match=r"^\[task\] data = 'digits': pixel_range = \[0, 15\]: these are no images"):
        load_data("digits", where="[task] data", pixel_range=[0, 15])
    with pytest.raises(TaskError, match=r"pixel_range = \[15, 0\]; allowed: \[low, high\] with low < high"):
        load_data("digits", where="[task] data", pixel_range=[15, 0])


def test_dark_bytes_stay_and_get_a_note():
    """Bytes of which few are used are still 0 to 255, but the key is named."""
    values = random_values(0, 15, "u1")
    ready, notes = prepare_one(wide(values), GREY)
    np.testing.assert_allclose(inputs_of(ready), values / 255, atol=1e-6)
    assert notes == [
        "6 of 6 images have 8 bits a channel: all values are 0 to 15, which pixel_range = [0, 15] spreads."
    ]


def test_floats_within_0_to_1_stay_as_they_are(tmp_path):
    """Decimals of an image file are 0 to 1 by convention."""
    values = random_values(0.1, 0.9, "f4")
    ready, notes = prepare_one(folder_of(tmp_path, map(tiff, values), "tif"), GREY)
    np.testing.assert_allclose(inputs_of(ready), in_order(values), atol=1e-6)
    assert notes == []


def test_bytes_beside_wide_images_keep_0_to_255(tmp_path, photo):
    """In a mixed folder bytes keep their range, colours too, and the note counts both."""
    values = random_values(0, 4095, "u2", count=2)
    raw = folder_of(tmp_path, map(png, values), "png")
    photo.resize((SIDE, SIDE)).save(tmp_path / "scans" / "b" / "z.png")
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        raw = image_folder(str(tmp_path / "scans")).pool
        ready, notes = prepare_one(raw, RGB, cache=cache)
        found = inputs_of(ready)
        np.testing.assert_allclose(found[:2], np.repeat(values / 4095, 3, axis=3), atol=1e-6)
        np.testing.assert_allclose(found[2], np.asarray(photo.resize((SIDE, SIDE))) / 255, atol=1e-6)
        assert [note.split(";")[0] for note in notes] == [
            "1 of 3 images have 8 bits a channel: 0 to 255 become 0 to 1.",
            "2 of 3 images have more than 8 bits a channel: 0 to 4095 become 0 to 1",
        ]


def test_grey_scans_take_one_channel_of_the_cache(tmp_path):
    """A network of three channels sees a grey scan three times; it is kept once, and read back."""
    values = random_values(0, 4095, "u2")
    raw = folder_of(tmp_path, map(png, values), "png")
    for _ in range(2):
        ready, _ = prepare_one(raw, RGB, cache=tmp_path / "cache")
        assert ready.inputs.pixels.shape == (6, 1, SIDE, SIDE)
        np.testing.assert_allclose(inputs_of(ready), scaled(in_order(np.repeat(values, 3, axis=3))), atol=1e-6)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_another_range_is_another_input_and_the_same_cache(tmp_path):
    """The file holds values without a range; the key of cached activations changes with it."""
    np.savez(tmp_path / "a.npz", x=random_values(0, 4095, "u2"), y=np.arange(6) % 2)
    keys = []
    for asked in (None, [0, 4095], [0, 8190]):
        data = load_data(str(tmp_path / "a.npz"), {"test": 0.0}, where="[task] data", pixel_range=asked)
        ready, _ = prepare_one(data.pool, GREY, cache=tmp_path / "cache")
        *_, scale = ready.inputs.cache_key(torch.arange(6), augmented=False)
        keys.append(scale)
        assert inputs_of(ready).max() == pytest.approx(0.5 if asked == [0, 8190] else 1)
    assert torch.equal(keys[0], keys[1])
    assert not torch.equal(keys[1], keys[2])
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_resized_and_augmented_scans_stay_within_their_range():
    """A scan of the same picture at 12 bits gives the views that bytes give, and finer ones."""
    bytes_ = np.random.default_rng(0).integers(0, 256, (4, 40, 30), dtype=np.uint8)
    bytes_[0, 0, :2] = 0, 255
    format = ImageFormat(size=16, resize=20, mean=(0.5,), std=(0.5,))
    plain, _ = prepare_one(wide(bytes_), format, augment=("crop", "flip"))
    fine, _ = prepare_one(wide(bytes_.astype(np.uint16) * 16), format, augment=("crop", "flip"))
    for passes in (None, torch.zeros(4, dtype=torch.int64)):
        one, other = (ready.take(torch.arange(4), passes)[0] for ready in (plain, fine))
        torch.testing.assert_close(one, other, atol=2.5 / 128, rtol=0)


def test_transparent_scans_are_put_on_their_own_white(tmp_path):
    """Transparent pixels get the highest value of the visible ones."""
    values = random_values(0, 4095, "u2", channels=4)
    values[..., 3] = 65535
    opaque, _ = prepare_one(folder_of(tmp_path / "opaque", map(png, values), "png"), RGB)
    np.testing.assert_allclose(inputs_of(opaque), scaled(in_order(values[..., :3])), atol=1e-6)
    values[:, :6, :, 3] = 0
    values[:, 6, 6, :3] = 4095
    clear, _ = prepare_one(folder_of(tmp_path / "clear", map(png, values), "png"), RGB)
    assert (inputs_of(clear)[:, :6] == 1).all()
    grey = folder_of(tmp_path / "grey", [png(np.ascontiguousarray(one[..., 2:])) for one in values], "png")
    assert (inputs_of(prepare_one(grey, GREY)[0])[:, :6] == 1).all()


def test_separate_planes_of_16_bits_are_refused_by_name(tmp_path):
    """Pillow misreads such a TIFF file; it is named, with what to do."""
    file = tiff(random_values(0, 4095, "u2", channels=3)[0], planes=2)
    raw = folder_of(tmp_path, [file, *map(png, random_values(0, 9, "u2"))], "tif")
    _, notes = prepare_one(raw, RGB)
    assert "scans/a/0.tif (channels of 16 bits in separate planes; store them interleaved)" in notes[0]


def test_a_constant_scan_is_no_division_by_zero():
    """One value only is the low end of its range."""
    ready, _ = prepare_one(wide(np.full((2, SIDE, SIDE, 1), 700, dtype=np.uint16)), GREY)
    assert not inputs_of(ready).any()


def test_turned_scans_are_set_upright(tmp_path):
    """EXIF orientation holds for 16 bits, too."""
    values = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 20
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        Image.fromarray(np.rot90(values).copy()).save(tmp_path / "scans" / name / "0.png", exif=exif)
    ready, _ = prepare_one(image_folder(str(tmp_path / "scans")).pool, GREY)
    np.testing.assert_allclose(inputs_of(ready)[0, ..., 0], scaled(values), atol=1e-6)
