"""Which way gpu-policyd is asked, and where it listens."""

from __future__ import annotations

import os
import pwd
import socket
from types import SimpleNamespace

import pytest

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.adapters.control.client import ControlClient
from slurm_gpu_policy.adapters.control.remote_client import RemoteClient
from slurm_gpu_policy.bootstrap import service
from slurm_gpu_policy.errors import ControllerUnavailable, SlurmUnavailable
from tests.builders import make_policy
from tests.munged import PrivateMunged


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sock"


@pytest.fixture
def policy(path):
    def make(**controller):
        return make_policy(controller={"socket": str(path), **controller})

    return make


@pytest.fixture
def conf(tmp_path, monkeypatch):
    def write(text):
        (tmp_path / "slurm.conf").write_text(text)
        monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))

    return write


def test_the_socket_is_asked_where_it_is_there(policy, path):
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(path))
        client = bootstrap.make_control_client(policy(reach="ctl:9812"))
        assert isinstance(client, ControlClient)
        with pytest.raises(ControllerUnavailable, match=f"on its socket {path}: nobody listens"):
            bootstrap.ask_controller(policy(reach="ctl:9812"), {"request": "status"})


def test_elsewhere_it_is_asked_over_the_network(policy):
    client = bootstrap.make_control_client(policy(reach="ctl:9812"))
    assert isinstance(client, RemoteClient)
    assert client.where == "at ctl:9812"


def test_without_an_address_the_socket_is_what_is_said_to_be_missing(policy, path):
    with pytest.raises(ControllerUnavailable, match=f"on its socket {path}: nobody listens there"):
        bootstrap.ask_controller(policy(), {"request": "status"})


def test_it_listens_for_other_machines_only_where_it_is_told_to(policy, path):
    assert [*service.make_control_servers(policy(), None, None)] == [str(path)]
    both = service.make_control_servers(policy(listen="127.0.0.1:9812"), None, None)
    assert [*both] == [str(path), "127.0.0.1:9812"]


def test_slurms_user_and_munged_are_those_of_slurm_conf(policy, conf):
    nobody = pwd.getpwnam("nobody").pw_uid
    with PrivateMunged() as munged:
        conf(f"ClusterName=Gpu\nSlurmUser=nobody\nAuthInfo=socket={munged.socket}\n")
        realm = bootstrap.realm(policy())
        assert (realm.cluster, realm.server_ids) == ("gpu", {0, nobody})
        me = os.geteuid()
        assert munged.munge.decode(realm.munge.encode(b"x", me)) == (me, b"x")


def test_a_user_whom_this_machine_does_not_know_is_nobody(policy, conf):
    conf("ClusterName=c\nSlurmUser=no-such-user-here\n")
    assert bootstrap.realm(policy()).server_ids == {0}


def test_without_slurm_conf_slurm_itself_is_asked(policy, monkeypatch):
    settings = {"ClusterName": "c", "SlurmUser": "slurm(4711)", "AuthInfo": "(null)"}
    slurm = SimpleNamespace(
        read=lambda *_: SimpleNamespace(config=SimpleNamespace(settings=settings))
    )
    monkeypatch.setattr("slurm_gpu_policy.adapters.slurm.conf_file.identity", dict)
    monkeypatch.setattr(bootstrap, "connect", lambda _policy: slurm)
    realm = bootstrap.realm(policy())
    assert (realm.cluster, realm.server_ids) == ("c", {0, 4711})


def test_without_either_nothing_is_asked(policy, monkeypatch):
    def away(_policy):
        msg = "Unable to contact slurm controller"
        raise SlurmUnavailable(msg)

    monkeypatch.setattr("slurm_gpu_policy.adapters.slurm.conf_file.identity", dict)
    monkeypatch.setattr(bootstrap, "connect", away)
    with pytest.raises(SlurmUnavailable):
        bootstrap.ask_controller(policy(reach="127.0.0.1:1"), {"request": "status"})
