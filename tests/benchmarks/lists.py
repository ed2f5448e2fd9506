"""The list of 13 strategies: the script against Frostline, strategy by strategy; and in whole, with two workers."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from cases import Case, made
from floor import flops_of_prefixes, flops_of_strategy, matrix_rate
from product import Product, Workers, write_setup
from race import Rival
from script import Script

Result = dict[str, Any]


def strategy_by_strategy(case: Case, folder: Path) -> Result:
    """Each strategy by A, by B, and by B with `precision = "auto"`: costs, losses, test accuracies, floors.

    Linear probing comes twice: before the first time B's cache is empty, and what the others find there is computed.
    """
    setup, flops = write_setup(case, folder)
    rate = matrix_rate()
    strategies = case.strategies()
    probing = next(iter(strategies))
    rows = []
    with ExitStack() as racing:
        rivals = {
            "a": racing.enter_context(Rival(Script, setup, made(folder / "a"))),
            "b": racing.enter_context(Rival(Product, case, made(folder / "b"))),
            "auto": racing.enter_context(Rival(Product, replace(case, precision="auto"), made(folder / "auto"))),
        }
        for name, params in [(f"{probing}, cache empty", strategies[probing]), *strategies.items()]:
            row: Result = {"name": name, "floor": flops_of_strategy(case, flops, params) / rate}
            losses = {}
            for key, rival in rivals.items():
                losses[key], cost = rival.ask("trial", params)
                if key == "b":
                    row["in_layers"] = rival.ask("seconds_in_layers")[0]
                row |= {f"{key}_cpu": cost.cpu, f"{key}_wall": cost.wall, f"{key}_accuracy": rival.ask("accuracy")[0]}
            row["difference"] = max(abs(x - y) for x, y in zip(losses["a"], losses["b"], strict=True))
            rows.append(row)
        start = {key: _start(rival) for key, rival in rivals.items()}
    return {
        "rate": rate,
        "rows": rows,
        "start": start,
        "floor": sum(row["floor"] for row in rows[1:]) + flops_of_prefixes(case, flops) / rate,
    }


def table(case: Case, result: Result) -> str:
    """Return the list as a markdown table."""
    lines = [
        f"**{case.network}**, {case.size} images of {case.pixels} px, {case.epochs} epochs of {case.steps} steps; CPU "
        f"seconds, one thread; floor at {result['rate'] / 1e9:.0f} GFLOP/s",
        "",
        "| strategy | script | Frostline | ratio | in wall | `auto` | ratio | floor | over floor | loss apart by |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in [*result["rows"], total(result)]:
        a, b, auto, floor = row["a_cpu"], row["b_cpu"], row["auto_cpu"], row["floor"]
        over = f"{floor:.2f} | {b / floor:.1f}x" if floor else "0 |"
        lines.append(
            f"| {row['name']} | {a:.2f} | {b:.2f} | {a / b:.1f}x | {row['a_wall'] / row['b_wall']:.1f}x | {auto:.2f} | "
            f"{a / auto:.1f}x | {over} | {row['difference']:.1g} |"
        )
    rows, start = result["rows"][1:], result["start"]
    right = {key: mean(row[f"{key}_accuracy"] for row in rows) for key in ("a", "b", "auto")}
    gap = max(abs(row["auto_accuracy"] - row["a_accuracy"]) for row in rows)
    lines += [
        "",
        f"Test accuracy, mean of the strategies: script {right['a']:.3f}, Frostline {right['b']:.3f}, `auto` "
        f"{right['auto']:.3f} (one strategy's by up to {gap:.3f} off the script's). In frozen layers: "
        f"{sum(row['in_layers'] for row in result['rows']):.1f} s of Frostline's total. To begin: "
        f"{start['a']['cpu']:.1f} s and {start['b']['cpu']:.1f} s. Most memory: {start['a']['peak']:.0f} MB and "
        f"{start['b']['peak']:.0f} MB.",
    ]
    return "\n".join(lines)


def total(result: Result) -> Result:
    """Sum the list. Linear probing counts once, as it came first: with the cache empty."""
    first, _, *others = result["rows"]
    keys = [f"{key}_{kind}" for key in ("a", "b", "auto") for kind in ("cpu", "wall")]
    sums = {key: sum(row[key] for row in [first, *others]) for key in keys}
    difference = max(row["difference"] for row in result["rows"])
    return {"name": "**the list**", "floor": result["floor"], "difference": difference, **sums}


def in_whole(case: Case, folder: Path) -> Result:
    """Time the whole list from nothing: the script on two threads, Frostline's workers three ways."""
    strategies = list(case.strategies().values())
    setup, _ = write_setup(replace(case, threads=2), folder)
    with Rival(Script, setup, made(folder / "a")) as rival:
        cost = rival.start
        for params in strategies:
            cost += rival.ask("trial", params)[1]
    result: Result = {"script, 1 x 2 threads": {"cpu": cost.cpu, "wall": cost.wall}}
    for precision, count, threads in (("auto", 2, 1), ("32-true", 2, 1), ("32-true", 1, 2)):
        name = f"Frostline, {count} x {threads} threads, {precision}"
        chosen = replace(case, precision=precision, threads=threads)
        with Rival(Workers, chosen, made(folder / name.replace(" ", ""))) as rival:
            done, spent = rival.ask("run", strategies, count)
            spent += rival.start
        result[name] = {"cpu": spent.cpu, "wall": spent.wall, "complete": done}
    return result


def table_in_whole(case: Case, result: Result) -> str:
    """Return the whole list as a markdown table."""
    script = result["script, 1 x 2 threads"]
    lines = [
        f"**{case.network}**, the whole list, imports and loading included",
        "",
        "| | wall, s | CPU, s | ratio in wall |",
    ]
    lines += ["|---|---|---|---|"]
    for name, cost in result.items():
        lines.append(f"| {name} | {cost['wall']:.1f} | {cost['cpu']:.1f} | {script['wall'] / cost['wall']:.2f} |")
    return "\n".join(lines)


def _start(rival: Rival) -> Result:
    # What it costs a rival to begin, in seconds, and the most memory that it had, in MB.
    return {"cpu": rival.start.cpu, "wall": rival.start.wall, "peak": rival.peak()}
