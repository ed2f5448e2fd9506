"""Networks by name: one row a library, and the user's own code."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches

from search.errors import TaskError
from search.models.builtin import BACKBONES
from search.models.custom import own_network
from search.models.huggingface import transformers_network
from search.models.network import Network, Parts, built
from search.models.timm_models import timm_network
from search.models.torchvision_models import torchvision_names, torchvision_network
from search.spec.tables import Model

LIBRARIES: Mapping[str, Callable[[str, Model], Network]] = {
    "torchvision": torchvision_network,
    "timm": timm_network,
    "transformers": transformers_network,
}


def find_network(model: Model) -> Network:
    """Return the network that `[model]` names; its `build` raises `TaskError` alone.

    The name is a row of `BACKBONES`, "LIBRARY/NAME" of `LIBRARIES`, a torchvision classifier's bare name, or
    "package.module:function". Raises `TaskError`.
    """
    network = _find(model)
    return replace(network, build=lambda: built(network.build, model))


def _find(model: Model) -> Network:
    name = model.backbone
    library, _, rest = name.partition("/")
    if name in BACKBONES:
        return Network(build=lambda: Parts(backbone=BACKBONES[name](**model.options)))
    if rest and library in LIBRARIES:
        return LIBRARIES[library](rest, model)
    if ":" in name:
        return own_network(name, model)
    known = torchvision_names()
    if name in known:
        return torchvision_network(name, model)
    near = get_close_matches(name, [*BACKBONES, *known], n=3)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    raise TaskError(
        f"[model] backbone = {name!r} is not known{hint}; allowed: {', '.join(BACKBONES)}, a torchvision classifier, "
        f'"timm/NAME", "transformers/NAME or folder", or "package.module:function".'
    )
