"""Raw images and texts as a network takes them: tensors, made once."""

from dataclasses import asdict, replace
from pathlib import Path

import torch

from search.data.examples import Examples, TaskData, Tensors
from search.data.images import ImageFormat, Images
from search.data.preparation import prepare as prepare_images
from search.data.texts import Texts
from search.errors import TaskError
from search.models.network import Network, image_format
from search.spec.study_spec import StudySpec


def prepared(data: TaskData, network: Network, spec: StudySpec, *, cache: Path | None) -> TaskData:
    """Return the data as the network takes them.

    Notes name skipped images and the range of pixel values.
    cache: a folder in which images are decoded once for all processes. Raises `TaskError`.
    """
    format, parts, notes = _format(data, network, spec), data.parts, [*data.notes]
    if format is not None:
        train = spec.train
        try:
            ready, said = prepare_images(
                [*parts.values()],
                format,
                augment=tuple(train.augment),
                views=train.views,
                seed=spec.search.seed,
                cache=cache,
            )
        except TaskError as error:
            raise TaskError(f"{data.origin}: {error}") from error
        parts = dict(zip(parts, ready, strict=True))
        notes += [f"{data.origin}: {note}" for note in said]
    return data.map(lambda _, name: _encoded(parts[name], network, spec, origin=data.origin), notes=tuple(notes))


def samples(data: TaskData, network: Network, spec: StudySpec) -> list[Tensors]:
    """Return two inputs of pool and test set, as the network takes them."""
    if (format := _format(data, network, spec)) is not None:
        return [torch.zeros(2, format.channels, format.size, format.size)]
    few = (part.subset(torch.arange(min(2, len(part)))) for part in (data.pool, data.test) if len(part))
    encoded = (_encoded(examples, network, spec, origin=data.origin) for examples in few)
    return [examples.take(torch.arange(len(examples)))[0] for examples in encoded]


def _format(data: TaskData, network: Network, spec: StudySpec) -> ImageFormat | None:
    """Return the images that the network takes of these data, if they are images."""
    raw = data.pool.inputs
    if not isinstance(raw, Images):
        return None
    if network.images is not None:
        return network.images
    plain = raw.as_they_are()
    return image_format(spec.model, **asdict(plain))


def _encoded(examples: Examples, network: Network, spec: StudySpec, *, origin: str) -> Examples:
    raw = examples.inputs
    if not isinstance(raw, Texts) or len(raw) == 0:
        return examples
    if network.encode is None:
        raise TaskError(
            f"{origin} is text, and [model] backbone = {spec.model.backbone!r} takes none; allowed: "
            '"transformers/NAME or folder".'
        )
    return replace(examples, inputs=network.encode(raw))
