"""optuna-dashboard on a study's storage, for this machine only."""

import errno
import logging
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna_dashboard import wsgi

from search.errors import StorageError
from search.home import Home
from search.results import load_results
from search.storage import open_storage

HOST = "127.0.0.1"


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        logging.getLogger(__name__).debug(format, *args)


def serve(home: Home, *, port: int) -> None:
    """Serve optuna-dashboard on loopback until interrupted: it has no login, so it is not for a network.

    Raises `StudyError` for an unknown study, `StorageError` where the port is taken.
    """
    load_results(home, with_outcomes=False)
    try:
        server = make_server(HOST, port, wsgi(open_storage(home.url)), _Threaded, _Quiet)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise StorageError(f"--port {port} can't be had: {error.strerror}; name another.") from None
        raise
    print(f"http://{HOST}:{server.server_port}/dashboard/ shows {home.name!r}; Ctrl-C ends it.", flush=True)
    server.serve_forever()
