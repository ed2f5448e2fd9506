"""Freezing and unfreezing of layer groups: gradients of parameters, modes of modules."""

from collections.abc import Sequence

from torch import nn

from strategies.groups import LayerGroup
from strategies.layer_kinds import is_batch_norm, is_norm
from strategies.strategy import BatchNorm, FreezingStrategy, Parameters

_SAVED_DROPOUT = "_dropout_once_all_layers_train"
_FROZEN = "_frozen_by_a_strategy"


def set_trainable(
    groups: Sequence[LayerGroup],
    trainable: Sequence[bool],
    *,
    parameters: Parameters = "trainable",
    batch_norm: BatchNorm = "train",
) -> None:
    """Unfreeze or freeze each layer group: set `requires_grad`, and `train()` or `eval()`.

    A frozen group is a constant function: no gradient, no dropout, batch norm with its stored statistics.
    `parameters` and `batch_norm` are a strategy's fields.

    Parameters that other code has frozen stay so, with a batch norm's statistics, unless `parameters` = "all".
    """
    set_gradients(groups, trainable, parameters=parameters, batch_norm=batch_norm)
    set_modes(groups, trainable, parameters=parameters, batch_norm=batch_norm)


def set_gradients(
    groups: Sequence[LayerGroup], trainable: Sequence[bool], *, parameters: Parameters, batch_norm: BatchNorm
) -> None:
    """Set `requires_grad` as `set_trainable` does."""
    for group, unfrozen in zip(groups, trainable, strict=True):
        still = _frozen_by_hand(group, parameters)
        training = _chosen(group, parameters=parameters, batch_norm=batch_norm) - still if unfrozen else set()
        marked = vars(group.modules[0]).setdefault(_FROZEN, set())
        for name, parameter in zip(group.parameter_names, group.parameters, strict=True):
            if parameter in training:
                marked.discard(name)
            elif parameter.requires_grad:
                marked.add(name)
            parameter.requires_grad_(parameter in training)
            if parameter not in training:
                parameter.grad = None  # the optimizer would still apply it


def set_modes(
    groups: Sequence[LayerGroup], trainable: Sequence[bool], *, parameters: Parameters, batch_norm: BatchNorm
) -> None:
    """Set `train()` or `eval()` as `set_trainable` does.

    Layers of one `nn.LSTM` (GRU, RNN) may be in several groups, but share one dropout rate. While any of them is
    frozen, that dropout is off. The module stays in `train()` while any layer trains, as cuDNN's backward pass demands.
    """
    states: dict[nn.Module, list[bool]] = {}
    still: set[nn.Parameter] = set()
    for group, unfrozen in zip(groups, trainable, strict=True):
        still |= _frozen_by_hand(group, parameters)
        for module in group.modules:
            states.setdefault(module, []).append(unfrozen)
    # `train()` recurses, so containers go first, as their groups list them. Unlike `.training = ...`, it respects
    # modules that override it.
    for module, trains in states.items():
        own = set(module.parameters(recurse=False))
        fixed = is_batch_norm(module) and (batch_norm == "frozen" or (bool(own) and own <= still))
        module.train(any(trains) and not fixed)
        if isinstance(module, nn.RNNBase):
            _set_dropout(module, on=len(set(trains)) == 1)


def trained_parameters(
    groups: Sequence[LayerGroup], strategy: FreezingStrategy, *, max_epochs: int | None = None, by_hand: bool = False
) -> dict[str, nn.Parameter]:
    """Return all backbone parameters that a strategy ever trains, by their names in the backbone.

    by_hand: return instead those that it would train, had other code not frozen them.
    """
    return {
        name: parameter
        for group, unfreeze in zip(groups, strategy.schedule(len(groups), max_epochs).unfreeze_epochs, strict=True)
        if unfreeze is not None
        for chosen in [_chosen(group, parameters=strategy.parameters, batch_norm=strategy.batch_norm)]
        for still in [_frozen_by_hand(group, strategy.parameters)]
        for name, parameter in zip(group.parameter_names, group.parameters, strict=True)
        if parameter in chosen and (parameter in still) == by_hand
    }


def _frozen_by_hand(group: LayerGroup, parameters: Parameters) -> set[nn.Parameter]:
    """Return a group's parameters that stay frozen, though no strategy has frozen them."""
    if parameters == "all":
        return set()
    # Marks are on the backbone itself, so that copies and second fits have them.
    marked = vars(group.modules[0]).get(_FROZEN, ())
    named = zip(group.parameter_names, group.parameters, strict=True)
    return {parameter for name, parameter in named if not parameter.requires_grad and name not in marked}


def _set_dropout(rnn: nn.RNNBase, *, on: bool) -> None:
    # The rate is kept on the module itself, so that copies and second fits have it.
    if on and _SAVED_DROPOUT in rnn.__dict__:
        rnn.dropout = rnn.__dict__.pop(_SAVED_DROPOUT)
    elif not on and _SAVED_DROPOUT not in rnn.__dict__:
        rnn.__dict__[_SAVED_DROPOUT], rnn.dropout = rnn.dropout, 0.0


def _chosen(group: LayerGroup, *, parameters: Parameters, batch_norm: BatchNorm) -> set[nn.Parameter]:
    """Return the parameters of an unfrozen group that a strategy's fields choose."""
    batch_norms = {p for m in group.modules if is_batch_norm(m) for p in m.parameters(recurse=False)}
    norms = {p for m in group.modules if is_norm(m) for p in m.parameters(recurse=False)}
    return {
        parameter
        for name, parameter in zip(group.parameter_names, group.parameters, strict=True)
        if not (batch_norm == "frozen" and parameter in batch_norms)
        and (parameters != "norm" or parameter in norms)
        and (parameters != "bias" or (parameter.ndim == 1 and "bias" in name.rpartition(".")[2]))
    }
