"""Networks of the user's own code."""

from typing import Any

from lightning.pytorch import LightningModule
from torch import nn

from search.errors import TaskError
from search.models.network import Network, Parts
from search.spec.tables import Model
from search.user_code import call_named


def own_network(name: str, model: Model) -> Network:
    """Return the network of "package.module:function", which is called again for every trial.

    It returns a module, a (backbone, head) pair, or a `LightningModule` with a `backbone` and a `head`.
    """

    def build() -> Parts:
        try:
            return _parts_of(call_named(name, model.options))
        except TaskError as error:
            raise TaskError(f"[model] backbone = {name!r}: {error}") from error

    return Network(build=build)


def _parts_of(made: Any) -> Parts:
    if isinstance(made, LightningModule):
        backbone, head = getattr(made, "backbone", None), getattr(made, "head", None)
        if isinstance(backbone, nn.Module) and isinstance(head, nn.Module):
            if type(made).forward is LightningModule.forward:  # it has none of its own; its steps do without
                made.forward = nn.Sequential(backbone, head).forward  # type: ignore[method-assign]
            return Parts(backbone=backbone, head=head, module=made)
    elif isinstance(made, nn.Module):
        return Parts(backbone=made)
    elif isinstance(made, tuple) and len(made) == 2 and all(isinstance(part, nn.Module) for part in made):
        return Parts(backbone=made[0], head=made[1])
    raise TaskError(
        f"it returned a {type(made).__name__}; it must return a torch module, a (backbone, head) pair of them, or a "
        "LightningModule with a `backbone` and a `head`."
    )
