"""Small studies: a trial's overhead, LeNet's study, the default one, and the growth of costs."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from bare import Bare
from cases import LENET, Case, made
from product import Product, write_setup
from race import Rival, measured
from script import Script

Result = dict[str, Any]
PROBING_LR = 1e-2


def overhead(case: Case, folder: Path) -> Result:
    """CPU ms of a linear probe on cached features, of Lightning's own loop and of a bare one."""
    params = {"freeze_depth": case.groups, "head_lr": PROBING_LR}
    result: Result = {}
    with Rival(Product, replace(case, pruner="median", trials=30), made(folder / "b")) as product:
        result["trial"] = 1000 * median([product.ask("trial", params)[1].cpu for _ in range(9)][1:])
    with Rival(Bare, case, PROBING_LR) as bare:
        for method in ("in_lightning", "in_a_loop"):
            result[method] = 1000 * median([bare.ask(method)[1].cpu for _ in range(9)][1:])
    return result


def table_of_overhead(case: Case, result: Result) -> str:
    """Return the overhead, as a line."""
    trial, lightning, loop = result["trial"], result["in_lightning"], result["in_a_loop"]
    return (
        f"**{case.network}**, a linear probe on cached features, {case.epochs} epochs of {case.steps} steps: a trial "
        f"{trial:.0f} ms, of which Lightning's own loop {lightning:.0f} ms and a bare PyTorch loop {loop:.0f} ms; "
        f"beyond Lightning {trial - lightning:.0f} ms, beyond the bare loop {trial - loop:.0f} ms."
    )


def lenet(case: Case, folder: Path) -> Result:
    """Run LeNet's study with the same strategies, unpruned; then with each one's sampler and pruner."""
    result: Result = {}
    random = np.random.default_rng(0)
    drawn = [_drawn(case, random) for _ in range(case.trials)]
    for name, pruner, chosen in (("same", "none", drawn), ("own", "median", [None] * case.trials)):
        place = made(folder / name)
        setup, _ = write_setup(replace(case, pruner=pruner), place)
        costs: dict[str, float] = {"a": 0.0, "b": 0.0}
        epochs = {"a": 0, "b": 0}
        difference = 0.0
        with (
            Rival(Script, setup, made(place / "a")) as a,
            Rival(Product, replace(case, pruner=pruner), made(place / "b")) as b,
        ):
            for params in chosen:
                losses = {}
                for key, rival in (("a", a), ("b", b)):
                    losses[key], cost = rival.ask("trial", params)
                    costs[key] += cost.cpu
                    epochs[key] += len(losses[key])
                if params is not None:
                    difference = max(difference, *(abs(x - y) for x, y in zip(losses["a"], losses["b"], strict=True)))
        result[name] = {"cpu": costs, "epochs": epochs, "difference": difference}
    return result


def table_of_lenet(case: Case, result: Result) -> str:
    """LeNet's study, as lines."""
    lines = [
        f"**{case.network}**, {case.size} images, {case.trials} trials of {case.epochs} epochs of {case.steps} steps",
        "",
    ]
    for name, title in (("same", "the same strategies, none pruned"), ("own", "each with its own sampler and pruner")):
        cpu, epochs = result[name]["cpu"], result[name]["epochs"]
        apart = f"; losses differ by up to {result[name]['difference']:.1g}" if name == "same" else ""
        lines.append(
            f"- {title}: script {cpu['a']:.1f} s ({epochs['a']} epochs), Frostline {cpu['b']:.1f} s ({epochs['b']} "
            f"epochs), {cpu['a'] / cpu['b']:.2f}x{apart}"
        )
    return "\n".join(lines)


def default(case: Case, folder: Path) -> Result:
    """`python -m search run` in a fresh folder, with 1 and with 2 workers: seconds of the clock and of CPU.

    A case of fewer trials than LeNet's is a quick one: then few trials, at one size.
    """
    result: Result = {}
    fewer = ["--trials", str(case.trials), "--sizes", "50"] if case.trials < LENET.trials else []
    for workers in (1, 2):
        place = made(folder / f"workers-{workers}")
        command = [sys.executable, "-m", "search", "run", "--workers", str(workers), *fewer]
        _, cost = measured(lambda: subprocess.run(command, cwd=place, check=True, capture_output=True))  # noqa: B023
        result[str(workers)] = {"wall": cost.wall, "cpu": cost.cpu}
    return result


def table_of_default(case: Case, result: Result) -> str:
    """Return the default study's times, as a line."""
    each = [
        f"{cost['wall']:.0f} s with {workers} worker(s) (CPU {cost['cpu']:.0f} s)" for workers, cost in result.items()
    ]
    return "The default study, `python -m search run`: " + ", ".join(each) + "."


def growth(case: Case, folder: Path) -> Result:
    """Frostline's cost of a trial by size (filling the cache and after), by freeze depth, by number of trials."""
    probing = {"freeze_depth": case.groups, "head_lr": PROBING_LR}
    last = {"freeze_depth": case.groups - 1, "head_lr": 1e-3, "unfreeze_epoch": 0, "backbone_lr_ratio": 0.3}
    result: Result = {"sizes": {}, "depths": {}, "trials": {}}
    for size in (case.size // 4, case.size, 4 * case.size):
        with Rival(Product, replace(case, size=size), made(folder / f"size-{size}")) as rival:
            result["sizes"][size] = [rival.ask("trial", p)[1].cpu for p in (probing, probing, last, last)]
    with Rival(Product, case, made(folder / "depths")) as rival:
        for depth in range(case.groups, -1, -1):
            params = probing if depth == case.groups else {**last, "freeze_depth": depth}
            result["depths"][depth] = min(rival.ask("trial", params)[1].cpu for _ in range(2))
    many = 15 * case.trials
    with Rival(Product, replace(LENET, epochs=10, pruner="median"), made(folder / "trials")) as rival:
        probing = {"freeze_depth": LENET.groups, "head_lr": PROBING_LR}
        each = [rival.ask("trial", probing)[1].cpu for _ in range(many)]
    result["trials"] = {count: 1000 * mean(each[count - 5 : count]) for count in (many // 10, many // 2, many)}
    return result


def table_of_growth(case: Case, result: Result) -> str:
    """Return the growth of costs, as lines."""
    lines = [f"Frostline's CPU seconds a trial of {case.epochs} epochs of {case.steps} steps, {case.network}", ""]
    for size, (filling, probe, first, last) in result["sizes"].items():
        lines.append(
            f"- {size} images: linear probing {filling:.2f} with the cache empty, then {probe:.2f}; last group "
            f"{first:.2f}, then {last:.2f}"
        )
    depths = ", ".join(f"{depth}: {cost:.2f}" for depth, cost in result["depths"].items())
    trials = ", ".join(f"{cost:.0f} ms around trial {count}" for count, cost in result["trials"].items())
    return "\n".join(
        [*lines, f"- by freeze depth, unfrozen from the start: {depths}", f"- LeNet's linear probe: {trials}"]
    )


def _drawn(case: Case, random: np.random.Generator) -> dict[str, Any]:
    params: dict[str, Any] = {
        "freeze_depth": int(random.integers(0, case.groups + 1)),
        "head_lr": float(np.exp(random.uniform(np.log(3e-4), np.log(3e-2)))),
    }
    if params["freeze_depth"] < case.groups:
        params["unfreeze_epoch"] = int(random.integers(0, case.epochs))
        params["backbone_lr_ratio"] = float(np.exp(random.uniform(np.log(0.03), 0.0)))
    return params
