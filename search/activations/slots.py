"""Tensors in a module's result: stored by example, restored, or replaced by a placeholder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

Values = tuple[Tensor, ...]
"""Tensors of N examples, each (N, ...)."""
Tree = Any
"""Tensors, or what is known of them, in tuples, lists and dicts, beside plain constants."""


class Layout(NamedTuple):
    """Shape and dtype of one example's value."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


class Filling(NamedTuple):
    """Content of placeholders.

    number: each of their numbers.
    solid: they have memory of their own, so that code may write into them.
    """

    number: float = 0.0
    solid: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A tensor in a module's result.

    axis: dimension of `shape` along which examples lie, each with `rows_per_example` rows.
    follows_length: dimension 1 is as long as the input's: a series (N, T, ...) padded to the batch's longest.
    packed: the tensor is the data (rows, C) of a `PackedSequence`, as is the module's input.
    value: index of the stored value that goes there; None for a placeholder.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    follows_length: bool
    packed: bool
    axis: int = 0
    rows_per_example: int = 1
    value: int | None = None

    @classmethod
    def observed(cls, found: Any, given: Any, *, length: int) -> "Slot":
        """Describe a module's result as it was seen, and the module's input."""
        packed = isinstance(found, PackedSequence)
        shape = tuple((found.data if packed else found).shape)
        if packed and not (length and isinstance(given, PackedSequence)):
            raise TypeError("a module packs a series")
        follows = length > 0 and isinstance(given, Tensor) and len(shape) > 2 and given.shape[1:2] == shape[1:2]
        return cls(shape=shape, dtype=found.data.dtype, follows_length=follows and shape[1] <= length, packed=packed)

    def with_example_axis(self, doubled: "Slot", *, examples: int) -> "Slot":
        """Return the slot with the examples' axis, found by the result of twice as many.

        Raises `TypeError` where there is none.
        """
        axes = [axis for axis, (one, two) in enumerate(zip(self.shape, doubled.shape, strict=True)) if one != two]
        if self.packed:
            return self
        if len(axes) != 1 or 2 * self.shape[axes[0]] != doubled.shape[axes[0]] or self.shape[axes[0]] % examples:
            raise TypeError("a module's result is not of each example")
        each = self.shape[axes[0]] // examples
        return replace(
            self, axis=axes[0], rows_per_example=each, follows_length=self.follows_length and axes[0] == 0 and each == 1
        )

    def layout(self, length: int) -> Layout:
        """Return the layout of a stored value, with series of that length."""
        rest = (*self.shape[: self.axis], *self.shape[self.axis + 1 :])
        if self.packed or self.follows_length:
            return Layout((length, *rest[0 if self.packed else 1 :]), self.dtype)
        return Layout(rest if self.rows_per_example == 1 else (self.rows_per_example, *rest), self.dtype)

    def stored(self, found: Any, length: int) -> Tensor:
        """Return a module's result as (N, ...), a series padded with zeros to that length."""
        if self.packed:
            return pad_packed_sequence(found, batch_first=True, total_length=length)[0]
        value: Tensor = found.movedim(self.axis, 0)
        if self.follows_length:
            return pad(value, (0, 0) * (value.ndim - 2) + (0, length - value.size(1)))
        return value if self.rows_per_example == 1 else value.reshape(-1, self.rows_per_example, *value.shape[1:])

    def restored(self, value: Tensor, given: Any) -> Any:
        """Return a module's result from its stored value, and from the module's input."""
        if self.packed:
            lengths = (given.batch_sizes > torch.arange(len(value)).unsqueeze(1)).sum(1)
            ordered = value if given.sorted_indices is None else value[given.sorted_indices]
            return given._replace(data=pack_padded_sequence(ordered, lengths, batch_first=True).data)
        if self.follows_length:
            value = value[:, : given.size(1)]
        return (value if self.rows_per_example == 1 else value.flatten(0, 1)).movedim(0, self.axis)

    def placeholder(self, rows: int, given: Any, filling: Filling, device: torch.device) -> Any:
        """Return a result of that many examples without its content."""
        shape = list(self.shape)
        shape[self.axis] = len(given.data) if self.packed else rows * self.rows_per_example
        if self.follows_length:
            shape[1] = given.size(1)
        number = filling.number if self.dtype.is_floating_point else 0
        made = torch.full((), number, dtype=self.dtype, device=device).expand(shape)
        made = made.clone(memory_format=torch.contiguous_format) if filling.solid else made
        return given._replace(data=made) if self.packed else made


def mapped(tree: Tree, change: Callable[[Any], Any]) -> Tree:
    """Return the tree with each tensor, packed sequence or slot changed.

    Raises `TypeError` for an unknown object.
    """
    match tree:
        case Tensor() | PackedSequence() | Slot():
            return change(tree)
        case None | bool() | int() | float() | str():
            return tree
        case tuple() if hasattr(tree, "_fields"):
            return type(tree)(*(mapped(one, change) for one in tree))
        case tuple() | list():
            return type(tree)(mapped(one, change) for one in tree)
        case Mapping():
            return type(tree)(**{key: mapped(one, change) for key, one in tree.items()})
    raise TypeError(f"a module returns {type(tree).__name__}")


def leaves(tree: Tree) -> list[Any]:
    """Return a tree's tensors, packed sequences or slots, in the order of `mapped`."""
    found: list[Any] = []
    mapped(tree, found.append)
    return found


def first_tensor(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | PackedSequence | None:
    """Return the first tensor or packed sequence among a module's arguments."""
    return next((given for given in (*args, *kwargs.values()) if isinstance(given, Tensor | PackedSequence)), None)


def full_length(inputs: Any) -> int:
    """Return the length to which a dict of series is padded; 0 for other inputs."""
    if not isinstance(inputs, dict):
        return 0
    return max((value.size(1) for value in inputs.values() if value.ndim > 1), default=0)
