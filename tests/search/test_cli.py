import shutil
import socket
import subprocess
import sys
import urllib.request

import pytest


@pytest.mark.parametrize("command", ["run", "report", "best", "dashboard", "groups", "list", "new"])
def test_every_command_has_help(search, command):
    done = search(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_no_command_shows_help(search):
    done = search()
    assert done.returncode == 0
    assert "dashboard" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "No such command 'fly'"),
        (["run", "--fast"], "No such option: --fast"),
        (["best", "digits"], "Missing option '--size'"),
        (["best", "nosuch", "--size", "50"], "There is no study 'nosuch'"),
        (["report", "nosuch"], "There is no study 'nosuch'"),
        (["dashboard", "nosuch"], "There is no study 'nosuch'"),
        (["run", "nosuch"], "There is no study file for 'nosuch'; known studies: bert-sentiment, "),
        (["groups", "nosuch"], "There is no study file for 'nosuch'"),
        (["new", "a/b"], "can't name a study"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(search, tmp_path, arguments, message):
    done = search(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_groups_shows_what_each_freeze_depth_trains(search, tmp_path):
    done = search("groups", "digits", cwd=tmp_path)
    assert done.returncode == 0
    heading, columns, *rows = done.stdout.splitlines()
    assert heading.startswith("small_cnn: 4 layer groups")
    assert columns.split() == ["depth", "layer", "group", "parameters", "FLOPs", "trains"]
    assert [row.split()[:3] for row in rows] == [
        ["0", "block1", "160"], ["1", "block2", "4,640"], ["2", "block3", "18,496"], ["3", "linear", "16,448"],
        ["4", "head", "650"],
    ]  # fmt: skip
    assert "35,594 (88.1 %)  from here on" in rows[2]
    assert list(tmp_path.iterdir()) == []


def test_report_writes_the_page_and_the_csv_again(search, finished):
    page = finished / "studies" / "tiny" / "report.html"
    page.unlink()
    done = search("report", "tiny", cwd=finished)
    assert done.returncode == 0
    assert done.stdout.split() == [f"studies/tiny/{name}" for name in ("report.html", "trials.csv", "verdict.csv")]
    assert page.stat().st_size > 1_000_000


def test_a_folder_in_a_page_s_place_is_one_line(search, finished, tmp_path):
    shutil.copytree(finished / "studies" / "tiny", tmp_path / "studies" / "tiny")
    page = tmp_path / "studies" / "tiny" / "report.html"
    page.unlink()
    page.mkdir()
    done = search("report", "tiny", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def test_dashboard_is_on_loopback_and_shows_every_study(finished):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "search", "dashboard", "tiny", "--port", str(port)]
    with subprocess.Popen(command, cwd=finished, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert f"http://127.0.0.1:{port}/dashboard/" in server.stdout.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=300) as answer:
                text = answer.read().decode()
            taken = subprocess.run(command, cwd=finished, capture_output=True, text=True)
        finally:
            server.terminate()
    assert all(f'"tiny/{study}"' in text for study in ("n=20", "n=40", "confirm"))
    assert taken.returncode == 2
    assert f"--port {port} can't be used" in taken.stderr
