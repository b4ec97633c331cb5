"""What slurm.conf itself says: PriorityFlags where 22.05 prints others, and who the cluster is."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.adapters.slurm import conf_file
from slurm_gpu_policy.adapters.slurm.conf_file import corrected, identity, identity_in


@pytest.fixture
def conf(tmp_path):
    def write(text, included=""):
        (tmp_path / "slurm.conf").write_text(text)
        (tmp_path / "more.conf").write_text(included)
        return {"SLURM_CONF": str(tmp_path / "slurm.conf"), "PriorityFlags": "NO_NORMAL_ALL"}

    return write


def test_the_last_line_of_the_file_and_what_it_includes_counts(conf):
    settings = conf(
        "PriorityFlags=MAX_TRES # not this\n#PriorityFlags=ACCRUE_ALWAYS\nInclude more.conf\n",
        "  priorityflags = NO_NORMAL_QOS,MAX_TRES # this\n",
    )
    assert corrected(settings)["PriorityFlags"] == "NO_NORMAL_QOS,MAX_TRES"


def test_what_really_is_all_stays(conf):
    settings = conf("PriorityFlags=no_normal_all\n")
    assert corrected(settings) is settings


def test_other_flags_are_never_looked_up(conf):
    settings = conf("PriorityFlags=NO_NORMAL_QOS\n") | {"PriorityFlags": "MAX_TRES"}
    assert corrected(settings) is settings


def test_without_the_file_what_is_printed_stands(conf, tmp_path):
    settings = conf("Include more.conf\n", "Include slurm.conf\n")  # in a circle, and no flags
    assert corrected(settings) is settings
    settings["SLURM_CONF"] = str(tmp_path / "none")
    assert corrected(settings) is settings


# --- who the cluster is --------------------------------------------------------------------------


def test_the_cluster_is_who_slurm_conf_and_what_it_includes_says(conf, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", conf(
        "Include more.conf\nSlurmUser=slurm # not root\n"
        "AuthInfo=cred_expire=60,socket=/run/munge/other.socket\n",
        "CLUSTERNAME=Gpu\nSlurmUser=root\n",
    )["SLURM_CONF"])  # fmt: skip
    assert identity() == {
        "clustername": "gpu",
        "slurmuser": "slurm",
        "socket": "/run/munge/other.socket",
    }


def test_slurm_is_roots_where_nothing_else_is_said(conf, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", conf("ClusterName=c\n")["SLURM_CONF"])
    assert identity() == {"clustername": "c", "slurmuser": "root", "socket": ""}


def test_without_slurm_conf_nobody_knows(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "none"))
    assert identity() == {}
    monkeypatch.delenv("SLURM_CONF")
    monkeypatch.setattr(conf_file, "FILES", (str(tmp_path / "none"),))
    assert identity() == {}


def test_a_configless_machine_has_it_elsewhere(conf, monkeypatch, tmp_path):
    path = conf("ClusterName=c\n")["SLURM_CONF"]
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setattr(conf_file, "FILES", (str(tmp_path / "none"), path))
    assert identity()["clustername"] == "c"


def test_slurmctlds_own_words_on_it_are_understood():
    settings = {"ClusterName": "Gpu", "SlurmUser": "slurm(64030)", "AuthInfo": "(null)"}
    assert identity_in(settings) == {"clustername": "gpu", "slurmuser": "64030", "socket": ""}
