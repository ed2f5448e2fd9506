"""Trials as Ray tasks: a real cluster of two nodes on loopback, whose processes and nodes are killed."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest

from search.errors import FrostlineError, StudyError
from search.spec.study_spec import StudySpec
from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.storage.rdb import leased_storage
from search.verdict.load import read_results
from search.workers.ray_engine import run_on_ray
from tests.search.sessions import Session

STUDY = """
[task]
data = "digits"
sizes = [40]
[model]
backbone = "mine:build"
weights = "none"
[train]
epochs = 4
steps_per_epoch = 3
accelerator = "cpu"
[search]
trials = 5
pruner = "none"
[confirm]
repeats = 1
"""
MINE = """
import os, time, torch
def note(file):
    with open(file, "a") as stream:
        stream.write(f"{os.getpid()} {time.time()}\\n")
class Head(torch.nn.Linear):
    def forward(self, features):
        if self.training and len(features) == 32:
            note("steps.txt")
            while os.path.exists("hold"):
                time.sleep(0.02)
        return super().forward(features)
def build():
    note("built.txt")
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8)), Head(8, 10)
"""
DRIVER = """
import sys
from pathlib import Path
from search.storage.location import StudyLocation
from search.workers.ray_engine import run_on_ray
from search.storage.rdb import leased_storage
from search.spec.study_spec import StudySpec
address, storage = (argument or None for argument in sys.argv[1:])
spec = StudySpec.from_file(Path("mine.toml"))
location = StudyLocation.of("mine", out=Path("studies"), storage=storage)
run_on_ray(spec, location, spec.task.sizes, address=address, say=print)
"""
AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid4().hex * 2, "RAY_USAGE_STATS_ENABLED": "0"}
# A cluster bound to loopback: else Ray takes 127.0.0.1 for the address of the network card.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@pytest.fixture
def place(tmp_path):
    """A working directory with a study file and the code that it names: who trains says so, and stops at `hold`."""
    (tmp_path / "mine.toml").write_text(STUDY)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "hold").touch()
    return tmp_path


class Driver(Session):
    """The driver's process."""

    def __init__(self, place, *, address="", storage="", code=DRIVER):
        super().__init__(place, [sys.executable, "-P", "-c", code, address, storage])


def noted(file):
    """Who noted something when: (process, seconds)."""
    if not file.exists():
        return []
    return [(int(pid), float(at)) for pid, at in (line.split() for line in file.read_text().splitlines())]


def processes(raylet, title):
    """The worker processes of a node that do something: Ray puts it into their titles."""
    found = subprocess.run(["ps", "--ppid", str(raylet), "-o", "pid=,args="], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if title in line]


def stored(place, storage):
    """The study's rows, and how often a process died of each exploring trial."""
    location = StudyLocation.of("mine", out=place / "studies", storage=storage)
    database = open_storage(location.database)
    rows = read_results(database, location).rows
    study = database.get_study_id_from_name(location.explore_name(40))
    deaths = [len(trial.user_attrs.get("died", [])) for trial in database.get_all_trials(study)]
    leased_storage(database).scoped_session.remove()
    leased_storage(database).engine.dispose()
    return rows, deaths


class Nodes:
    """A Ray cluster of two nodes on loopback with a CPU each, started from another working directory."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        where = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}
        head = {**where, "include_dashboard": False, "_system_config": {"num_workers_soft_limit": 2}}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.second = self.cluster.add_node(**where)
        self.address = self.cluster.address

    def raylets(self):
        return [node.all_processes["raylet"][0].process.pid for node in (self.cluster.head_node, self.second)]


@pytest.fixture
def installed():
    # Looked for, not imported: Ray reads its environment then.
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'frostline[ray]'")


@pytest.fixture
def nodes(monkeypatch, installed):
    for key, value in (AUTH | LOOPBACK).items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir("/")
    nodes = Nodes()
    yield nodes
    nodes.cluster.shutdown()


@pytest.mark.fault
@pytest.mark.slow
def test_a_killed_worker_and_a_lost_node_cost_no_trial(nodes, postgres, place, tell):
    storage = postgres.url()
    (place / "search.py").write_text("raise SystemExit('a module of the user, not ours')")
    with Driver(place, address=nodes.address, storage=storage) as driver:
        head, second = nodes.raylets()
        # On each node a process at work, and a spare one that has loaded everything and waits.
        driver.until(lambda: len({pid for pid, _ in noted(place / "built.txt")}) == 4)
        driver.until(lambda: not (processes(head, "ray::warm") or processes(second, "ray::warm")))
        (victim,) = driver.until(lambda: processes(head, "ray::trial"))
        (lost,) = driver.until(lambda: processes(second, "ray::trial"))
        driver.until(lambda: {victim, lost} <= {pid for pid, _ in noted(place / "steps.txt")})
        killed = time.time()
        os.kill(victim, signal.SIGKILL)
        again = driver.until(lambda: [pid for pid, at in noted(place / "steps.txt") if at > killed])
        took = noted(place / "steps.txt")[-1][1] - killed
        assert again != [victim]

        nodes.cluster.remove_node(nodes.second, allow_graceful=False)
        (place / "hold").unlink()
        driver.finish()
    rows, deaths = stored(place, storage)
    assert {row.state for row in rows} == {"COMPLETE"}
    assert sorted(deaths) == [0, 0, 0, 0, 1], "the worker's end counts, that of the node does not"
    tell("Ray: a worker killed, then a node lost", f"its trial trains again after {took:.1f} s; all complete")


@pytest.mark.fault
@pytest.mark.soak
@pytest.mark.parametrize("storage", ["", "postgresql"])
def test_a_cluster_of_this_machines_own_listens_on_loopback_alone_and_ends_with_its_driver(
    place, storage, request, installed, tell
):
    url = request.getfixturevalue("postgres").url() if storage else ""
    with Driver(place, storage=url) as driver:
        driver.until(lambda: noted(place / "steps.txt"))
        workers = {pid for pid, _ in noted(place / "built.txt")}
        listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True).stdout.splitlines()
        ours = [line for line in listening if any(word in line for word in ("raylet", "gcs_server", "ray::"))]
        assert ours
        assert all("127.0.0.1" in line.split()[3] for line in ours), ours
        driver.process.kill()
        driver.process.wait()
        begun = time.monotonic()
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() - begun < 300, "who runs trials outlives the driver"
            time.sleep(0.1)
        took = time.monotonic() - begun
    steps = len(noted(place / "steps.txt"))
    (place / "hold").unlink()
    with Driver(place, storage=url) as driver:
        driver.finish()
    assert len(noted(place / "steps.txt")) > steps
    rows, deaths = stored(place, url or None)
    assert {row.state for row in rows} == {"COMPLETE"}
    assert deaths == [0] * 5, "a driver that is killed says nothing of its trials"
    tell(
        f"Ray: SIGKILL of the driver, {storage or 'SQLite'}",
        f"its workers end after {took:.1f} s; the same command went on",
    )


@pytest.mark.soak
def test_a_plain_worker_joins_the_study_of_a_driver(nodes, postgres, place, search):
    storage = postgres.url()
    (place / "mine.toml").write_text(STUDY.replace("trials = 5", "trials = 12"))
    with Driver(place, address=nodes.address, storage=storage) as driver:
        driver.until(lambda: len({pid for pid, _ in noted(place / "steps.txt")}) == 2)
        (place / "hold").unlink()
        joined = search("worker", "mine.toml", "--storage", storage, cwd=place)
        assert joined.returncode == 0, joined.stderr
        driver.finish()
    rows, deaths = stored(place, storage)
    assert {row.state for row in rows} == {"COMPLETE"}
    assert deaths == [0] * 12


STOPPED = """
from search.workers.signals import Stopped, stopping
try:
    with stopping() as tick:
        run_on_ray(spec, location, spec.task.sizes, address=address, tick=tick)
except Stopped as stopped:
    sys.exit(stopped.code)
"""


@pytest.mark.fault
@pytest.mark.soak
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_and_puts_the_trials_back(nodes, postgres, place, number, code, tell):
    storage = postgres.url()
    stopping = DRIVER.replace("run_on_ray(spec, location, spec.task.sizes, address=address, say=print)", STOPPED)
    with Driver(place, address=nodes.address, storage=storage, code=stopping) as driver:
        driver.until(lambda: len({pid for pid, _ in noted(place / "steps.txt")}) == 2)
        begun = time.monotonic()
        os.killpg(driver.process.pid, number)
        assert driver.process.wait(300) == code, driver.text()
        took = time.monotonic() - begun
    assert {row.state for row in stored(place, storage)[0]} == {"WAITING"}
    assert not any(processes(raylet, "ray::trial") for raylet in nodes.raylets())
    # The cluster is others' as well, and stays.
    assert all(Path(f"/proc/{raylet}").exists() for raylet in nodes.raylets())
    tell(f"Ray: {number.name} to the driver", f"exit code {code} after {took:.1f} s, the trials wait again")


@pytest.mark.soak
def test_a_task_that_is_wrong_is_said_and_nothing_is_written(place, installed):
    (place / "mine.toml").write_text(STUDY.replace("sizes = [40]", "sizes = [90000]"))
    with Driver(place) as driver:
        assert driver.process.wait(600) == 1
        assert "TaskError: [task] sizes: 90000 is not possible" in driver.text()
    assert not (place / "studies").exists()


def test_without_ray_one_line_says_what_to_install(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "ray", None)
    spec, location = StudySpec.from_file(Path("mine.toml")), StudyLocation.of("mine", out=Path("studies"), storage=None)
    with pytest.raises(StudyError, match=r"^--engine ray needs Ray: pip install 'frostline\[ray\]'\.$"):
        run_on_ray(spec, location, [40])
    assert not (place / "studies").exists()


@pytest.mark.parametrize("gpus", ["-1", "1.5", "nan", '"one"'])
def test_a_trial_takes_whole_gpus_or_a_share_of_one(place, gpus):
    (place / "mine.toml").write_text(STUDY.replace("[train]", f"[train]\ngpus = {gpus}"))
    with pytest.raises(FrostlineError, match=r"\[train\] gpus"):
        StudySpec.from_file(place / "mine.toml")


def test_the_share_of_a_gpu_may_change_within_a_study(place):
    spec = StudySpec.from_file(place / "mine.toml")
    assert not spec.changed(train={"gpus": 0.5}).differences(spec)
