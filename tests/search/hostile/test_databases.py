"""Impossible databases, and passwords where people put them: nothing is written, and no password is shown."""

import pytest

from search.storage.database import open_storage
from search.storage.url import Database

REFUSED = {
    "a path": "study.db",
    "a web page": "http://me:PASSWORD@127.0.0.1/",
    "no scheme": "me:PASSWORD@127.0.0.1/db",
    "no port": "postgresql://me:PASSWORD@127.0.0.1:port/db",
    "huge port": f"postgresql://me:PASSWORD@127.0.0.1:{'9' * 5000}/db",
    "half an IPv6": "postgresql://me:PASSWORD@[::1/db",
    "an @ in it": "postgresql://me:PASSWORD@x@127.0.0.1:y/db",
    "a newline in it": "postgresql://me:a\nPASSWORD@127.0.0.1:x/db",
    "closed": "postgresql://me:PASSWORD@127.0.0.1:1/db",
    "in the query": "postgresql://127.0.0.1:1/db?password=PASSWORD&password=PASSWORD",
    "in the query of a port": "postgresql://127.0.0.1:x/db?sslpassword=PASSWORD",
    "not an option": "postgresql://me:PASSWORD@127.0.0.1:1/db?nosuch=1",
    "a template": "postgresql://me:{PASSWORD}@127.0.0.1:1/{0.__class__.__mro__}",
    "MySQL": "mysql+pymysql://me:PASSWORD@127.0.0.1/db",
    "SQLite by URI": "sqlite:///file:../outside/treasure.toml?mode=ro&uri=true",
    "endless": "sqlite:////dev/zero",
    "a text": "sqlite:////etc/passwd",
    "a NUL": "sqlite:///x\0.db",
    "an escape": "sqlite:///\x1b[2J\nx.db",
    "an unset variable": "env:FROSTLINE_NOT_SET",
    "an impossible variable": "env:A=B\0\x1b[2J",
}
LISTED = {
    "SQLite in memory": "sqlite:///:memory:",
    "a pipe": "sqlite:///pipe.csv",
    "a URI": "sqlite:///file:x.db",
    "closed": REFUSED["closed"],
    "no variable": "env:",
}
IN_A_VARIABLE = {
    "only a password": "PASSWORD",
    "malformed": "postgresql://me:PASSWORD@127.0.0.1:x/db",
    "closed": REFUSED["closed"],
}


def ask(frostline, storage, *command):
    return frostline(*command, "--storage", storage)


@pytest.mark.parametrize("url", REFUSED)
def test_impossible_database_is_refused_without_its_password(sandbox, frostline, url):
    (sandbox.work / "studies").mkdir()
    sandbox.arm()
    assert ask(frostline, REFUSED[url].replace("PASSWORD", sandbox.secret), "report", "tiny").code == 2
    sandbox.check()


@pytest.mark.parametrize("url", LISTED)
def test_list_refuses_an_impossible_database(sandbox, frostline, url):
    sandbox.place("")
    assert ask(frostline, LISTED[url].replace("PASSWORD", sandbox.secret), "list").code == 2
    sandbox.check()


@pytest.mark.parametrize("url", IN_A_VARIABLE)
def test_password_in_a_variable_is_not_shown(sandbox, frostline, monkeypatch, url):
    sandbox.arm()
    monkeypatch.setenv("FROSTLINE_HOSTILE", IN_A_VARIABLE[url].replace("PASSWORD", sandbox.secret))
    assert ask(frostline, "env:FROSTLINE_HOSTILE", "report", "tiny").code == 2
    sandbox.check()


def test_listing_a_database_that_is_not_there_makes_none(sandbox, frostline):
    sandbox.arm()
    assert ask(frostline, "sqlite:///x.db", "list").out.startswith("No studies in sqlite:")
    sandbox.check()


def test_braces_in_a_url_are_no_template(sandbox):
    """Optuna formats the URL that it is given."""
    open_storage(Database.parse("sqlite:///x{SCHEMA_VERSION}.db"), create=True)
    assert [file.name for file in sandbox.work.glob("*.db")] == ["x{SCHEMA_VERSION}.db"]
