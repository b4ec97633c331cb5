"""GrpTRESMins as Slurm prints and takes them."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.adapters.slurm.limiting import limit_uses, words_of
from slurm_gpu_policy.errors import SlurmRefused, SlurmUnreadable
from slurm_gpu_policy.model.limit_use import LimitChange, LimitUse

OLD = """Current Association Manager state
Association Records
ClusterName=enf Account=nlp UserName= Partition= Priority=10 ID=3 ParentAccount=root(1) Lft=16 DefAssoc=No GrpJobs=N(0) GrpTRES=cpu=N(4),gres/gpu=N(1) GrpTRESMins=cpu=N(31),fs/disk=N(0),gres/gpu=60(7),gres/gpu:h100=N(7) GrpTRESRunMins=cpu=N(8),fs/disk=N(0),gres/gpu=N(4),gres/gpu:h100=N(4) MaxJobs= MinPrioThresh=
ClusterName=enf Account=nlp UserName=u1(6001) Partition=gpu Priority=0 ID=4 ParentAccount= Lft=17 GrpTRESMins=cpu=N(0),gres/gpu=N(0) GrpTRESRunMins=cpu=N(0),gres/gpu=N(0) MinPrioThresh= Comment=(null)
"""  # noqa: E501 - as 22.05.8 and 26.05.5 print it


def test_limits_used_and_running_minutes_are_read():
    account, user = limit_uses(OLD)
    assert account == LimitUse(
        "nlp",
        limits={"gres/gpu": 60},
        used={"cpu": 31, "fs/disk": 0, "gres/gpu": 7, "gres/gpu:h100": 7},
        running={"cpu": 8, "fs/disk": 0, "gres/gpu": 4, "gres/gpu:h100": 4},
    )
    assert (user.account, user.user, user.partition, user.limits) == ("nlp", "u1", "gpu", {})


def test_another_form_is_an_error_with_the_line():
    with pytest.raises(SlurmUnreadable):
        list(limit_uses("ClusterName=enf Account=nlp UserName="))


def test_what_is_said_to_sacctmgr_names_the_cluster_and_no_association_of_a_partition():
    account = words_of("enf", LimitChange("gres/gpu", 60, "nlp"))
    assert " ".join(account) == (
        "modify account where name=nlp cluster=enf set GrpTRESMins=gres/gpu=60"
    )
    user = words_of("enf", LimitChange("billing", None, "nlp", "u1"))
    assert " ".join(user) == (
        "modify user where name=u1 account=nlp cluster=enf partition= set GrpTRESMins=billing=-1"
    )
    qos = words_of("enf", LimitChange("gres/gpu", 5, qos="idle"))
    assert " ".join(qos) == "modify qos where name=idle set GrpTRESMins=gres/gpu=5"


@pytest.mark.parametrize("name", ["a b", "a\nquit", "n[1-2]", "a,b", "a'b"])
def test_no_name_becomes_another_command(name):
    with pytest.raises(SlurmRefused):
        words_of("enf", LimitChange("gres/gpu", 1, name))
    with pytest.raises(SlurmRefused):
        words_of("enf", LimitChange("gres/gpu", 1, "nlp", name))
    with pytest.raises(SlurmRefused):
        words_of("enf", LimitChange(name, 1, "nlp"))
