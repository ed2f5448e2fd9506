import gzip
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision import datasets

from search.data.images import ImageFormat
from search.data.load import load_data
from search.data.torchvision_sets import lost_bits
from search.errors import TaskError
from tests.layouts import write_idx, write_images
from tests.search.data.pictures import prepare_one

FORMAT = ImageFormat(size=28, resize=28, mean=(0.0,), std=(1.0,))


def load(name, **options):
    return load_data(f"torchvision/{name}", options, where="[task] data")


def tiles(count):
    """Small pieces of a real photograph."""
    photo = load_sample_image("flower.jpg")
    return [photo[8 * number : 8 * number + 32, 8 * number : 8 * number + 32] for number in range(count)]


@pytest.fixture(scope="module")
def fashion(assets, tmp_path_factory):
    raw = tmp_path_factory.mktemp("data") / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (assets / "fashion-mnist").glob("*.gz"):
        with gzip.open(file) as packed, (raw / file.stem).open("wb") as out:
            shutil.copyfileobj(packed, out)
    return raw.parents[1]


def test_fashion_mnist_has_its_own_parts_names_and_pixels(fashion):
    data = load("FashionMNIST", root=str(fashion))
    assert (len(data.pool), len(data.test), data.classes[9]) == (60_000, 10_000, "Ankle boot")
    assert data.test.targets.bincount().tolist() == [1000] * 10
    few = torch.tensor([0, 41, 59_999])
    ready, _ = prepare_one(data.pool.subset(few), FORMAT)
    theirs = datasets.FashionMNIST(fashion, train=True)
    assert torch.equal(ready.inputs.pixels_of(torch.arange(3))[:, 0], theirs.data[few])
    assert torch.equal(ready.targets, theirs.targets[few])


def test_its_images_are_kept_by_their_place_and_part(fashion, tmp_path):
    data = load("FashionMNIST", root=str(fashion))
    for part in (data.pool, data.test, data.pool):
        prepare_one(part.subset(torch.arange(3)), FORMAT, cache=tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2


@pytest.mark.parametrize("name", ["FashionMNIST", "Caltech101", "DTD"])
def test_other_images_in_the_same_place_are_decoded(tmp_path, name):
    """Arrays, files in a folder of its own, files that it names."""

    def write(pieces):
        if name == "FashionMNIST":
            grey = np.stack([np.resize(piece[..., 0], (28, 28)) for piece in pieces])
            for part in ("train", "t10k"):
                write_idx(tmp_path / "FashionMNIST" / "raw", part, grey, np.arange(len(grey)) % 10)
            return
        base, sub = {"Caltech101": ("caltech101", "101_ObjectCategories"), "DTD": ("dtd/dtd", "images")}[name]
        (tmp_path / base / sub / "BACKGROUND_Google").mkdir(parents=True, exist_ok=True)
        for label in ("ant", "bee"):
            write_images(tmp_path / base / sub / label, pieces, ending="jpg")
        if name == "DTD":
            (tmp_path / base / "labels").mkdir(exist_ok=True)
            for part, numbers in (("train", range(1, 9)), ("test", range(9, 11))):
                lines = [f"{label}/image_{number:04}.jpg" for label in ("ant", "bee") for number in numbers]
                (tmp_path / base / "labels" / f"{part}1.txt").write_text("\n".join(lines))

    def first():
        ready, _ = prepare_one(load(name, root=str(tmp_path), download=False).pool, FORMAT, cache=tmp_path / "c")
        return ready[0][0]

    write(tiles(20)[:10])
    before = first()
    assert torch.equal(first(), before)
    assert len(list((tmp_path / "c").glob("*.npy"))) == 1
    write(tiles(20)[10:])
    assert not torch.equal(first(), before)


def test_cifar10_is_read_from_its_files(tmp_path, monkeypatch):
    # Its files are known by checksums that other pixels can't have.
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    pixels = np.stack([tile.transpose(2, 0, 1).ravel() for tile in tiles(20)])
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        (base / name).write_bytes(pickle.dumps({"data": pixels, "labels": [*range(10)] * 2}))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"kind {number}" for number in range(10)]}))
    data = load("CIFAR10", root=str(tmp_path))
    assert (len(data.pool), len(data.test), data.classes[3]) == (100, 20, "kind 3")


def test_caltech101_has_no_test_part_so_one_is_held_out(tmp_path):
    for label in ("BACKGROUND_Google", "Faces", "ant", "beaver"):
        write_images(tmp_path / "caltech101" / "101_ObjectCategories" / label, tiles(10), ending="jpg")
    data = load("Caltech101", root=str(tmp_path), test=0.3)
    assert data.classes == ("Faces", "ant", "beaver")
    assert data.pool.targets.bincount().tolist() == [7, 7, 7]
    assert len(prepare_one(data.test, FORMAT)[0]) == 9


def test_pets_are_split_by_name(tmp_path):
    base = tmp_path / "oxford-iiit-pet"
    (base / "images").mkdir(parents=True)
    (base / "annotations").mkdir()
    for split, numbers in (("trainval", range(6)), ("test", range(6, 10))):
        lines = [f"{'cat' if number % 2 else 'dog'}_{number} {number % 2 + 1} 1 1" for number in numbers]
        (base / "annotations" / f"{split}.txt").write_text("\n".join(lines))
    for number, tile in enumerate(tiles(10)):
        Image.fromarray(tile).save(base / "images" / f"{'cat' if number % 2 else 'dog'}_{number}.jpg")
    data = load("OxfordIIITPet", root=str(tmp_path), download=False)
    assert (len(data.pool), len(data.test), data.classes) == (6, 4, ("Dog", "Cat"))
    with pytest.raises(TaskError, match="split"):
        load("OxfordIIITPet", root=str(tmp_path), split="nonsense")


def test_options_go_to_the_class():
    data = load("FakeData", size=50, num_classes=3, image_size=[3, 12, 12], test=0.2)
    assert len(data.pool) + len(data.test) == 50
    assert data.classes == ("0", "1", "2")


def test_what_takes_any_keyword_takes_its_bases_keywords(tmp_path):
    with pytest.raises(TaskError, match=r"EMNIST': it is not in .* download = true"):
        load("EMNIST", root=str(tmp_path), split="letters", download=False)
    with pytest.raises(TaskError, match=r"option splits = 'letters' is not known; allowed: .*split"):
        load("EMNIST", root=str(tmp_path), splits="letters")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar10", {}, "no such class; allowed: a class of torchvision.datasets"),
        ("ImageFolder", {}, "no such class"),
        ("CIFAR10", {"rooot": "x"}, "option rooot = 'x' is not known; allowed: root, download, test, part, classes"),
        ("CIFAR10", {"download": False}, "is not in .*download = true"),
        ("CIFAR10", {"download": 1}, "option download = 1 must be a valid boolean"),
        ("FakeData", {"size": "many"}, "TypeError"),
        ("EMNIST", {}, "missing 1 required positional argument: 'split'"),
    ],
)
def test_impossible_sets_are_refused_in_one_line(tmp_path, monkeypatch, name, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match=rf"^\[task\] data = 'torchvision/{name}'.*{message}") as caught:
        load(name, **options)
    assert "\n" not in str(caught.value)


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", unreachable)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", unreachable)
    with pytest.raises(
        TaskError, match=r"can't be downloaded \(OSError: no route to host\): fetch it where there is a"
    ):
        load("CIFAR10", root=str(tmp_path))


def test_a_loader_that_drops_bits_gets_a_note(tmp_path):
    """torchvision's own loader clips 16 bits; a data set with another loader, or with bytes, gets no note."""
    for dtype in (np.uint8, np.uint16):
        for label in ("a", "b"):
            (tmp_path / dtype.__name__ / label).mkdir(parents=True)
            Image.fromarray(np.full((4, 4), 200, dtype)).save(tmp_path / dtype.__name__ / label / "0.png")
    bytes_, wide = (datasets.ImageFolder(tmp_path / name) for name in ("uint8", "uint16"))
    assert "0.png has more than 8 bits a channel, of which torchvision's loader keeps 8" in lost_bits(wide)[0]
    assert lost_bits(bytes_) == lost_bits(datasets.ImageFolder(tmp_path / "uint16", loader=Image.open)) == ()
