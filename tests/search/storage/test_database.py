"""Opening a database: what its URL may be, its tables, and its errors."""

import sqlite3
import time
from contextlib import closing

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from search.errors import StorageError, StudyError
from search.storage.database import exists, open_storage
from search.storage.location import StudyLocation
from search.storage.rdb import leased_storage
from search.storage.url import Database, redacted
from search.verdict.load import load_results


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("study.db", "is not a database URL; for a file write sqlite:///study.db; allowed: sqlite:///"),
        ("mysql://u@h/d", "can't hold a study; allowed: sqlite:///"),
        ("sqlite://", "can't hold a study"),
        ("sqlite:///:memory:", "can't hold a study"),
        ("", "is not a database URL; allowed"),
        ("://", "is not a database URL"),
    ],
)
def test_parse_refuses_a_wrong_url_and_says_what_to_type(url, message):
    with pytest.raises(StorageError) as caught:
        Database.parse(url)
    assert message in str(caught.value)


def test_redacted_hides_the_password():
    assert redacted("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"


def test_parse_names_a_missing_folder():
    with pytest.raises(StorageError, match="there is no folder '/no/such'"):
        Database.parse("sqlite:////no/such/x.db")


def test_reading_makes_no_database(tmp_path):
    location = StudyLocation.of("digits", out=tmp_path, storage=None)
    assert not exists(location.database)
    with pytest.raises(StudyError, match="There is no study 'digits': nothing is stored at sqlite:///"):
        load_results(location)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault
def test_corrupt_database_is_refused_in_one_line(tmp_path, tell):
    location = StudyLocation.of("digits", out=tmp_path, storage=None)
    location.folder.mkdir()
    open_storage(location.database, create=True)._backend.engine.dispose()
    file = location.database.file
    content = bytearray(file.read_bytes())
    content[100:4096] = b"\xff" * 3996
    file.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        load_results(location)
    assert "\n" not in str(caught.value)
    tell("corrupt database", "refused in one line")


def test_foreign_database_holds_no_study(tmp_path):
    file = tmp_path / "x.db"
    with sqlite3.connect(file) as connection:
        connection.execute("create table cats (name text)")
    with pytest.raises(StudyError, match="There is no study 'digits'"):
        load_results(StudyLocation.of("digits", out=tmp_path, storage=f"sqlite:///{file}"))


def test_sqlite_runs_in_wal_mode(tmp_path):
    file = tmp_path / "x.db"
    storage = open_storage(Database.at(file), create=True)
    storage.get_all_studies()
    with sqlite3.connect(file) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("name", ["a b", "a{b}", "a%20b", "a?b", "a#b", "ü"])
def test_folder_may_have_any_name(tmp_path, name):
    location = StudyLocation.of("digits", out=tmp_path / name, storage=None)
    location.folder.mkdir(parents=True)
    open_storage(location.database, create=True)
    assert (location.folder / "study.db").is_file()
    assert exists(location.database)


def test_open_storage_holds_no_connection_while_it_waits(postgres):
    url, seen, fails = postgres.url(), [], [True]

    def fail(connection, cursor, text, *_):
        if "version_info" in text and fails and connection.engine.url.database:
            fails.clear()
            raise OperationalError(text, {}, psycopg.OperationalError("too many connections"))

    def notify(note):
        count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{url.rpartition('/')[2]}'"
        limit = time.monotonic() + 300  # the server takes a moment to see that a client has gone
        while "resumed" not in note and postgres.sql(count, "postgres") != "0":
            assert time.monotonic() < limit
            time.sleep(0.05)
        seen.append(note)

    leased_storage(open_storage(Database.parse(url), create=True)).engine.dispose()
    sqlalchemy.event.listen(Engine, "before_cursor_execute", fail)
    try:
        leased_storage(open_storage(Database.parse(url), create=True, patience=60, notify=notify)).engine.dispose()
    finally:
        sqlalchemy.event.remove(Engine, "before_cursor_execute", fail)
    assert not fails
    assert len(seen) == 2


def test_exists_is_false_while_tables_are_being_made(tmp_path):
    # Opening it now would stamp its version a second time, and the maker would fail.
    file = tmp_path / "x.db"
    open_storage(Database.at(file), create=True)
    with sqlite3.connect(file) as connection:
        connection.execute("delete from alembic_version")
    assert not exists(Database.at(file))
    with pytest.raises(StorageError, match="There is no database at"):
        open_storage(Database.at(file))
    open_storage(Database.at(file), create=True)
    assert exists(Database.at(file))


@pytest.mark.fault
def test_tables_are_complete_after_a_kill_at_any_statement(tmp_path, tell):
    class Died(BaseException):
        pass

    left = [0]

    def die(connection, cursor, text, *_):
        if text.strip().startswith(("CREATE", "INSERT")):
            left[0] -= 1
            if left[0] == 0:
                raise Died

    def content(file):
        with closing(sqlite3.connect(file)) as connection:
            return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()

    whole = tmp_path / "whole.db"
    leased_storage(open_storage(Database.at(whole), create=True)).engine.dispose()
    sqlalchemy.event.listen(Engine, "before_cursor_execute", die)
    try:
        for statement in range(1, 1000):
            file, left[0] = tmp_path / f"{statement}.db", statement
            try:
                open_storage(Database.at(file), create=True)
            except Died:
                leased_storage(open_storage(Database.at(file), create=True)).engine.dispose()
                assert content(file) == content(whole), f"died before statement {statement}"
                assert exists(Database.at(file))
            else:
                break
    finally:
        sqlalchemy.event.remove(Engine, "before_cursor_execute", die)
    assert statement > 15
    assert any("ix_studies_study_name" in row for row in content(whole))
    tell("SIGKILL while the tables are made", "completed by the next process")


def test_location_shows_only_the_variable_that_holds_the_url(tmp_path, monkeypatch):
    monkeypatch.setenv("FROSTLINE_DB", f"sqlite:///{tmp_path}/own.db")
    location = StudyLocation.of("mine", out=tmp_path, storage="env:FROSTLINE_DB")
    assert location.database.url == f"sqlite:///{tmp_path}/own.db"
    assert location.storage == "env:FROSTLINE_DB"


@pytest.mark.parametrize("storage", ["env:", "env:FROSTLINE_NOT_SET", "env:A=B"])
def test_parse_names_a_variable_that_is_not_set(tmp_path, storage):
    with pytest.raises(StorageError, match=f"--storage {storage}: the environment variable '.*' is not set"):
        StudyLocation.of("mine", out=tmp_path, storage=storage)
