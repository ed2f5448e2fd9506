"""A PostgreSQL server of the tests' own, on loopback, where its programs are installed."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


class Postgres:
    """A server that can be stopped, killed and started again."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        # It refuses to run as root: then it belongs to the user that its package makes.
        self.user = "postgres" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="frostline-pg-", dir="/tmp"))
        if self.user:
            shutil.chown(self.folder, self.user)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self._call("initdb", "--auth=trust", "--username=frost", "--no-sync", "--encoding=UTF8")
        self.start()

    def start(self) -> None:
        sockets, log = f"-c unix_socket_directories={self.folder}", str(self.folder / "server.log")
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c max_connections=200 -c fsync=off {sockets}"
        self._call("pg_ctl", "start", "--wait", "-o", options, "-l", log)

    def stop(self, mode: str = "fast") -> None:
        """fast: connections are ended; immediate: as by a crash."""
        self._call("pg_ctl", "stop", "--wait", "-m", mode)

    def suspend(self) -> None:
        """Stop all its processes where they are, as with a machine that is suspended."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        parent = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for process in (parent, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def url(self) -> str:
        """Return the URL of a new, empty database."""
        name = f"db{uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name}", "postgres")
        return f"postgresql+psycopg://frost@127.0.0.1:{self.port}/{name}"

    def sql(self, statement: str, database: str) -> str:
        command = ["psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "frost", "-qtAc", statement, database]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def _call(self, program: str, *arguments: str) -> None:
        command = [self.programs / program, "-D", self.folder / "data", *arguments]
        subprocess.run(
            command, check=True, user=self.user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def programs() -> Path | None:
    """Where the server's programs are: Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
