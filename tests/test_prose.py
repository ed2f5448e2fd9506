"""How the house reads: docstrings, comments, messages, test names and commits in plain words."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(file for package in ("search", "strategies") for file in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "studies").glob("*.md"))]

MAX_FIRST_LINE_WORDS = 15
MAX_SENTENCE_WORDS = 25
MAX_TEST_NAME = 60
MAX_SUBJECT = 72
OPENERS = re.compile(r"(What|Who|Whom|Whose|Whether|That|Those)\b")
UNUSED = re.compile(
    r"\b(anew|anyhow|told|lies|stands|comes? to|goes on|in hand|(?<!Wellness )luck\w*|unlucky|ours|thaw\w*|"
    r"finalists?|entrants?|contestants?|anchors?|whom)\b",
    re.IGNORECASE,
)
"""Words that the house does not use, and those that its glossary replaced."""
FIELD = re.compile(r"`?[\w.]+`?(, `?[\w.]+`?)*: ")
"""The start of a docstring's line about one field: `size: labelled examples to train on.`"""


def docstrings(file: Path) -> Iterator[tuple[int, str]]:
    """Every docstring of a file with its line, those under constants and fields included."""
    for node in ast.walk(ast.parse(file.read_text())):
        for statement in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                if isinstance(statement.value.value, str):
                    yield statement.lineno, statement.value.value


def prose(file: Path) -> Iterator[tuple[int, str]]:
    """Docstrings, comments and string literals of a file, with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
        elif token.type in (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)):
            yield token.start[0], token.string


def sentences(docstring: str) -> Iterator[str]:
    """The sentences of a docstring; code blocks are left out, and each line about a field starts one."""
    for paragraph in re.split(r"\n\s*\n", docstring):
        if re.match(r"\n? {6,}\S|.*>>>|\s*\|", paragraph) or "::" in paragraph:
            continue
        lines: list[str] = []
        for line in paragraph.splitlines():
            if lines and not FIELD.match(line.strip()) and not re.match(r"\s*([-*]|\d+\.) ", line):
                lines[-1] += f" {line.strip()}"
            else:
                lines.append(line.strip())
        for line in lines:
            yield from re.split(r"(?<=[.!?])\s+(?=[A-Z`\"'(0-9a-z])", line)


def place(file: Path, line: int) -> str:
    return f"{file.relative_to(ROOT)}:{line}"


@pytest.mark.parametrize("file", [*SOURCES, *TESTS], ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_open_plainly(file):
    wrong = []
    for line, text in docstrings(file):
        first = text.strip().splitlines()[0] if text.strip() else ""
        if OPENERS.match(first):
            wrong.append(f"{place(file, line)} begins with {first.split()[0]}")
        if file in SOURCES and len(first.split()) > MAX_FIRST_LINE_WORDS:
            wrong.append(f"{place(file, line)} has a first line of {len(first.split())} words")
    assert wrong == []


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_have_short_sentences(file):
    long = [
        f"{place(file, line)}: {len(sentence.split())} words: {sentence[:60]}..."
        for line, text in docstrings(file)
        for sentence in sentences(text)
        if len(sentence.split()) > MAX_SENTENCE_WORDS
    ]
    assert long == []


@pytest.mark.parametrize("file", [*SOURCES, *PAGES], ids=lambda file: str(file.relative_to(ROOT)))
def test_words_of_the_glossary_are_used(file):
    texts = prose(file) if file.suffix == ".py" else enumerate(file.read_text().splitlines(), start=1)
    assert [f"{place(file, line)}: {found[0]}" for line, text in texts for found in UNUSED.finditer(text)] == []


@pytest.mark.parametrize("file", TESTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_names_of_tests_are_short(file):
    names = [node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    assert [name for name in names if name.startswith("test_") and len(name) > MAX_TEST_NAME] == []


def test_subjects_of_commits_are_short():
    log = ["git", "log", "--format=%s", "b0734ca..HEAD"]
    done = subprocess.run(log, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no git history here, or not far enough back")
    assert [subject for subject in done.stdout.splitlines() if len(subject) > MAX_SUBJECT] == []
