"""Raw images and texts as a network takes them: tensors, made once."""

from dataclasses import replace
from pathlib import Path

import torch

from search.errors import TaskError
from search.spec import StudySpec
from search.tasks.data import Examples, TaskData
from search.tasks.images import Images
from search.tasks.images import prepare as prepare_images
from search.tasks.models import Network, Tensors
from search.tasks.texts import Texts


def prepared(
    data: TaskData, network: Network, spec: StudySpec, *, cache: Path | None, where: str
) -> tuple[TaskData, list[str]]:
    """The data as the network takes it, and what to tell the user (images that had to be skipped).

    Images are decoded once for all processes where there is a folder `cache`. Raises `TaskError`.
    """
    pool, about_pool = _examples(data.pool, network, spec, cache=cache, where=where)
    test, about_test = _examples(data.test, network, spec, cache=cache, where=where)
    return replace(data, pool=pool, test=test), [*data.notes, *about_pool, *about_test]


def sample(data: TaskData, network: Network, spec: StudySpec, *, where: str) -> Tensors:
    """Two inputs as the network takes them: enough to look at what it makes of them. Images are black ones."""
    raw = data.pool.inputs
    if isinstance(raw, Images):
        format = network.images or raw.as_they_are()
        return torch.zeros(2, format.channels, format.size, format.size)
    two, _ = _examples(data.pool.subset(torch.arange(min(2, len(data.pool)))), network, spec, cache=None, where=where)
    inputs: Tensors = two.__getitems__(list(range(len(two))))[0]
    return inputs


def _examples(
    examples: Examples, network: Network, spec: StudySpec, *, cache: Path | None, where: str
) -> tuple[Examples, list[str]]:
    raw = examples.inputs
    if isinstance(raw, Images) and len(raw):
        format = network.images or raw.as_they_are()
        augment = tuple(spec.train.augment)
        return prepare_images(examples, format, augment=augment, seed=spec.search.seed, cache=cache, where=where)
    if isinstance(raw, Texts) and len(raw):
        if network.encode is None:
            raise TaskError(
                f"{where} is text, and [model] backbone = {spec.model.backbone!r} takes none; allowed: "
                '"transformers/NAME or folder".'
            )
        return Examples(network.encode(raw), examples.targets), []
    if spec.train.augment:
        raise TaskError(f"[train] augment = {spec.train.augment}: {where} is no image data; allowed: [].")
    return examples, []
