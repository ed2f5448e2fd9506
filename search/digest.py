"""Names for values: the same for equal values in every process, another one for others."""

import struct
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Part = str | bytes | int | float | None | Tensor | NDArray[np.generic] | tuple["Part", ...]


def digest(*parts: Part) -> str:
    """The parts' digest, 32 hex digits. Type, dtype and shape count: `1`, `1.0`, `"1"` and `(1,)` are four values.

    Reads 1.3 GB/s. Raises `TypeError` for a part of another type.
    """
    known = blake2b(digest_size=16)
    _feed(known, parts)
    return known.hexdigest()


def state_digest(module: nn.Module) -> str:
    """The digest of a module's parameters and buffers, by name; also of those that are in no state dict."""
    state = (*module.named_parameters(), *module.named_buffers())
    return digest(*state)


def _feed(known: "blake2b", part: Part) -> None:
    """Feed type, length and content, so that no two sequences of parts read the same."""
    match part:
        case tuple():
            known.update(f"tuple {len(part)}\n".encode())
            for one in part:
                _feed(known, one)
        case Tensor():
            known.update(f"tensor {part.dtype} {tuple(part.shape)}\n".encode())
            known.update(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        case np.ndarray() if not part.dtype.hasobject:
            known.update(f"array {part.dtype} {part.shape}\n".encode())
            known.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        case str() | bytes():
            content = part if isinstance(part, bytes) else part.encode(errors="surrogatepass")
            known.update(f"{type(part).__name__} {len(content)}\n".encode() + content)
        case float():
            known.update(b"float\n" + struct.pack("<d", part))
        case bool() | int() | None:
            known.update(f"{part!r}\n".encode())
        case _:
            raise TypeError(f"A digest is of text, bytes, numbers, tensors and arrays, got {type(part).__name__}.")
