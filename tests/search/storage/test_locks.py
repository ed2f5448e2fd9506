"""Locks between processes, and the lock files that show which process owns a trial."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from search.errors import StorageError
from search.storage.location import StudyLocation
from search.storage.locks import lock_file
from search.storage.owner import WorkerLease, sweep

COUNT = """
import sys
from pathlib import Path
from search.storage.locks import file_lock
folder = Path(sys.argv[1])
for _ in range(300):
    with file_lock(folder / "locks", "count"):
        count = int((folder / "count").read_text())
        (folder / "count").write_text(str(count + 1))
"""


def test_file_lock_is_exclusive_and_leaves_no_file(tmp_path):
    (tmp_path / "count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, tmp_path]) for _ in range(4)]
    assert [process.wait(600) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "1200"
    assert not [*(tmp_path / "locks").iterdir()]


def test_lock_file_does_not_take_a_file_that_its_holder_unlinked(tmp_path):
    file, taken = tmp_path / "a.lock", []
    first = lock_file(file)
    waiting = threading.Thread(target=lambda: taken.append(lock_file(file)))
    waiting.start()
    time.sleep(0.2)  # it waits for the first file
    file.unlink()
    os.close(first)
    waiting.join(60)
    assert os.path.samestat(os.fstat(taken[0]), file.stat())
    os.close(taken[0])


def test_lock_file_names_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError, match="this file system locks no files"):
        lock_file(tmp_path / "a.lock")


def test_lease_is_free_when_its_block_ends(tmp_path):
    location = StudyLocation.of("digits", out=tmp_path, storage=None)
    with WorkerLease.new().held(location) as owner:
        assert WorkerLease.parse(str(owner)) == owner
        assert not owner.has_exited(location)
        renamed = WorkerLease("this-host-once-had-another-name", owner.token)
        assert not renamed.has_exited(location)
    assert owner.has_exited(location)
    assert renamed.has_exited(location), "all who share a database file are on this host"
    server = StudyLocation.of("digits", out=tmp_path, storage="postgresql://host/db")
    assert not renamed.has_exited(server), "of other hosts nothing is known"


def test_locations_of_one_database_file_share_its_locks(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.db").symlink_to(tmp_path / "a.db")
    one, other, link = (
        StudyLocation.of("digits", out=tmp_path / out, storage=f"sqlite:///{tmp_path / file}")
        for out, file in (("a", "a.db"), ("b", "a.db"), ("a", "elsewhere/b.db"))
    )
    with WorkerLease.new().held(one) as owner:
        assert not owner.has_exited(other)
        assert not owner.has_exited(link)


def test_copied_folder_makes_no_owner_look_exited(tmp_path):
    location, copy = (StudyLocation.of("digits", out=tmp_path / out, storage="postgresql://host/db") for out in "ab")
    with WorkerLease.new().held(location) as owner:
        shutil.copytree(location.folder, copy.folder)
        assert not owner.has_exited(copy), "there its lock would be free"
        sweep(copy)
        assert not [*copy.locks.iterdir()]
        assert not owner.has_exited(location)
    assert owner.has_exited(location)


def test_sweep_removes_only_files_of_exited_owners(tmp_path):
    location = StudyLocation.of("digits", out=tmp_path, storage="postgresql://host/db")
    with WorkerLease.new().held(location) as alive:
        with WorkerLease.new().held(location) as dead:
            pass
        assert dead.has_exited(location), "its free lock shows it"
        sweep(location)
        assert [*location.locks.iterdir()] == [alive.file(location)]
    sweep(location)
    assert not [*location.locks.iterdir()]


def test_run_leaves_no_lock_file(finished):
    assert not [*StudyLocation.of("tiny", out=finished / "studies", storage=None).locks.iterdir()]
