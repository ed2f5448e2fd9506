"""How the house reads: docstrings, comments, messages, names and commits in plain words."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(file for package in ("search", "strategies") for file in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "studies").glob("*.md"), *(ROOT / "search").rglob("*.jinja*")])

MAX_FIRST_LINE_WORDS = 15
MAX_SENTENCE_WORDS = 25
MAX_TEST_NAME = 60
MAX_SUBJECT = 72
OPENERS = re.compile(r"(What|Who|Whom|Whose|Whether|That|Those)\b")
UNUSED = re.compile(
    r"(?<![a-z])(anew|anyhow|told|lies|stands|comes?\s+to|goes\s+on|in\s+hand|(un)?luck(y|ily)?|ours|whom|"
    r"thaw(s|ed|ing)?|finalists?|entrants?|contestants?|anchors?)(?![a-z])",
    re.IGNORECASE,
)
"""Words that the house does not use, and those that its glossary replaced."""
SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bet al\.)(?<!\bcf\.)(?<!\bvs\.)\s+")
ITEM = re.compile(r"`?[\w.\[\]]+`?(, `?[\w.\[\]]+`?)*: |[-*] |\d+\. ")
"""The start of a docstring's line about one field, or of a list's item: `size: labelled examples to train on.`"""


def docstrings(file: Path) -> Iterator[tuple[int, str]]:
    """Yield every docstring of a file with its line, those under constants and fields included."""
    for node in ast.walk(ast.parse(file.read_text())):
        body = getattr(node, "body", [])
        for statement in body if isinstance(body, list) else []:
            value = getattr(statement, "value", None) if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.lineno, cleandoc(value.value)


def words(file: Path) -> Iterator[tuple[int, str]]:
    """Yield strings (the fixed parts of f-strings too), comments and names of a file, with their lines."""
    text = file.read_text()
    if file.suffix != ".py":
        yield 1, text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.NAME):
            yield token.start[0], token.string if token.type == tokenize.COMMENT else token.string.replace("_", " ")


def sentences(docstring: str) -> Iterator[str]:
    """Yield the sentences of a docstring without code blocks and tables; each item of a list starts one."""
    for paragraph in re.split(r"\n\s*\n", docstring):
        lines = paragraph.splitlines()
        if all(line.startswith("    ") for line in lines) or any(re.match(r"\s*(\||>>>)", line) for line in lines):
            continue
        items: list[str] = []
        for line in map(str.strip, lines):
            if items and not ITEM.match(line):
                items[-1] += f" {line}"
            else:
                items.append(line)
        for item in items:
            yield from SENTENCE_END.split(item)


def place(file: Path, line: int) -> str:
    return f"{file.relative_to(ROOT)}:{line}"


def test_docstrings_open_plainly():
    wrong = []
    for file in [*SOURCES, *TESTS]:
        for line, text in docstrings(file):
            first = text.partition("\n")[0]
            if OPENERS.match(first):
                wrong.append(f"{place(file, line)} begins with {first.split()[0]}")
            if file in SOURCES and len(first.split()) > MAX_FIRST_LINE_WORDS:
                wrong.append(f"{place(file, line)} has a first line of {len(first.split())} words")
    assert wrong == []


def test_docstrings_have_short_sentences():
    found = ((f, line, s) for f in SOURCES for line, text in docstrings(f) for s in sentences(text))
    long = [(file, line, s) for file, line, s in found if len(s.split()) > MAX_SENTENCE_WORDS]
    assert [f"{place(file, line)}: {len(s.split())} words: {s[:60]}..." for file, line, s in long] == []


def test_words_of_the_glossary_are_used():
    found = ((f, line, text, m) for f in [*SOURCES, *PAGES] for line, text in words(f) for m in UNUSED.finditer(text))
    assert [f"{place(f, line + text.count(chr(10), 0, m.start()))}: {m[0]}" for f, line, text, m in found] == []


def test_names_of_tests_are_short():
    nodes = (node for file in TESTS for node in ast.walk(ast.parse(file.read_text())))
    names = (node.name for node in nodes if isinstance(node, ast.FunctionDef))
    assert [name for name in names if name.startswith("test_") and len(name) > MAX_TEST_NAME] == []


def test_subjects_of_commits_are_short():
    log = ["git", "log", "--format=%s", "b0734ca..HEAD"]
    done = subprocess.run(log, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no git history here, or not far enough back")
    assert [subject for subject in done.stdout.splitlines() if len(subject) > MAX_SUBJECT] == []
