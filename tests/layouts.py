"""The data of the study files in `studies/`, laid out as a user has them."""

import csv
import gzip
import shutil
import sys
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


def idx(array: np.ndarray, file: Path) -> None:
    """MNIST's own format."""
    file.write_bytes(
        bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    )


def shorten(raw: Path) -> None:
    """Keep the first of Fashion-MNIST's images: 6,000 to learn from, 1,000 to test on."""
    for part, kept in (("train", 6000), ("t10k", 1000)):
        for kind, start, shape in (("images-idx3", 16, (-1, 28, 28)), ("labels-idx1", 8, (-1,))):
            file = raw / f"{part}-{kind}-ubyte"
            idx(np.frombuffer(file.read_bytes(), np.uint8, offset=start).reshape(shape)[:kept], file)


def lay_out(folder: Path, assets: Path | None) -> None:
    """The data of every study, where its file says they are."""
    if assets is not None:
        raw = folder / "data" / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for file in (assets / "fashion-mnist").glob("*.gz"):
            with gzip.open(file) as packed, (raw / file.stem).open("wb") as out:
                shutil.copyfileobj(packed, out)
        digits = np.load(assets / "mnist5k.npz")
        order = np.random.default_rng(0).permutation(5000)
        mnist = folder / "data" / "MNIST" / "raw"
        mnist.mkdir(parents=True)
        for part, chosen in (("train", order[:4000]), ("t10k", order[4000:])):
            idx(digits["images"][chosen], mnist / f"{part}-images-idx3-ubyte")
            idx(digits["labels"][chosen].astype(np.uint8), mnist / f"{part}-labels-idx1-ubyte")
        clothes = np.frombuffer((raw / "t10k-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28)
        kinds = np.frombuffer((raw / "t10k-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
        for root, names in (("images", ["shirt", "shoe"]), ("data/caltech101/101_ObjectCategories", list("abc"))):
            for label, name in enumerate(names):
                (folder / root / name).mkdir(parents=True)
                for number, pixels in enumerate(clothes[kinds == [0, 7, 8][label]][:40], start=1):
                    Image.fromarray(pixels).convert("RGB").save(folder / root / name / f"image_{number:04}.jpg")
        (folder / "data/caltech101/101_ObjectCategories/BACKGROUND_Google").mkdir()
        for file in (assets / "japanese-vowels").glob("*.ts"):
            shutil.copy(file, folder / file.name)
    with gzip.open(Path(sys.modules["plotly"].__file__).parent / "package_data/datasets/stocks.csv.gz", "rt") as stocks:
        rows = list(csv.reader(stocks))
    for name in ("source", "target"):
        with (folder / f"{name}.csv").open("w", newline="") as out:
            csv.writer(out).writerows(rows)
    package = folder / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "data.py").write_text(MY_DATA)
    (package / "models.py").write_text(MY_MODELS)
    (folder / "my_autoencoder.py").write_text(MY_AUTOENCODER)


def tiny_bert(folder: Path) -> str:
    """A saved BERT of two small layers with a tokenizer of the words that are there, and real sentences to learn."""
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


def lay_out_clothes(folder: Path) -> None:
    """120 test images of each class of Fashion-MNIST, a folder a class."""
    raw = folder / "data" / "FashionMNIST" / "raw"
    clothes = np.frombuffer((raw / "t10k-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28)
    kinds = np.frombuffer((raw / "t10k-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    for kind in range(10):
        home = folder / "clothes" / f"kind {kind}"
        home.mkdir(parents=True)
        for number, pixels in enumerate(clothes[kinds == kind][:120]):
            Image.fromarray(pixels).save(home / f"{number:04}.png")


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


def lay_out_reviews(folder: Path, reviews: list[tuple[str, float]]) -> None:
    """10,043 film snippets and whether they praise."""
    rows = [f"{text}\t{'good' if rating > 0 else 'bad'}" for text, rating in reviews]
    (folder / "reviews.tsv").write_text("\n".join(["text\tlabel", *rows]), encoding="utf-8")


def train_autoencoder(folder: Path) -> None:
    """An autoencoder of 20,000 images of clothes, trained and saved by Lightning."""
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
