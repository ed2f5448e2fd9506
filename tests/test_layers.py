"""Which way imports may run: each module in a fresh interpreter, and what must not have come with it."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("search", "strategies")
    for file in (ROOT / package).rglob("*.py")
    if file.name != "__main__.py"
)
NO_TORCH = {"torch", "lightning"}
LIBRARIES = ("torchvision", "timm", "transformers")
FORBIDDEN = {
    "search": {"torch", "lightning", "optuna", "plotly", "pydantic", "numpy"},
    "search.cli": {"torch", "lightning", "optuna", "plotly", "pydantic", "numpy", "sqlalchemy"},
    "search.plots": NO_TORCH | {"optuna"},
    "search.payoff": NO_TORCH | {"optuna"},
    "search.tried": NO_TORCH | {"optuna"},
    "search.style": NO_TORCH | {"optuna"},
    "search.report": NO_TORCH | {"optuna"},
    "search.between": NO_TORCH | {"optuna"},
    "search.confirm": NO_TORCH | {"optuna"},
    "search.weighing": NO_TORCH | {"optuna"},
    "search.verdict": NO_TORCH | {"optuna"},
    "search.evidence": NO_TORCH | {"optuna"},
    "search.measure": NO_TORCH | {"optuna"},
    "search.predictions": NO_TORCH | {"optuna"},
    "search.rows": NO_TORCH | {"optuna"},
    "search.spec": NO_TORCH | {"optuna"},
    "search.results": NO_TORCH,
    "search.best": NO_TORCH,
    "search.run": NO_TORCH,
    "search.study": NO_TORCH,
    "search.pruning": NO_TORCH,
    "search.activations": {"lightning", "optuna", *LIBRARIES},
    "search.activations.digests": {"lightning", "optuna", *LIBRARIES},
    "search.activations.worth": {"lightning", "optuna", *LIBRARIES},
    "strategies": NO_TORCH | {"search", "optuna", "numpy"},
    "strategies.strategy": NO_TORCH | {"search", "optuna", "numpy"},
    "strategies.schedule": NO_TORCH | {"search", "optuna", "numpy"},
    "strategies.checks": NO_TORCH | {"search", "optuna", "numpy"},
    "strategies.files": NO_TORCH | {"search", "optuna", "numpy"},
    "strategies.groups": {"search", "optuna", "lightning", *LIBRARIES},
    "strategies.thaw": {"search", "optuna", "lightning", *LIBRARIES},
    "strategies.optim": {"search", "optuna", "lightning"},
    "strategies.preflight": {"search", "optuna"},
    "strategies.callback": {"search", "optuna"},
}


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(FORBIDDEN, pool.map(loaded_by, FORBIDDEN), strict=True))


def test_every_rule_names_a_module():
    assert set(FORBIDDEN) <= set(MODULES)


@pytest.mark.parametrize("module", FORBIDDEN)
def test_imports_run_one_way(loaded, module):
    assert not loaded[module] & FORBIDDEN[module]


def test_strategies_never_names_search():
    for file in (ROOT / "strategies").glob("*.py"):
        assert "search" not in {word for line in file.read_text().splitlines() for word in _imported(line)}, file


def _imported(line: str) -> list[str]:
    words = line.split()
    return [words[1].split(".")[0]] if words[:1] in (["import"], ["from"]) else []


@pytest.mark.parametrize("package", ["search", "strategies"])
def test_public_names_are_there(package):
    code = f"import {package}; [getattr({package}, name) for name in {package}.__all__]"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
