"""Databases that are none, and passwords where people put them: nothing is written, and no password is shown."""

import os

import pytest

REFUSED = {
    "nothing": "",
    "a path": "study.db",
    "only a scheme": "://",
    "a web page": "http://me:PASSWORD@127.0.0.1/",
    "a script": "javascript:alert(1)",
    "a file": "file:///etc/passwd",
    "no scheme": "//me:PASSWORD@127.0.0.1/db",
    "no slashes": "postgresql:me:PASSWORD@127.0.0.1/db",
    "no scheme, a password": "me:PASSWORD@127.0.0.1/db",
    "one slash": "postgresql:/me:PASSWORD@127.0.0.1/db",
    "no port": "postgresql://me:PASSWORD@127.0.0.1:port/db",
    "two ports": "postgresql://me:PASSWORD@127.0.0.1:1:2/db",
    "port beyond": "postgresql://me:PASSWORD@127.0.0.1:99999/db",
    "negative port": "postgresql://me:PASSWORD@127.0.0.1:-1/db",
    "huge port": f"postgresql://me:PASSWORD@127.0.0.1:{'9' * 5000}/db",
    "half an IPv6": "postgresql://me:PASSWORD@[::1/db",
    "an @ in it": "postgresql://me:PASSWORD@x@127.0.0.1:y/db",
    "a slash in it": "postgresql://me:a/PASSWORD@127.0.0.1:x/db",
    "a newline in it": "postgresql://me:a\nPASSWORD@127.0.0.1:x/db",
    "an escape in it": "postgresql://me:\x1b[31mPASSWORD@127.0.0.1:x/db",
    "closed": "postgresql://me:PASSWORD@127.0.0.1:1/db",
    "closed, IPv6": "postgresql://me:PASSWORD@[::1]:1/db",
    "quoted": "postgresql://me:%50PASSWORD%40@127.0.0.1:1/db",
    "in the query": "postgresql://127.0.0.1:1/db?password=PASSWORD",
    "in the query, again": "postgresql://me@127.0.0.1:1/db?passfile=x&sslpassword=PASSWORD",
    "in the query twice": "postgresql://127.0.0.1:1/db?password=PASSWORD&password=PASSWORD",
    "in options": "postgresql://me:PASSWORD@127.0.0.1:1/db?options=-c%20statement_timeout%3D0",
    "not an option": "postgresql://me:PASSWORD@127.0.0.1:1/db?nosuch=1",
    "braces": "postgresql://me:{PASSWORD}@127.0.0.1:1/db",
    "a template": "postgresql://me:PASSWORD@127.0.0.1:1/{SCHEMA_VERSION}",
    "a hostile template": "postgresql://me:PASSWORD@127.0.0.1:1/{0.__class__.__mro__}",
    "half a brace": "postgresql://me:PASSWORD@127.0.0.1:1/db{",
    "a socket": "postgresql://me:PASSWORD@/db?host=/nonexistent",
    "another driver": "postgresql+asyncpg://me:PASSWORD@127.0.0.1:1/db",
    "no driver": "postgresql+nosuch://me:PASSWORD@127.0.0.1:1/db",
    "MySQL": "mysql://me:PASSWORD@127.0.0.1/db",
    "MySQL by a driver": "mysql+pymysql://me:PASSWORD@127.0.0.1/db",
    "MariaDB": "mariadb://me:PASSWORD@127.0.0.1/db",
    "Oracle": "oracle://me:PASSWORD@127.0.0.1/db",
    "SQL Server": "mssql+pyodbc://me:PASSWORD@127.0.0.1/db",
    "unheard of": "nosuch+driver://me:PASSWORD@127.0.0.1/db",
    "huge": "postgresql://me:PASSWORD@127.0.0.1:1/" + "x" * 20000,
    "SQLite nowhere": "sqlite://",
    "SQLite in memory": "sqlite:///:memory:",
    "SQLite in memory, shared": "sqlite:///file:x?mode=memory&cache=shared&uri=true",
    "SQLite by URI": "sqlite:///file:../outside/treasure.toml?mode=ro&uri=true",
    "SQLite by URI, made": "sqlite:///file:made.db?mode=rwc&uri=true",
    "SQLite with a password": "sqlite://me:PASSWORD@host/x.db",
    "SQLite sealed": "sqlite+pysqlcipher://:PASSWORD@/x.db",
    "SQLite by another driver": "sqlite+aiosqlite:///x.db",
    "SQLite by none": "sqlite+nosuch:///x.db",
    "SQLite, an option": "sqlite:///x.db?nosuch=1",
    "SQLite, a template": "sqlite:///x{SCHEMA_VERSION}.db",
    "SQLite, half a brace": "sqlite:///x{.db",
    "a folder": "sqlite:///studies",
    "this folder": "sqlite:///.",
    "the root": "sqlite:////",
    "nothing at all": "sqlite:////dev/null",
    "endless": "sqlite:////dev/zero",
    "memory": "sqlite:////proc/self/mem",
    "a text": "sqlite:////etc/passwd",
    "a pipe": "sqlite:///pipe",
    "a NUL": "sqlite:///x\0.db",
    "a newline": "sqlite:///x\ny.db",
    "an escape": "sqlite:///\x1b[2Jx.db",
    "no such folder": "sqlite:////no/such/folder/x.db",
    "a long name": "sqlite:///" + "x" * 600,
    "a long path": "sqlite:///" + "x/" * 5000,
    "no variable": "env:",
    "an unset one": "env:FROSTLINE_NOT_SET",
    "an impossible one": "env:A=B",
    "a NUL in it": "env:A\0B",
    "an escape in its name": "env:\x1b[2J",
}
IN_A_VARIABLE = {
    "empty": "",
    "a variable": "env:FROSTLINE_HOSTILE",
    "only a password": "PASSWORD",
    "malformed": "postgresql://me:PASSWORD@127.0.0.1:x/db",
    "closed": "postgresql://me:PASSWORD@127.0.0.1:1/db",
    "in the query": "postgresql://127.0.0.1:1/db?password=PASSWORD",
    "MySQL": "mysql://me:PASSWORD@127.0.0.1/db",
    "no scheme": "me:PASSWORD@127.0.0.1",
}


@pytest.fixture(autouse=True)
def a_pipe(sandbox):
    os.mkfifo(sandbox.work / "pipe")
    (sandbox.work / "studies").mkdir()


def ask(frostline, storage, command):
    return frostline(*command, *(["tiny"] if command[0] != "list" else []), "--storage", storage)


@pytest.mark.parametrize("command", [("report",), ("list",)], ids=" ".join)
@pytest.mark.parametrize("url", REFUSED)
def test_what_can_not_hold_a_study_is_one_line_without_its_password(sandbox, frostline, url, command):
    sandbox.arm()
    said = ask(frostline, REFUSED[url].replace("PASSWORD", sandbox.secret), command)
    # To list what is not there yet is no mistake.
    assert said.code == 2 or (command == ("list",) and said.out.startswith("No studies in sqlite:"))
    sandbox.check()


@pytest.mark.parametrize("command", [("report",), ("list",)], ids=" ".join)
@pytest.mark.parametrize("url", IN_A_VARIABLE)
def test_nor_is_what_a_variable_holds_shown(sandbox, frostline, monkeypatch, url, command):
    sandbox.arm()
    monkeypatch.setenv("FROSTLINE_HOSTILE", IN_A_VARIABLE[url].replace("PASSWORD", sandbox.secret))
    assert ask(frostline, "env:FROSTLINE_HOSTILE", command).code == 2
    sandbox.check()
