"""What a Ray cluster is asked before any trial runs on it; no Ray is needed for that."""

import subprocess
import sys

import pytest

from search.errors import SpecError, StudyError
from search.spec.tables import Train
from search.storage.location import StudyLocation
from search.workers.cluster import Cluster, check_address, check_resources


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:6379", "host", ":6379", "host:0", "host:99999"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(SpecError, match=r"--address .* is no address of a Ray cluster; allowed: \"auto\""):
        check_address(address)


def test_an_address_where_nobody_listens_is_refused_at_once():
    with pytest.raises(StudyError, match=r"--address 127.0.0.1:1: nothing answers there \(Connection refused\)\."):
        check_address("127.0.0.1:1")


def test_an_address_of_something_else_is_refused_at_once():
    # Ray itself tries for 40 s and prints what it tries; the dashboard's port is easily taken for the head's.
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().split("port ")[1].split()[0]
        with pytest.raises(StudyError, match="what answers there is no head of a Ray cluster"):
            check_address(f"127.0.0.1:{port}")
        server.terminate()


def test_trials_that_want_a_gpu_must_ask_for_one(tmp_path):
    location = StudyLocation.of("mine", out=tmp_path, storage=None)
    with pytest.raises(SpecError, match="set \\[train\\] gpus to 1, or to a share"):
        check_resources(Train(accelerator="gpu"), location, None)
    check_resources(Train(accelerator="gpu", gpus=0.5), location, None)
    check_resources(Train(accelerator="auto"), location, None)


def test_other_machines_need_a_database_that_they_can_use(tmp_path):
    with pytest.raises(SpecError, match="name a PostgreSQL database by --storage"):
        check_resources(Train(), StudyLocation.of("mine", out=tmp_path, storage=None), "auto")
    check_resources(Train(), StudyLocation.of("mine", out=tmp_path, storage="postgresql://user@host/database"), "auto")


class Told:
    """What `ray.nodes` says of a cluster."""

    def __init__(self, *resources):
        self.resources = resources

    def nodes(self):
        dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
        return [dead, *({"Alive": True, "Resources": one} for one in self.resources)]


@pytest.mark.parametrize(
    ("threads", "gpus", "room"), [(1, 0, 6), (2, 0, 3), (4, 0, 1), (1, 0.5, 2), (1, 0.1, 4), (8, 0, 0), (1, 2, 0)]
)
def test_room_is_counted_node_by_node_on_those_alive(threads, gpus, room):
    joined = Cluster(Told({"CPU": 4.0, "GPU": 1.0}, {"CPU": 2.0}), Train(threads=threads, gpus=gpus))
    assert joined.room() == room
    if room == 0:
        with pytest.raises(SpecError, match="they have 4 and 1, 2 and 0"):
            joined.check_room()
