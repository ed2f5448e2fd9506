"""The data of the study files in `studies/`, laid out as a user has them."""

import csv
import gzip
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

MY_AUTOENCODER = """
import torch
from collections import OrderedDict
from lightning.pytorch import LightningModule
from torch import nn

def encoder():
    return nn.Sequential(OrderedDict(
        down1=nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU()),
        down2=nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU()),
        code=nn.Sequential(nn.Flatten(), nn.Linear(392, 16)),
    ))

class Autoencoder(LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder = encoder()
        self.decoder = nn.Linear(16, 784)
"""
MY_DATA = """
import torch
from lightning.pytorch import LightningDataModule
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

class MyDataModule(LightningDataModule):
    def setup(self, stage):
        x, y = load_digits(return_X_y=True)
        self.all = TensorDataset(torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y))

    def _loader(self, start, stop):
        return DataLoader(torch.utils.data.Subset(self.all, range(start, stop)), batch_size=16)

    def train_dataloader(self):
        return self._loader(0, 1000)

    def val_dataloader(self):
        return self._loader(1000, 1200)

    def test_dataloader(self):
        return self._loader(1200, 1400)
"""
MY_MODELS = """
from torch import nn

def build():
    return nn.Sequential(nn.Sequential(nn.Linear(64, 32), nn.ReLU()), nn.Sequential(nn.Linear(32, 16), nn.ReLU()))
"""


def fashion_mnist(assets: Path, part: str, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read a part of Fashion-MNIST, "train" or "t10k": images (N, 28, 28) and labels (N,)."""
    arrays = []
    for kind, offset in (("images-idx3", 16), ("labels-idx1", 8)):
        content = gzip.decompress((assets / "fashion-mnist" / f"{part}-{kind}-ubyte.gz").read_bytes())
        arrays.append(np.frombuffer(content, np.uint8, offset=offset))
    return arrays[0].reshape(-1, 28, 28)[:count], arrays[1][:count].astype(np.int64)


def write_idx(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images and labels in MNIST's own format."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        (folder / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())


def write_images(folder: Path, images: np.ndarray, *, ending: str = "png") -> None:
    """Write each image to a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(images, start=1):
        Image.fromarray(pixels).convert("RGB").save(folder / f"image_{number:04}.{ending}")


def lay_out(folder: Path, assets: Path | None) -> None:
    """Write the data of every study to the places that its file names; of Fashion-MNIST the first 7,000 images."""
    if assets is not None:
        for part, count in (("train", 6000), ("t10k", 1000)):
            write_idx(folder / "data" / "FashionMNIST" / "raw", part, *fashion_mnist(assets, part, count))
        digits = np.load(assets / "mnist5k.npz")
        order = np.random.default_rng(0).permutation(5000)
        for part, chosen in (("train", order[:4000]), ("t10k", order[4000:])):
            write_idx(folder / "data" / "MNIST" / "raw", part, digits["images"][chosen], digits["labels"][chosen])
        clothes, kinds = fashion_mnist(assets, "t10k")
        caltech = folder / "data/caltech101/101_ObjectCategories"
        for kind, place in (
            (0, "images/shirt"),
            (7, "images/shoe"),
            (0, caltech / "a"),
            (7, caltech / "b"),
            (8, caltech / "c"),
        ):
            write_images(folder / place, clothes[kinds == kind][:40], ending="jpg")
        (caltech / "BACKGROUND_Google").mkdir()
        for file in (assets / "japanese-vowels").glob("*.ts"):
            shutil.copy(file, folder / file.name)
    with gzip.open(Path(sys.modules["plotly"].__file__).parent / "package_data/datasets/stocks.csv.gz") as stocks:
        prices = stocks.read()
    for name in ("source", "target"):
        (folder / f"{name}.csv").write_bytes(prices)
    package = folder / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "data.py").write_text(MY_DATA)
    (package / "models.py").write_text(MY_MODELS)
    (folder / "my_autoencoder.py").write_text(MY_AUTOENCODER)


def tiny_bert(folder: Path) -> str:
    """Save a two-layer BERT, a tokenizer of the words used, and sentences to learn."""
    from transformers import BertConfig, BertModel, BertTokenizer

    home = folder / "tiny-bert"
    if not home.exists():
        rows = [("a fine and moving film", "good"), ("dull , slow and far too long", "bad")] * 30
        words = sorted({word for text, _ in rows for word in text.split()})
        home.mkdir()
        (home / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
        BertTokenizer(str(home / "vocab.txt")).save_pretrained(home)
        BertModel(
            BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
        ).save_pretrained(home)
        with (folder / "reviews.tsv").open("w", newline="") as out:
            csv.writer(out, delimiter="\t").writerows([("text", "label"), *rows])
    return home.name


def lay_out_clothes(folder: Path, assets: Path) -> None:
    """120 test images of each class of Fashion-MNIST, a folder a class."""
    clothes, kinds = fashion_mnist(assets, "t10k")
    for kind in range(10):
        write_images(folder / "clothes" / f"kind {kind}", clothes[kinds == kind][:120])


def lay_out_climate(folder: Path) -> None:
    """Monthly changes of CO2 at Mauna Loa for the source, the sea's monthly temperature off Peru for the task."""
    datasets = Path(pytest.importorskip("statsmodels").__file__).parent / "datasets"
    months: dict[str, list[float]] = {}
    with (datasets / "co2" / "co2.csv").open() as rows:
        for row in csv.DictReader(rows):
            if row["co2"].strip():
                months.setdefault(row["date"][:6], []).append(float(row["co2"]))
    with (datasets / "elnino" / "elnino.csv").open() as rows:
        sea = [float(cell) for row in list(csv.reader(rows))[1:] for cell in row[1:]]
    for name, values in (("source", np.diff([np.mean(weeks) for weeks in months.values()])), ("target", sea)):
        (folder / f"{name}.csv").write_text("\n".join(["value", *map(str, values)]))


def polar_snippets(sdist: Path, collection: str) -> list[tuple[str, float]]:
    """Read vaderSentiment's snippets of a clear polarity, each with its mean rating, from its source archive."""
    with tarfile.open(sdist) as outer:
        inner = next(member for member in outer if member.name.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=outer.extractfile(inner)) as archive:
            name = next(m for m in archive.getnames() if m.endswith(f"{collection}_GroundTruth.txt"))
            lines = archive.extractfile(name).read().decode("utf-8", errors="replace").splitlines()
    rated = [(text.strip(), float(rating)) for _, rating, text in (line.split("\t", 2) for line in lines)]
    return [(text, rating) for text, rating in rated if abs(rating) > 0.5]


def lay_out_reviews(folder: Path, reviews: list[tuple[str, float]]) -> None:
    """10,043 film snippets, each labelled good or bad."""
    rows = [f"{text}\t{'good' if rating > 0 else 'bad'}" for text, rating in reviews]
    (folder / "reviews.tsv").write_text("\n".join(["text\tlabel", *rows]), encoding="utf-8")


def train_autoencoder(folder: Path) -> None:
    """Train an autoencoder on 20,000 images of clothes; Lightning saves it."""
    from lightning.pytorch import Trainer
    from torch.utils.data import DataLoader, TensorDataset
    from torchvision.datasets import FashionMNIST

    namespace: dict[str, object] = {}
    exec(MY_AUTOENCODER, namespace)

    class Trained(namespace["Autoencoder"]):
        def training_step(self, batch, index):
            return (self.decoder(self.encoder(batch[0])) - batch[0].flatten(1)).square().mean()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-3)

    images = FashionMNIST(folder / "data").data[:20_000].unsqueeze(1) / 255
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_checkpointing=False, **quiet)
    torch.manual_seed(0)
    trainer.fit(Trained(), DataLoader(TensorDataset(images), batch_size=64, shuffle=True))
    trainer.save_checkpoint(folder / "autoencoder.ckpt")
