"""optuna-dashboard for one study and this machine only, with verdicts and their figures."""

import errno
import logging
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import plotly.graph_objects as go
from optuna_dashboard import get_note, save_note, save_plotly_graph_object, wsgi

from search.errors import StorageError
from search.report import winners
from search.report.frost import frost
from search.report.sentences import answers, more_labels
from search.report.style import params_text
from search.storage.database import connected, open_storage
from search.storage.location import StudyLocation
from search.verdict.judge import Verdict
from search.verdict.load import load_results
from search.verdict.results import Results

HOST = "127.0.0.1"
LOCAL_NAMES = (HOST, "localhost", "[::1]")
"""Host names of this machine; a browser that sends another was misled (DNS rebinding)."""
READS = ("GET", "HEAD")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        logging.getLogger(__name__).debug(format, *args)


def serve(location: StudyLocation, *, port: int, allow_writes: bool = False) -> None:
    """Serve optuna-dashboard on loopback until interrupted: it has no login.

    allow_writes: let it delete studies and write notes.

    Raises `StudyError` for an unknown study, `StorageError` where the port is taken.
    """
    load_results(location)
    application = guarded(wsgi(open_storage(location.database)), allow_writes=allow_writes)
    try:
        server = make_server(HOST, port, application, _Threaded, _Quiet)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise StorageError(f"--port {port} can't be used: {error.strerror}; choose another port.") from None
        raise
    print(f"http://{HOST}:{server.server_port}/dashboard/ shows {location.name!r}; stop it with Ctrl-C.", flush=True)
    server.serve_forever()


def guarded(application: Application, *, allow_writes: bool) -> Application:
    """Restrict an application to this machine's requests and, unless allowed, to reading.

    A page of another site in the same browser may send requests here too; its `Origin` gives it away.
    """

    def guard(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
        if _name(host) not in LOCAL_NAMES or (origin is not None and origin != f"http://{host}"):
            reason = "This dashboard answers on this machine only."
        elif environ["REQUEST_METHOD"] not in READS and not allow_writes:
            reason = "This dashboard only reads; start it with --allow-writes to change what is stored."
        else:
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [reason.encode()]

    return guard


def _name(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def publish(results: Results, verdicts: Mapping[int, Verdict]) -> None:
    """Store verdicts as notes of the Optuna studies, and figures in the confirming one.

    optuna-dashboard shows both. Only changes are written. Raises `StorageError`.
    """
    location = results.location
    if not verdicts:
        return
    with connected(location.database) as storage:
        assert storage is not None
        notes = {location.explore_name(size): _note(verdict) for size, verdict in sorted(verdicts.items())}
        lines = [f"**{answer.labels}**: {answer.advice}. {answer.loss}" for answer in answers(results, verdicts)]
        whole = "\n\n".join([*lines, more_labels(results, verdicts), *notes.values()])
        for name, text in {**notes, location.confirm_name: whole}.items():
            study = optuna.load_study(study_name=name, storage=storage)
            if get_note(study) == text:
                continue
            if name == location.confirm_name:  # before the note, which marks them as written
                for place, figure in _figures(results, verdicts).items():
                    save_plotly_graph_object(study, figure, graph_object_id=place)
            save_note(study, text)


def _figures(results: Results, verdicts: Mapping[int, Verdict]) -> dict[str, go.Figure]:
    figures = {
        "who-wins-where": winners.strategy_map(verdicts),
        "how-good": winners.scores(verdicts),
    }
    if (line := frost(results, verdicts)) is not None:
        figures["frost-line"] = line
    # Stored in pieces of 2 kB, a transaction each: a template alone would be four.
    return {name: figure.update_layout(template=None) for name, figure in figures.items()}


def _note(verdict: Verdict) -> str:
    lines = [f"**{verdict.size} labels: {verdict.sentence}**", ""]
    for candidate in verdict.candidates:
        score = verdict.metric.interval(candidate.score, candidate.low, candidate.high)
        lines.append(f"- {candidate.family}: {score}, {winners.status(verdict, candidate)}")
    best = verdict.recommended
    return "\n".join([*lines, "", f"Recommended: {best.family}, {params_text(best.strategy)}"])
