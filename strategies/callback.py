"""The strategy at work in a Lightning run."""

from collections.abc import Sequence

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer

from strategies.groups import LayerGroup, layer_groups, set_trainable
from strategies.schedule import Schedule
from strategies.strategy import FreezingStrategy


class FreezingCallback(Callback):
    """Freeze and thaw layer groups as a pure function of the epoch.

    `backbone` and `head` name the module's two parts (dots reach deeper); `groups` is as in `layer_groups`.
    It keeps no state: what trains is set anew from the strategy's schedule before every epoch, so a run that
    resumes from a checkpoint, in any phase, is right. It deliberately is no
    `lightning.pytorch.callbacks.BaseFinetuning`, whose state is lost on resume (Lightning #21901) and which
    trains frozen batch norm (#15063).

    Pair it with `param_groups`: an optimizer must hold all parameters from the start. Where it does not, the
    fit is refused (`MisconfigurationException`), since the backbone would silently stay frozen.
    """

    def __init__(
        self,
        strategy: FreezingStrategy,
        *,
        backbone: str = "backbone",
        head: str = "head",
        groups: Sequence[str] | None = None,
    ) -> None:
        self.strategy = strategy
        self.backbone = backbone
        self.head = head
        self.groups = groups

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._apply(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        parts, schedule = self._plan(trainer, pl_module)
        held = {id(p) for o in trainer.optimizers for group in o.param_groups for p in group["params"]}
        for part, thaw in zip(parts, schedule.thaw_epochs, strict=True):
            if thaw is not None and any(id(p) not in held for p in part.parameters):
                raise MisconfigurationException(
                    f"Layer group {part.name!r} thaws at epoch {thaw}, but the optimizer does not hold all of "
                    "its parameters, so it would never train. Build the optimizer from "
                    "`strategies.param_groups`, without filtering by `requires_grad`."
                )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._apply(trainer, pl_module)

    def _plan(self, trainer: Trainer, pl_module: LightningModule) -> tuple[list[LayerGroup], Schedule]:
        parts = layer_groups(pl_module.get_submodule(self.backbone), groups=self.groups)
        endless = trainer.max_epochs is None or trainer.max_epochs < 0
        return parts, self.strategy.schedule(len(parts), None if endless else trainer.max_epochs)

    def _apply(self, trainer: Trainer, pl_module: LightningModule) -> None:
        parts, schedule = self._plan(trainer, pl_module)
        set_trainable(parts, schedule.trainable(trainer.current_epoch))
        head = pl_module.get_submodule(self.head)
        head.requires_grad_(True)
        head.train()
