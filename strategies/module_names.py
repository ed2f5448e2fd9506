"""Dotted names of modules and parameters: `encoder.layer.0.weight`."""


def join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def relative_name(name: str, prefix: str) -> str:
    """Return the name as seen from the module `prefix`."""
    return name.removeprefix(f"{prefix}.") if prefix else name


def prefixes(name: str) -> list[str]:
    """Return the name and all modules around it, up to the whole network ("")."""
    parts = name.split(".") if name else []
    return [".".join(parts[:length]) for length in range(len(parts), -1, -1)]


def outermost_module(names: list[str], *, outside: list[str]) -> str:
    """Return the largest module around the first of `names` that holds none `outside`."""
    first = next((name for name in names if "." in name), names[0])
    taken = {prefix for name in outside for prefix in prefixes(name)}
    return next(prefix for prefix in reversed(prefixes(first)) if prefix not in taken | {""})


def unique_suffixes(names: set[str]) -> dict[str, str]:
    """Map each name to its shortest unique suffix from a word on: `layer.0`, not `0`."""
    holders: dict[str, set[str]] = {}
    for name in names:
        for at in range(name.count(".") + 1):
            holders.setdefault(name.split(".", at)[at], set()).add(name)
    own = {end: of for end, of in holders.items() if len(of) == 1 and not end.split(".")[0].isdigit()}
    return {name: min((end for end, of in own.items() if name in of), key=len, default=name) for name in names}
