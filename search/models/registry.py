"""Networks by name: one row a library, and the user's own code."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from lightning.pytorch import LightningModule
from torch import nn

from search.errors import TaskError
from search.models.builtin import BACKBONES
from search.models.huggingface import transformers_network
from search.models.network import Network, Parts
from search.models.timm_models import timm_network
from search.models.torchvision_models import torchvision_names, torchvision_network
from search.spec.tables import Model
from search.user_code import call_named


def find_network(model: Model) -> Network:
    """The network that `[model]` names: a row of `BACKBONES`, "LIBRARY/NAME" of `LIBRARIES`, a torchvision
    classifier's bare name, or "package.module:function".

    The function is the user's: it returns a module, a (backbone, head) pair, or a `LightningModule` with a
    `backbone` and a `head`; it is called anew for every trial. Raises `TaskError`.
    """
    name = model.backbone
    library, _, rest = name.partition("/")
    if name in BACKBONES:
        return Network(build=lambda: Parts(backbone=BACKBONES[name](**model.options)))
    if rest and library in LIBRARIES:
        return LIBRARIES[library](rest, model)
    if ":" in name:
        return Network(build=lambda: _parts_of(call_named(name, model.options, where="[model] backbone"), name))
    known = torchvision_names()
    if name in known:
        return LIBRARIES["torchvision"](name, model)
    near = get_close_matches(name, [*BACKBONES, *known], n=3)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    raise TaskError(
        f"[model] backbone = {name!r} is not known{hint}; allowed: {', '.join(BACKBONES)}, a torchvision classifier, "
        f'"timm/NAME", "transformers/NAME or folder", or "package.module:function".'
    )


def _parts_of(made: Any, name: str) -> Parts:
    if isinstance(made, LightningModule):
        backbone, head = getattr(made, "backbone", None), getattr(made, "head", None)
        if isinstance(backbone, nn.Module) and isinstance(head, nn.Module):
            if type(made).forward is LightningModule.forward:  # it has none of its own; its steps do without
                made.forward = nn.Sequential(backbone, head).forward  # type: ignore[method-assign]
            return Parts(backbone=backbone, head=head, module=made)
        raise TaskError(
            f"[model] backbone = {name!r} returned a LightningModule without a `backbone` and a `head`; it needs both."
        )
    if isinstance(made, nn.Module):
        return Parts(backbone=made)
    if isinstance(made, tuple) and len(made) == 2 and all(isinstance(part, nn.Module) for part in made):
        return Parts(backbone=made[0], head=made[1])
    raise TaskError(
        f"[model] backbone = {name!r} returned a {type(made).__name__}; it must return a torch module, a "
        "(backbone, head) pair of them, or a LightningModule with a `backbone` and a `head`."
    )


LIBRARIES: Mapping[str, Callable[[str, Model], Network]] = {
    "torchvision": torchvision_network,
    "timm": timm_network,
    "transformers": transformers_network,
}
