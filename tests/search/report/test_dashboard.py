"""The dashboard answers this machine alone, only reads, and shows the verdicts."""

import http.client
import threading
from collections.abc import Iterator
from shutil import copytree
from wsgiref.simple_server import WSGIServer, make_server

import optuna
import pytest
from optuna_dashboard import get_note, save_note, wsgi

from search.report.dashboard import _Quiet, guarded, publish
from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.verdict.judge import judge_all
from search.verdict.load import load_results
from search.verdict.results import Results


@pytest.fixture
def location(finished, tmp_path) -> StudyLocation:
    """Return a finished study that may be written to."""
    copytree(finished / "studies" / "tiny", tmp_path / "tiny")
    return StudyLocation.of("tiny", out=tmp_path, storage=None)


def studies(location: StudyLocation) -> dict[str, optuna.Study]:
    storage = open_storage(location.database)
    names = [study.study_name for study in storage.get_all_studies()]
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


@pytest.fixture(params=[False, True], ids=["reads", "writes"])
def server(location, request) -> Iterator[WSGIServer]:
    server = make_server(
        "127.0.0.1", 0, guarded(wsgi(open_storage(location.database)), allow_writes=request.param), handler_class=_Quiet
    )
    server.allows = request.param
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(server: WSGIServer, method: str, path: str, *, host: str | None = None, origin: str | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=300)
    headers = {"Host": host or f"127.0.0.1:{server.server_port}", **({"Origin": origin} if origin else {})}
    connection.request(method, path, headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_only_local_names_are_answered(server):
    port = server.server_port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "localhost"):
        assert ask(server, "GET", "/api/studies", host=host) == 200
    for host in (
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.evil.example:{port}",
        "localhost:x",
        ":80",
        "[::2]",
    ):
        assert ask(server, "GET", "/api/studies", host=host) == 403


def test_another_site_is_refused(server):
    here = f"127.0.0.1:{server.server_port}"
    assert ask(server, "GET", "/api/studies", host=here, origin=f"http://{here}") == 200
    for origin in ("http://evil.example", "null", f"https://{here}", "http://127.0.0.1:1"):
        assert ask(server, "GET", "/api/studies", host=here, origin=origin) == 403
        assert ask(server, "DELETE", "/api/studies/1", host=here, origin=origin) == 403


def test_writes_need_permission(server, location):
    before = len(studies(location))
    status = ask(server, "DELETE", "/api/studies/1")
    assert (status in (200, 204)) == server.allows
    assert len(studies(location)) == before - server.allows
    for method, path in (("POST", "/api/studies"), ("PUT", "/api/studies/2/note"), ("PATCH", "/")):
        assert server.allows or ask(server, method, path) == 403


def test_publish_stores_notes_and_figures(location):
    results = publish_all(location)
    found = studies(location)
    everything = get_note(found[location.confirm_name])
    for size, verdict in judge_all(results).items():
        note = get_note(found[location.explore_name(size)])
        assert f"{size} labels: {verdict.sentence}" in note
        assert all(candidate.family in note for candidate in verdict.candidates)
        assert note in everything
    attributes = stored(location)[location.confirm_name]
    for name in ("who-wins-where", "how-good", "frost-line"):
        assert f"dashboard:plot_data:{name}:0" in attributes


def test_publish_writes_changes_only(location):
    publish_all(location)
    before = stored(location)
    publish_all(location)
    assert stored(location) == before
    save_note(studies(location)[location.confirm_name], "an older verdict")
    publish_all(location)
    assert get_note(studies(location)[location.confirm_name]) != "an older verdict"


def publish_all(location: StudyLocation) -> Results:
    results = load_results(location)
    publish(results, judge_all(results))
    return results


def stored(location: StudyLocation) -> dict[str, dict[str, object]]:
    return {name: study._storage.get_study_system_attrs(study._study_id) for name, study in studies(location).items()}
