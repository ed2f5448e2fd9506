"""Frostline against the plain script, on this machine: `python tests/benchmarks/speed.py` in a checkout.

Prints markdown and keeps all figures in a JSON file, into which parts that are run one by one (`--only`) are merged.
It needs what `cases.assets` says.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lists
import torch
from cases import LENET, MOBILENET, RESNET, Case

import studies

Result = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One measurement: what it is made on, how, and how it is shown."""

    case: Case
    run: Callable[[Case, Path], Result]
    table: Callable[[Case, Result], str]


PARTS = {
    "list-mobilenet": Part(case=MOBILENET, run=lists.strategy_by_strategy, table=lists.table),
    "list-resnet": Part(case=RESNET, run=lists.strategy_by_strategy, table=lists.table),
    "whole-mobilenet": Part(case=MOBILENET, run=lists.in_whole, table=lists.table_in_whole),
    "whole-resnet": Part(case=RESNET, run=lists.in_whole, table=lists.table_in_whole),
    "overhead": Part(case=replace(RESNET, steps=25), run=studies.overhead, table=studies.table_of_overhead),
    "lenet": Part(case=LENET, run=studies.lenet, table=studies.table_of_lenet),
    "growth": Part(case=replace(RESNET, epochs=4, steps=5), run=studies.growth, table=studies.table_of_growth),
    "default": Part(case=LENET, run=studies.default, table=studies.table_of_default),
}
QUICK = {"epochs": 4, "steps": 1, "size": 100, "tested": 50}


def hardware() -> str:
    """Describe the machine in the line that every figure belongs to."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores; Python {platform.python_version()}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, by commas: {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, default=Path("benchmark.json"), help="where the figures are kept")
    parser.add_argument("--steps", type=int, help="steps an epoch of the lists, for a longer or shorter run")
    parser.add_argument("--quick", action="store_true", help="does it run at all? No figure of it means anything")
    options = parser.parse_args()
    found = json.loads(options.json.read_text()) if options.json.exists() else {"parts": {}}
    found["hardware"] = hardware()
    print(f"{found['hardware']}\n")
    for name in options.only.split(","):
        if name not in PARTS:
            raise SystemExit(f"There is no part {name!r}; allowed: {', '.join(PARTS)}.")
        part, started = PARTS[name], time.perf_counter()
        case = part.case
        if options.steps and name.startswith(("list", "whole")):
            case = replace(case, steps=options.steps)
        if options.quick:
            case = replace(case, **QUICK, trials=min(case.trials, 4))
        with TemporaryDirectory() as folder:
            result = part.run(case, Path(folder))
        seconds = time.perf_counter() - started
        found["parts"][name] = {"case": asdict(case), "seconds": seconds, "result": result}
        options.json.write_text(json.dumps(found, indent=1))
        print(f"{part.table(case, result)}\n\n({name}: {seconds:.0f} s)\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
