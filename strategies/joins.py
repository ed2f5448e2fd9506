"""The few architectures that neither execution nor registration reads as an expert would."""

from torch import nn

_XLM = {f"{child}.*": "attentions.*" for child in ("layer_norm1", "ffns", "layer_norm2")}

JOINS = {
    "DebertaV2Encoder": {"LayerNorm": "rel_embeddings", "conv": "layer.0"},
    "EsmModel": {"contact_head": "encoder.emb_layer_norm_after"},
    "FlaubertModel": _XLM,
    "MNASNet": {"layers.3": "layers.0", "layers.6": "layers.0"},
    "XLMModel": _XLM,
}
"""Class -> child -> the child whose part it joins; "*" is each element of a list."""


def joins(module: nn.Module) -> list[tuple[str, str]]:
    """A module's children that join the part of another child, and that one."""
    found = []
    for child, target in JOINS.get(type(module).__name__, {}).items():
        listed = child.partition(".*")[0]
        places = [n for n, _ in module.get_submodule(listed).named_children()] if "*" in child else [""]
        found += [(child.replace("*", place), target.replace("*", place)) for place in places]
    return found
