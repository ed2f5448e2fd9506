"""Dotted names of modules and parameters: `encoder.layer.0.weight`."""


def join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def under(prefix: str, name: str) -> str:
    """The name as the module `prefix` sees it."""
    return name.removeprefix(f"{prefix}.") if prefix else name


def prefixes(name: str) -> list[str]:
    """The name and what it lies in, the name first, the whole network ("") last."""
    parts = name.split(".") if name else []
    return [".".join(parts[:length]) for length in range(len(parts), -1, -1)]


def leader(names: list[str], others: list[str]) -> str:
    """The outermost module at the head of `names` that none of the `others` is in."""
    first = next((name for name in names if "." in name), names[0])
    taken = {prefix for name in others for prefix in prefixes(name)}
    return next(prefix for prefix in reversed(prefixes(first)) if prefix not in taken | {""})


def short(names: set[str]) -> dict[str, str]:
    """Each name by its shortest end that no other name has and that starts with a word: `layer.0`, not `0`."""
    ends: dict[str, set[str]] = {}
    for name in names:
        for at in range(name.count(".") + 1):
            ends.setdefault(name.split(".", at)[at], set()).add(name)
    own = {end: of for end, of in ends.items() if len(of) == 1 and not end.split(".")[0].isdigit()}
    return {name: min((end for end, of in own.items() if name in of), key=len, default=name) for name in names}
