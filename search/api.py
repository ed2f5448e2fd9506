"""Public Python API: the examples, network and loss of one repeat of a study."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from search.data.batches import EvalLoader, TrainLoader, train_loader
from search.data.examples import Examples
from search.device import eval_batch
from search.errors import StudyError
from search.run_config import RunConfig
from search.seeds import seeded
from search.storage.location import OUT
from search.task.task import Task
from search.training.fit import scaling_of
from search.training.module import Scaling, loss_of
from search.training.source_task import with_source_weights
from strategies import FreezingStrategy


@dataclass(frozen=True, kw_only=True, eq=False)
class Repeat:
    """One repeat of a study at one size, as its trials have it.

    train, validate, test: as a trial's network takes them, preprocessed; `train[0]` is a pair (input, target).
    seed: of the head's initial weights, of batches and dropout.
    batch_size: as the trials have it.
    steps_per_epoch: as the trials have it; None for passes over `train`.
    number: of the repeat.
    scaling: of targets and classes, as `loss` has it.
    """

    train: Examples
    validate: Examples
    test: Examples
    seed: int
    batch_size: int
    steps_per_epoch: int | None
    scaling: Scaling
    task: Task
    number: int

    def network(self, strategy: FreezingStrategy) -> tuple[nn.Module, nn.Module]:
        """Return a fresh backbone and head, as the strategy starts from them.

        For a study of a `LightningModule` of the user's own, they are those of a new one.
        """
        backbone, head, _ = self.task.build(strategy, repeat=self.number)
        return backbone, head

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the trials' loss of a head's outputs: logits (N, C), or numbers (N, K).

        A `LightningModule` of the user's own has its own. Else it is cross entropy, with the study's class weights. Of
        numbers it is the mean squared error in units of their spread: outputs are in those units too, and
        `scaling.back(outputs)` are predictions.
        """
        return loss_of(outputs, self.scaling.scaled(targets), class_weight=self.scaling.class_weight)

    def train_loader(self) -> TrainLoader:
        """Return the training batches in the trials' order, for Lightning in place of a `DataLoader`."""
        return train_loader(self.train, batch_size=self.batch_size, steps=self.steps_per_epoch, seed=self.seed)

    def test_loader(self) -> EvalLoader:
        """Return the test examples in batches."""
        return EvalLoader(self.test, batch_size=eval_batch(self.batch_size))

    def seeded(self) -> AbstractContextManager[None]:
        """Seed torch, numpy and Python in a block, as in a trial's training."""
        return seeded(self.seed)


def load_repeat(
    study: str, *, size: int | str, repeat: int, storage: str | None = None, out: str | Path = OUT
) -> Repeat:
    """Load a repeat of a study at one size.

    Training a strategy on it gives the test score of its confirm trial, to the bit, on a CPU with as many threads.
    The code that the study file names is imported and runs.

    study: the name of a study file, or its path.
    size: labels to train on, or "all".
    repeat: 0 for the search, from 1 for confirm trials.
    storage, out: those of the run; weights of a source task are read from the study's folder, or trained into it.
    Raises `FrostlineError`.
    """
    config = RunConfig.of(study, storage=storage, out=Path(out))
    spec = config.spec
    task = Task.load(spec, cache=config.location.folder / "cache" if config.location.folder.is_dir() else None)
    number = task.splits.all if size == "all" else size
    if not isinstance(number, int) or not 1 <= number <= task.splits.all or repeat < 0:
        raise StudyError(
            f'size = {size!r}, repeat = {repeat!r}: allowed: a size from 1 to {task.splits.all} or "all", a repeat '
            "from 0."
        )
    task = with_source_weights(task, config.location)
    split = task.split(repeat=repeat, size=number)
    return Repeat(
        train=task.take(split.train),
        validate=task.take(split.validate),
        test=task.take(split.test),
        seed=task.seed(repeat),
        batch_size=spec.train.batch_size,
        steps_per_epoch=spec.train.steps,
        scaling=scaling_of(task, size=number, repeat=repeat),
        task=task,
        number=repeat,
    )
