"""Raw images and texts as a network takes them: tensors, made once."""

from dataclasses import replace
from pathlib import Path

import torch

from search.data.examples import Examples, TaskData, Tensors
from search.data.images import ImageFormat, Images
from search.data.images import prepare as prepare_images
from search.data.texts import Texts
from search.errors import TaskError
from search.models.network import Network, image_format
from search.spec.study_spec import StudySpec


def prepared(
    data: TaskData, network: Network, spec: StudySpec, *, cache: Path | None, where: str
) -> tuple[TaskData, list[str]]:
    """The data as the network takes it, and what to tell the user (images that had to be skipped).

    Images are decoded once for all processes where there is a folder `cache`. Raises `TaskError`.
    """
    format = _format(data, network, spec)  # of the pool and of the test set alike
    pool, about_pool = _examples(data.pool, network, spec, format=format, cache=cache, where=where)
    test, about_test = _examples(data.test, network, spec, format=format, cache=cache, where=where)
    return replace(data, pool=pool, test=test), [*data.notes, *about_pool, *about_test]


def sample(data: TaskData, network: Network, spec: StudySpec, *, where: str) -> Tensors:
    """Two inputs as the network takes them: enough to look at what it makes of them. Images are black ones."""
    if (format := _format(data, network, spec)) is not None:
        return torch.zeros(2, format.channels, format.size, format.size)
    few = data.pool.subset(torch.arange(min(2, len(data.pool))))
    two, _ = _examples(few, network, spec, format=None, cache=None, where=where)
    inputs: Tensors = two.__getitems__(list(range(len(two))))[0]
    return inputs


def _format(data: TaskData, network: Network, spec: StudySpec) -> ImageFormat | None:
    """How the network sees these data, where they are images."""
    raw = data.pool.inputs
    if not isinstance(raw, Images):
        return None
    if network.images is not None:
        return network.images
    plain = raw.as_they_are()
    return image_format(spec.model, size=plain.size, resize=plain.resize, mean=plain.mean, std=plain.std)


def _examples(
    examples: Examples, network: Network, spec: StudySpec, *, format: ImageFormat | None, cache: Path | None, where: str
) -> tuple[Examples, list[str]]:
    raw = examples.inputs
    if isinstance(raw, Images) and len(raw) and format is not None:
        return prepare_images(
            examples,
            format,
            augment=tuple(spec.train.augment),
            views=spec.train.views,
            seed=spec.search.seed,
            cache=cache,
            where=where,
        )
    if isinstance(raw, Texts) and len(raw):
        if network.encode is None:
            raise TaskError(
                f"{where} is text, and [model] backbone = {spec.model.backbone!r} takes none; allowed: "
                '"transformers/NAME or folder".'
            )
        return Examples(network.encode(raw), examples.targets), []
    return examples, []
