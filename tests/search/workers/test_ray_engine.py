"""Workers as Ray tasks: a real cluster of two nodes on loopback, whose processes and nodes are killed."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest

from search.errors import FrostlineError, SpecError, StudyError
from search.spec.study_spec import StudySpec
from search.spec.tables import Train
from search.storage.database import open_storage
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.storage.rdb import leased_storage
from search.verdict.load import read_results
from search.workers.ray_engine import check_address, check_resources, check_room, ray_worker, room_of, run_on_ray
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
    print("a line of the user's code")
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8)), Head(8, 10)
"""
DRIVER = """
import sys
from pathlib import Path
from search.storage.location import StudyLocation
from search.storage.owner import sweep
from search.workers.ray_engine import run_on_ray
from search.spec.study_spec import StudySpec
address, storage = (argument or None for argument in sys.argv[1:])
spec = StudySpec.from_file(Path("mine.toml"))
location = StudyLocation.of("mine", out=Path("studies"), storage=storage)
run_on_ray(spec, location, spec.task.sizes, address=address, notify=print)
sweep(location)
"""
AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid4().hex * 2, "RAY_USAGE_STATS_ENABLED": "0"}
# A cluster bound to loopback: else Ray takes 127.0.0.1 for the address of the network card.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@pytest.fixture
def place(tmp_path):
    """Make a folder with a study; its network notes training steps and stops at `hold`."""
    (tmp_path / "mine.toml").write_text(STUDY)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "hold").touch()
    return tmp_path


class Driver(Session):
    """The process that starts the workers."""

    def __init__(self, place, *, address="", storage="", code=DRIVER):
        super().__init__(place, [sys.executable, "-P", "-c", code, address, storage])


def steps(place):
    """Return the training steps that were begun: (process, seconds)."""
    file = place / "steps.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(pid), float(at)) for pid, at in map(str.split, lines)]


def training(place):
    return {pid for pid, _ in steps(place)}


def workers_of(raylet):
    """Find the worker processes of a node: Ray puts the function's name into their titles."""
    found = subprocess.run(["ps", "--ppid", str(raylet), "-o", "pid=,args="], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "ray::ray_worker" in line]


def trials(place, storage):
    """Return the study's exploring trials."""
    location = StudyLocation.of("mine", out=place / "studies", storage=storage)
    database = open_storage(location.database)
    found = database.get_all_trials(database.get_study_id_from_name(location.explore_name(40)))
    leased_storage(database).scoped_session.remove()
    leased_storage(database).engine.dispose()
    return found


def check_finished(place, storage, *, deaths):
    """Exactly the budget is complete, and as many processes died of trials as is said."""
    location = StudyLocation.of("mine", out=place / "studies", storage=storage)
    database = open_storage(location.database)
    rows = read_results(database, location).rows
    leased_storage(database).engine.dispose()
    found = trials(place, storage)
    assert {row.state for row in rows} == {"COMPLETE"}
    spec = StudySpec.from_file(place / "mine.toml")
    assert len(found) == spec.search.trials
    assert sum(len(trial.user_attrs.get("died", [])) for trial in found) == deaths


class Nodes:
    """A Ray cluster of two nodes on loopback with a CPU each, started from another working directory."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        where = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}
        self.cluster = Cluster(initialize_head=True, head_node_args={**where, "include_dashboard": False})
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
def test_killed_worker_and_lost_node_cost_no_trial(nodes, postgres, place, tell):
    storage = postgres.url()
    (place / "search.py").write_text("raise SystemExit('a module of the user, not of Frostline')")

    def owners():
        return {trial.user_attrs.get("owner") for trial in trials(place, storage)[:2]}

    with Driver(place, address=nodes.address, storage=storage) as driver:
        head, second = nodes.raylets()
        driver.until(lambda: len(training(place)) == 2)
        (victim,), (lost,) = workers_of(head), workers_of(second)
        assert training(place) == {victim, lost}
        before, killed = owners(), time.time()
        os.kill(victim, signal.SIGKILL)
        driver.until(lambda: owners() != before)
        freed = time.time() - killed
        driver.until(lambda: training(place) - {victim, lost})
        again = steps(place)[-1][1] - killed

        before, removed = owners(), time.time()
        nodes.cluster.remove_node(nodes.second, allow_graceful=False)
        driver.until(lambda: owners() != before)
        moved = time.time() - removed
        (place / "hold").unlink()
        driver.finish()
    check_finished(place, storage, deaths=1)  # the worker's end counts, that of the node does not
    logs = place / "studies" / "mine" / "logs"
    assert all("a line of the user's code" in (logs / f"worker-{index}.log").read_text() for index in range(2))
    assert not [*(logs.parent / "locks").glob("owner-*")]
    tell("Ray: a worker killed", f"its trial is free after {freed:.1f} s, and trains again after {again:.1f} s")
    tell("Ray: a node lost", f"its trial is free after {moved:.1f} s; all are complete")


@pytest.mark.fault
@pytest.mark.soak
@pytest.mark.parametrize("storage", ["", "postgresql"])
def test_own_cluster_is_on_loopback_and_ends_with_its_driver(place, storage, request, installed, tell):
    url = request.getfixturevalue("postgres").url() if storage else ""
    with Driver(place, storage=url) as driver:
        driver.until(lambda: steps(place))
        workers = training(place)
        listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True).stdout.splitlines()
        own = [line for line in listening if any(word in line for word in ("raylet", "gcs_server", "ray::"))]
        assert own
        assert all("127.0.0.1" in line.split()[3] for line in own), own
        driver.process.kill()
        driver.process.wait()
        begun = time.monotonic()
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() - begun < 300, "workers outlive the driver"
            time.sleep(0.1)
        took = time.monotonic() - begun
    before = len(steps(place))
    (place / "hold").unlink()
    with Driver(place, storage=url) as driver:
        driver.finish()
    assert len(steps(place)) > before
    check_finished(place, url or None, deaths=0)  # a driver that is killed says nothing of its trials
    how = f"its workers end after {took:.1f} s; the same command resumed"
    tell(f"Ray: SIGKILL of the driver, {storage or 'SQLite'}", how)


@pytest.mark.soak
def test_plain_worker_joins_the_study_of_a_driver(nodes, postgres, place, search):
    storage = postgres.url()
    (place / "mine.toml").write_text(STUDY.replace("trials = 5", "trials = 12"))
    with Driver(place, address=nodes.address, storage=storage) as driver:
        driver.until(lambda: len(training(place)) == 2)
        (place / "hold").unlink()
        joined = search("worker", "mine.toml", "--storage", storage, cwd=place)
        assert joined.returncode == 0, joined.stderr
        driver.finish()
    check_finished(place, storage, deaths=0)


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
def test_signal_to_the_driver_ends_its_workers(nodes, postgres, place, number, code, tell):
    storage = postgres.url()
    stopping = DRIVER.replace("run_on_ray(spec, location, spec.task.sizes, address=address, notify=print)", STOPPED)
    with Driver(place, address=nodes.address, storage=storage, code=stopping) as driver:
        driver.until(lambda: len(training(place)) == 2)
        begun = time.monotonic()
        os.killpg(driver.process.pid, number)
        assert driver.process.wait(60) == code, driver.text()
        took = time.monotonic() - begun
    assert not any(workers_of(raylet) for raylet in nodes.raylets())
    # The cluster is others' as well, and stays.
    assert all(Path(f"/proc/{raylet}").exists() for raylet in nodes.raylets())
    (place / "hold").unlink()
    with Driver(place, address=nodes.address, storage=storage) as driver:
        driver.finish()
    check_finished(place, storage, deaths=0)
    tell(f"Ray: {number.name} to the driver", f"exit code {code} after {took:.1f} s; the same command resumed")


@pytest.mark.soak
def test_wrong_task_is_reported_and_nothing_written(place, installed):
    (place / "mine.toml").write_text(STUDY.replace("sizes = [40]", "sizes = [90000]"))
    with Driver(place) as driver:
        assert driver.process.wait(120) == 1
        assert "TaskError: [task] sizes: 90000 is not possible" in driver.text()
    assert not (place / "studies").exists()


def test_missing_ray_names_the_extra(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "ray", None)
    spec, location = StudySpec.from_file(Path("mine.toml")), StudyLocation.of("mine", out=Path("studies"), storage=None)
    with pytest.raises(StudyError, match=r"^--engine ray needs Ray: pip install 'frostline\[ray\]'\.$"):
        run_on_ray(spec, location, [40])
    assert not (place / "studies").exists()


@pytest.fixture
def restored(monkeypatch, place):
    """Restore what a worker changes of its process: the working directory and the answer to SIGTERM."""
    monkeypatch.chdir(place)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("folder", "message"),
    [("{place}", r"studies.mine on .* is not that of the driver: all nodes must share --out\."),
     ("/nowhere", r"^/nowhere: No such file or directory on .*; all nodes must share the working directory\.")],
)  # fmt: skip
def test_node_that_does_not_share_the_folders_is_refused(place, restored, folder, message):
    spec = StudySpec.from_file(place / "mine.toml")
    location = StudyLocation.of("mine", out=place / "studies", storage="postgresql://user@host/database")
    content, lease = spec.model_dump_json(exclude_unset=True), WorkerLease.new()
    with pytest.raises(StudyError, match=message):
        ray_worker(None, content, location, [40], folder.format(place=place), 0, str(lease))


@pytest.mark.parametrize("gpus", ["-1", "1.5", "nan", '"one"'])
def test_gpus_are_whole_or_a_share_of_one(place, gpus):
    (place / "mine.toml").write_text(STUDY.replace("[train]", f"[train]\ngpus = {gpus}"))
    with pytest.raises(FrostlineError, match=r"\[train\] gpus"):
        StudySpec.from_file(place / "mine.toml")


def test_share_of_a_gpu_may_change_within_a_study(place):
    spec = StudySpec.from_file(place / "mine.toml")
    assert not spec.changed(train={"gpus": 0.5}).differences(spec)


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:6379", "host", ":6379", "host:0", "host:99999"])
def test_malformed_address_is_refused(address):
    with pytest.raises(SpecError, match=r"--address .* is no address of a Ray cluster; allowed: \"auto\""):
        check_address(address)


def test_address_without_a_listener_is_refused():
    with pytest.raises(StudyError, match=r"--address 127.0.0.1:1: nothing answers there \(Connection refused\)\."):
        check_address("127.0.0.1:1")


def test_address_of_another_server_is_refused():
    """Ray itself tries for 40 s; the dashboard's port is easily taken for the head's."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        port = server.stdout.readline().split("port ")[1].split()[0]
        with pytest.raises(StudyError, match="what answers there is no head of a Ray cluster"):
            check_address(f"127.0.0.1:{port}")
        server.terminate()


def test_workers_that_want_a_gpu_must_ask_for_one(tmp_path):
    location = StudyLocation.of("mine", out=tmp_path, storage=None)
    with pytest.raises(SpecError, match="set \\[train\\] gpus to 1, or to a share"):
        check_resources(Train(accelerator="gpu"), location, None)
    check_resources(Train(accelerator="gpu", gpus=0.5), location, None)
    check_resources(Train(accelerator="auto"), location, None)


def test_other_machines_need_a_database_server(tmp_path):
    with pytest.raises(SpecError, match="name a PostgreSQL database by --storage"):
        check_resources(Train(), StudyLocation.of("mine", out=tmp_path, storage=None), "auto")
    check_resources(Train(), StudyLocation.of("mine", out=tmp_path, storage="postgresql://user@host/database"), "auto")


@pytest.mark.parametrize(
    ("threads", "gpus", "room"), [(1, 0, 6), (2, 0, 3), (4, 0, 1), (1, 0.5, 2), (1, 0.1, 4), (8, 0, 0), (1, 2, 0)]
)
def test_room_is_counted_node_by_node(threads, gpus, room):
    nodes = [{"Resources": {"CPU": 4.0, "GPU": 1.0}}, {"Resources": {"CPU": 2.0}}]
    train = Train(threads=threads, gpus=gpus)
    assert room_of(nodes, train) == room
    if room == 0:
        with pytest.raises(SpecError, match="they have 4 and 1, 2 and 0"):
            check_room(nodes, train)
