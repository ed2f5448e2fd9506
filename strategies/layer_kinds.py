"""What kind of layer a module is, in the eyes of the rules for layer groups."""

import re
from typing import TypeGuard

from torch import nn

Child = nn.Module | nn.Parameter

_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
_POSITION = re.compile(r"\bpos(?!t)\w*? ?(enc|emb|bias|conv)")
_DOWNSAMPLING = re.compile("Merging|Downsampl")


def has_parameters(child: Child) -> bool:
    return isinstance(child, nn.Parameter) or next(child.parameters(), None) is not None


def size(module: nn.Module | None) -> int:
    """Parameters in a module, each counted once."""
    return sum(p.numel() for p in module.parameters()) if module is not None else 0


def has_forward(module: nn.Module) -> bool:
    """Whether it can be called; an `nn.ModuleList` only holds others."""
    return getattr(type(module), "forward", None) is not nn.Module.forward


def is_chain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) or not has_forward(module)


def is_pooling(child: Child) -> bool:
    """A pooling inside the network; adaptive ones stand at its end."""
    name = type(child).__name__
    return "Pool" in name and "Adaptive" not in name and not has_parameters(child)


def is_upsampling(child: Child) -> bool:
    """What makes maps larger without weights; a transposed convolution is a layer."""
    return "Upsampl" in type(child).__name__ and not has_parameters(child)


def is_table(child: Child) -> bool:
    """A lookup table, which takes indices."""
    return isinstance(child, (nn.Embedding, nn.EmbeddingBag))


def is_embedding(child: Child, *, name: str, at_input: bool) -> TypeGuard[nn.Module]:
    """A lookup table; at the input, also what is called an embedding or a position's encoding, if it is no RNN."""
    if is_table(child) or not at_input or isinstance(child, nn.Parameter):
        return is_table(child)
    words = _words(child, name)
    called = "embed" in words or _POSITION.search(words) is not None
    return called and not any(isinstance(module, nn.RNNBase) for module in child.modules())


def joins_before(child: Child, *, name: str) -> bool:
    """No layer of its own: own parameters, a norm, an activation or a scale (no matrix to train), a position's
    encoding, a pooler, a DenseNet's transition."""
    if name == "pooler" or isinstance(child, (nn.Parameter, nn.ParameterList, nn.ParameterDict, *_NORMS)):
        return True
    kind = type(child).__name__
    vectors = all(p.ndim < 2 or ("Norm" in kind and p.numel() == max(p.shape)) for p in child.parameters())
    transition = "Transition" in kind and _matrices(child) == 1
    return vectors or transition or kind.endswith("Pooler") or _POSITION.search(_words(child, name)) is not None


def is_convolution(module: nn.Module | None) -> bool:
    """One convolution, with its norm and activation perhaps, but neither transposed nor with a pooling."""
    if module is None or _matrices(module) != 1 or any(map(is_pooling, module.modules())):
        return False
    transposed = nn.modules.conv._ConvTransposeNd
    return any(isinstance(m, nn.modules.conv._ConvNd) and not isinstance(m, transposed) for m in module.modules())


def is_downsampling(module: nn.Module | None) -> bool:
    """What stands between two stages: a norm and one layer (ConvNeXt), or a patch merging (Swin)."""
    if module is None or _matrices(module) != 1:
        return False
    first = next(module.children(), None)
    norm_first = first is not None and has_parameters(first) and joins_before(first, name="")
    return _DOWNSAMPLING.search(type(module).__name__) is not None or (is_chain(module) and norm_first)


def _words(child: Child, name: str) -> str:
    return f"{name} {type(child).__name__}".lower().replace("_", " ")


def _matrices(module: nn.Module) -> int:
    return sum(p.ndim > 1 for p in module.parameters())
