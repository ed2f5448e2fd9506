"""Freezing and unfreezing layer groups: which of their parameters train, and in which mode their modules are."""

from collections.abc import Sequence

from torch import nn

from strategies.groups import LayerGroup
from strategies.strategy import BatchNorm, FreezingStrategy, Parameters

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_RATE = "_dropout_once_all_layers_train"


def set_trainable(
    groups: Sequence[LayerGroup],
    trainable: Sequence[bool],
    *,
    parameters: Parameters = "all",
    batch_norm: BatchNorm = "train",
) -> None:
    """Unfreeze or freeze each group: `requires_grad`, and `train()` or `eval()`; the fields are a strategy's.

    Frozen means constant: no gradient, no dropout, batch norm with its stored statistics and those still.

    Layers of one `nn.LSTM` (or GRU, RNN) may be in several groups. It has one dropout rate for all of them, so
    while any is frozen the dropout between its layers is off; its own rate comes back with the last unfreezing. It
    stays in `train()` as long as any layer trains, as cuDNN's backward pass demands.
    """
    states: dict[nn.Module, list[bool]] = {}
    for group, unfrozen in zip(groups, trainable, strict=True):
        training = _training(group, parameters=parameters, batch_norm=batch_norm) if unfrozen else set()
        for parameter in group.parameters:
            parameter.requires_grad_(parameter in training)
            if parameter not in training:
                parameter.grad = None  # a leftover would still be stepped along
        for module in group.modules:
            states.setdefault(module, []).append(unfrozen)
    # `train()` recurses, so containers go first, as they stand in their groups, and their parts have the last word;
    # unlike setting `.training`, it respects modules that override it.
    for module, trains in states.items():
        still = batch_norm == "frozen" and is_batch_norm(module)
        module.train(any(trains) and not still)
        if isinstance(module, nn.RNNBase):
            _set_dropout(module, on=len(set(trains)) == 1)


def trained_parameters(
    groups: Sequence[LayerGroup], strategy: FreezingStrategy, *, max_epochs: int | None = None
) -> dict[str, nn.Parameter]:
    """All backbone parameters that a strategy ever trains, by their names in the backbone."""
    return {
        name: parameter
        for group, unfreeze in zip(groups, strategy.schedule(len(groups), max_epochs).unfreeze_epochs, strict=True)
        if unfreeze is not None
        for training in [_training(group, parameters=strategy.parameters, batch_norm=strategy.batch_norm)]
        for name, parameter in zip(group.parameter_names, group.parameters, strict=True)
        if parameter in training
    }


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises: one of torch's, or one whose class says so (`RMSNorm`, `T5LayerNorm`)."""
    return isinstance(module, _NORMS) or _is_called(module, "Norm")


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module is a batch norm, synchronised and other people's ones too."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or _is_called(module, "BatchNorm")


def _is_called(module: nn.Module, word: str) -> bool:
    # A class of that name with layers inside is a network that uses norms, not one.
    return word in type(module).__name__ and not any(True for c in module.children() for _ in c.parameters())


def _set_dropout(rnn: nn.RNNBase, *, on: bool) -> None:
    # The rate is kept on the module itself, so that it goes wherever the module goes: copies, second fits.
    if on and _RATE in rnn.__dict__:
        rnn.dropout = rnn.__dict__.pop(_RATE)
    elif not on and _RATE not in rnn.__dict__:
        rnn.__dict__[_RATE], rnn.dropout = rnn.dropout, 0.0


def _training(group: LayerGroup, *, parameters: Parameters, batch_norm: BatchNorm) -> set[nn.Parameter]:
    # Which parameters of a unfrozen group train.
    still = {p for m in group.modules if is_batch_norm(m) for p in m.parameters(recurse=False)}
    norms = {p for m in group.modules if is_norm(m) for p in m.parameters(recurse=False)}
    return {
        parameter
        for name, parameter in zip(group.parameter_names, group.parameters, strict=True)
        if not (batch_norm == "frozen" and parameter in still)
        and (parameters != "norm" or parameter in norms)
        and (parameters != "bias" or (parameter.ndim == 1 and "bias" in name.rpartition(".")[2]))
    }
