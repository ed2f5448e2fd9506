"""Imports run down only: a table of rooms, read against the syntax tree, and against fresh interpreters."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEVELS = (
    "strategies",
    "search search/errors search/files search/array_file search/digest search/seeds search/user_code search/device "
    "search/pruning",
    "search/spec",
    "search/data search/storage",
    "search/models search/verdict",
    "search/task search/study search/report",
    "search/activations search/run_config",
    "search/training search/progress",
    "search/workers search/final_model",
    "search/run",
    "search/api",
    "search/cli",
    "search/__main__",
)
"""Rooms from the ground up. A room imports from lower levels and from itself, not from its own level."""
GROUND = LEVELS[1].split()
DOORS = {"search.api", "search.verdict.best", "search.pruning", "search.spec.study_spec"}
"""Modules whose names `search/__init__` exports; it loads them on first use."""

HEAVY = {"torch", "lightning", "optuna", "plotly", "pydantic", "numpy", "sqlalchemy"}
NO_LIBRARY = (
    ("strategies", {"search", "optuna"}, ()),
    ("search/report", {"torch", "lightning", "optuna"}, ("search/report/dashboard.py",)),
    ("search/verdict", {"torch", "lightning", "optuna"}, ("search/verdict/load.py", "search/verdict/importances.py")),
)
"""Libraries that no file of a folder names, and the files that may name optuna all the same."""
LOADED = {
    "search.cli": HEAVY,
    "search": HEAVY,
    "strategies": {"search", "torch", "lightning", "optuna", "numpy"},
    "search.report.page": {"torch", "lightning", "optuna"},
    "search.verdict.judge": {"torch", "lightning", "optuna"},
    "search.verdict.load": {"torch", "lightning"},
}
"""Modules, and the libraries that importing them must not load."""


class Import(NamedTuple):
    file: str
    line: int
    module: str
    top_level: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports_of(root: Path) -> list[Import]:
    """Return every import in `search` and `strategies`, those inside functions too."""
    files = sorted(file for package in ("search", "strategies") for file in (root / package).rglob("*.py"))
    modules = {_module(file.relative_to(root)) for file in files}
    return [
        Import(file.relative_to(root).as_posix(), line, module, top)
        for file in files
        for line, module, top in _imports(ast.parse(file.read_text()), modules)
    ]


def _module(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def _imports(tree: ast.Module, modules: set[str]) -> Iterator[tuple[int, str, bool]]:
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the room"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in modules else str(node.module), top


def room_of(module: str) -> str:
    """Return a module's room: `search/data` of `search.data.npz`, `search/run` of `search.run`."""
    parts = module.split(".")
    return parts[0] if parts[0] == "strategies" else "/".join(parts[:2])


def level_of(room: str) -> int:
    return next((number for number, rooms in enumerate(LEVELS) if room in rooms.split()), -1)


def misplaced(imports: list[Import]) -> list[str]:
    """Return the imports that break the table of levels, each with its file and line."""
    broken = []
    for one in imports:
        importer, imported = room_of(_module(Path(one.file))), room_of(one.module)
        if one.module.split(".")[0] not in ("search", "strategies") or importer == imported:
            continue
        if importer == "search" and one.module in DOORS:
            continue
        if level_of(importer) < 0 or level_of(imported) < 0:
            broken.append(f"{one}: a room that no level names")
        elif level_of(imported) > level_of(importer) or (
            level_of(imported) == level_of(importer) and importer not in GROUND
        ):
            broken.append(f"{one}: {imported} is not below {importer}")
    return broken


def circle(imports: list[Import]) -> list[str]:
    """Return files that import each other in a circle; [] if there are none."""
    graph: dict[str, set[str]] = {}
    for one in imports:
        module = _module(Path(one.file))
        if one.module.split(".")[0] in ("search", "strategies") and not (module == "search" and one.module in DOORS):
            graph.setdefault(module, set()).add(one.module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return imports_of(ROOT)


def test_imports_run_down_the_levels(imports):
    assert misplaced(imports) == []


def test_no_files_import_in_a_circle(imports):
    assert circle(imports) == []


@pytest.mark.parametrize(("folder", "libraries", "excepted"), NO_LIBRARY)
def test_folders_name_no_heavy_library(folder, libraries, excepted, imports):
    named = [one for one in imports if one.file.startswith(f"{folder}/") and one.module.split(".")[0] in libraries]
    assert [str(one) for one in named if not (one.file in excepted and one.module.startswith("optuna"))] == []


def test_cli_imports_nothing_heavy_at_the_top(imports):
    named = [one for one in imports if one.file == "search/cli.py" and one.top_level]
    assert [str(one) for one in named if one.module.split(".")[0] in HEAVY] == []


def test_misplaced_names_file_and_line(tmp_path):
    for file, text in {
        "search/data/npz.py": "def load():\n    from search.task.task import Task\n",
        "search/task/task.py": "from search.data.npz import load\n",
        "search/attic/box.py": "import search.errors\n",
        "strategies/strategy.py": "from search.errors import SpecError\n",
        "search/errors.py": "",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    found = imports_of(tmp_path)
    assert misplaced(found) == [
        "search/attic/box.py:1 imports search.errors: a room that no level names",
        "search/data/npz.py:2 imports search.task.task: search/task is not below search/data",
        "strategies/strategy.py:1 imports search.errors: search/errors is not below strategies",
    ]
    assert set(circle(found)) == {"search.data.npz", "search.task.task"}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    def by(module: str) -> set[str]:
        code = f"import sys, {module}; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        return set(done.stdout.split())

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(LOADED, pool.map(by, LOADED), strict=True))


@pytest.mark.parametrize("module", LOADED)
def test_a_fresh_import_loads_nothing_heavy(module, loaded):
    assert not loaded[module] & LOADED[module]


@pytest.mark.parametrize("package", ["search", "strategies"])
def test_public_names_exist(package):
    module = import_module(package)
    assert all(hasattr(module, name) for name in module.__all__)


def test_search_keeps_few_files_of_its_own():
    assert len(list((ROOT / "search").glob("*.py"))) <= 15


def test_every_room_has_a_docstring():
    for folder in {file.parent for package in ("search", "strategies") for file in (ROOT / package).rglob("*.py")}:
        assert (ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or "").strip(), folder


def test_no_file_is_too_long_or_a_ragbag():
    for package in ("search", "strategies"):
        for file in (ROOT / package).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 300, file
            assert file.stem not in ("utils", "helpers", "common"), file
