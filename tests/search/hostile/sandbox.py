"""A working directory for hostile inputs, with files beside it that nothing may touch."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECRET = "hunter2-s3cr3t"
RUNS_CODE = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class")
"""Events of `sys.audit` when Python unpickles an object by its own machinery, or starts a program."""
CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n"} | set("\u202e\u2066\u200f\u2028")
"""Characters that move a terminal's cursor, reverse its text, or end a line."""

SPEC = {
    "task": {"data": "digits", "sizes": [20, 40, "all"]},
    "model": {"backbone": "small_cnn"},
    "source": {"data": "digits-0-4"},
    "train": {"epochs": 4},
    "search": {"trials": 2},
    "confirm": {"repeats": 5},
}
"""The study file of the study that is attacked."""


class Canary:
    """A pickle that leaves a folder behind when it is loaded as code."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


@dataclass(frozen=True, slots=True)
class Output:
    """A command's exit code, and what it printed."""

    code: int
    out: str
    err: str


class Sandbox:
    """A working directory; beside it is a folder that no test has a reason to open, write or remove."""

    secret = SECRET

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.outside = root / "outside"
        self.canary = root / "canary"
        self.work.mkdir()
        self.outside.mkdir()
        (self.outside / "treasure.toml").write_text("treasure")
        (self.outside / "x").mkdir()
        self.seen: list[str] = []
        self.before = self.files()

    @property
    def payload(self) -> Canary:
        return Canary(self.canary)

    def files(self) -> dict[str, bytes | None]:
        """Everything below the root, by its path."""
        return {
            str(path): path.read_bytes() if path.is_file() else None
            for path in self.root.rglob("*")
            # SQLite keeps these two beside a database while it is open.
            if not path.name.endswith((".db-wal", ".db-shm")) and path != self.canary
        }

    def arm(self) -> None:
        """Take all files that are there now for the attacker's, which must stay as they are."""
        self.before = self.files()
        self.seen.clear()

    def check(self, *, written: bool = False) -> None:
        """Assert that nothing ran and nothing outside was touched; unless `written`, no file is new."""
        assert not self.canary.exists(), "the payload ran"
        assert self.seen == []
        after = self.files()
        inside = str(self.work)
        assert {p: c for p, c in after.items() if not p.startswith(inside)} == {
            p: c for p, c in self.before.items() if not p.startswith(inside)
        }
        assert all(SECRET.encode() not in (content or b"") for content in after.values())
        if not written:
            assert after == self.before, "something was written"

    def place(self, name: str) -> Path:
        """Put the file system's traps into the working directory; return the path of one, or of another name."""
        for kind in ("toml", "npz", "csv", "pt"):
            os.mkfifo(f"pipe.{kind}")
            os.mkdir(f"folder.{kind}")
            os.symlink(f"loop.{kind}", f"loop.{kind}")
        self.arm()
        return Path(name)


WATCHED: list[Sandbox] = []


def hear(event: str, arguments: tuple[Any, ...]) -> None:
    for sandbox in WATCHED:
        if event.startswith(RUNS_CODE):
            sandbox.seen.append(f"{event} {arguments!r:.200}")
        elif event in ("open", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "sqlite3.connect"):
            named = [os.fsdecode(one) for one in arguments[:2] if isinstance(one, str | bytes)]
            # A link is followed where it is opened, and itself replaced or removed.
            places = map(os.path.realpath, named if event == "open" else map(os.path.dirname, named))
            if any(place.startswith(str(sandbox.outside)) for place in places):
                sandbox.seen.append(f"{event} {named}")


def one_line(error: Exception | None) -> str:
    """Return the text of an error: one line, safe on a terminal and not long."""
    text = str(error)
    assert error is not None
    assert not (CONTROLS | {"\n"}) & set(text)
    assert len(text) < 3000
    return text
