"""The kinds of layers that the rules for layer groups tell apart."""

import re
from typing import TypeGuard

from torch import nn

Child = nn.Module | nn.Parameter

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_POSITION = re.compile(r"\bpos(?!t)\w*? ?(enc|emb|bias|conv)")
_DOWNSAMPLING = re.compile("Merging|Downsampl")
_XLM_JOINS = {f"{child}.*": "attentions.*" for child in ("layer_norm1", "ffns", "layer_norm2")}

JOINS = {
    "DebertaV2Encoder": {"LayerNorm": "rel_embeddings", "conv": "layer.0"},
    "EsmModel": {"contact_head": "encoder.emb_layer_norm_after"},
    "FlaubertModel": _XLM_JOINS,
    "MNASNet": {"layers.3": "layers.0", "layers.6": "layers.0"},
    "XLMModel": _XLM_JOINS,
}
"""Exceptions: class, child, and the child whose part it joins ("*": each list element)."""


def exceptional_joins(module: nn.Module) -> list[tuple[str, str]]:
    """Return pairs of children by `JOINS`: one, and the other whose part it joins."""
    pairs = []
    for child, target in JOINS.get(type(module).__name__, {}).items():
        listed = child.partition(".*")[0]
        places = [n for n, _ in module.get_submodule(listed).named_children()] if "*" in child else [""]
        pairs += [(child.replace("*", place), target.replace("*", place)) for place in places]
    return pairs


def has_parameters(child: Child) -> bool:
    return isinstance(child, nn.Parameter) or next(child.parameters(), None) is not None


def has_forward(module: nn.Module) -> bool:
    """Return whether a module can be called; an `nn.ModuleList` only holds others."""
    return getattr(type(module), "forward", None) is not nn.Module.forward


def is_sequential(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) or not has_forward(module)


def is_norm(module: nn.Module) -> bool:
    """Recognise a normalisation layer: torch's, or a class with that name (`RMSNorm`, `T5LayerNorm`)."""
    return isinstance(module, _NORMS) or _is_called(module, "Norm")


def is_batch_norm(module: nn.Module) -> bool:
    """Recognise a batch norm: torch's, synchronised or not, or a class with that name."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or _is_called(module, "BatchNorm")


def _is_called(module: nn.Module, word: str) -> bool:
    # A class of that name with layers inside is a network that uses norms, not one.
    return word in type(module).__name__ and not any(True for c in module.children() for _ in c.parameters())


def is_pooling(child: Child) -> bool:
    """Recognise a pooling inside a network; adaptive ones come at its end."""
    name = type(child).__name__
    return "Pool" in name and "Adaptive" not in name and not has_parameters(child)


def is_upsampling(child: Child) -> bool:
    """Recognise an upsampling without weights; a transposed convolution is a layer."""
    return "Upsampl" in type(child).__name__ and not has_parameters(child)


def is_lookup_table(child: Child) -> bool:
    return isinstance(child, (nn.Embedding, nn.EmbeddingBag))


def is_embedding(child: Child, *, name: str, at_input: bool) -> TypeGuard[nn.Module]:
    """Recognise an embedding: a lookup table or, at the input, a module of that name.

    A position's encoding counts as one, an RNN does not.
    """
    if is_lookup_table(child) or not at_input or isinstance(child, nn.Parameter):
        return is_lookup_table(child)
    words = _words(child, name)
    called = "embed" in words or _POSITION.search(words) is not None
    return called and not any(isinstance(module, nn.RNNBase) for module in child.modules())


def joins_before(child: Child, *, name: str) -> bool:
    """Recognise a child that joins the part before it.

    It has no matrix to train (own parameters, a norm, an activation, a scale), or is a position's encoding, a
    pooler, or a DenseNet's transition.
    """
    if name == "pooler" or isinstance(child, (nn.Parameter, nn.ParameterList, nn.ParameterDict, *_NORMS)):
        return True
    kind = type(child).__name__
    vectors = all(p.ndim < 2 or ("Norm" in kind and p.numel() == max(p.shape)) for p in child.parameters())
    transition = "Transition" in kind and _count_matrices(child) == 1
    return vectors or transition or kind.endswith("Pooler") or _POSITION.search(_words(child, name)) is not None


def is_convolution(module: nn.Module | None) -> bool:
    """Recognise one convolution, perhaps with norm and activation, not transposed and without a pooling."""
    if module is None or _count_matrices(module) != 1 or any(map(is_pooling, module.modules())):
        return False
    transposed = nn.modules.conv._ConvTransposeNd
    return any(isinstance(m, nn.modules.conv._ConvNd) and not isinstance(m, transposed) for m in module.modules())


def is_downsampling(module: nn.Module | None) -> bool:
    """Recognise a norm and one layer between two stages (ConvNeXt), or a patch merging (Swin)."""
    if module is None or _count_matrices(module) != 1:
        return False
    first = next(module.children(), None)
    norm_first = first is not None and has_parameters(first) and joins_before(first, name="")
    return _DOWNSAMPLING.search(type(module).__name__) is not None or (is_sequential(module) and norm_first)


def _words(child: Child, name: str) -> str:
    return f"{name} {type(child).__name__}".lower().replace("_", " ")


def _count_matrices(module: nn.Module) -> int:
    return sum(p.ndim > 1 for p in module.parameters())
