"""What a request, a job and a run hold, as prices ask for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.model.job import AccountingRecord, JobState
from slurm_gpu_policy.model.prices import Use
from slurm_gpu_policy.model.tag import CONTROLLER, write_tag
from slurm_gpu_policy.policy.prices.pricing import (
    use_of_job,
    use_of_run,
)
from tests.builders import make_job, make_request
from tests.unit.policy.priced import (
    judge,
)


@pytest.mark.parametrize(
    ("asked", "cpus", "memory"),
    [
        ({}, 1, 8000),
        ({"gpus": 4}, 1, 8000),
        ({"gpus": 16}, 2, 16000),
        ({"ntasks": 4, "cpus_per_task": 3}, 12, 96000),
        ({"gpus": 4, "options": (("cpus-per-gpu", "8"),)}, 32, 256_000),
        ({"gpus": 4, "options": (("mem-per-gpu", "10G"),)}, 1, 40960),
        ({"gpus": 16, "options": (("ntasks-per-node", "8"),)}, 16, 128_000),
        ({"gpus": 16, "memory_mb": 1000}, 2, 2000),
        ({"gpus": 4, "options": (("mem", "0"),)}, 1, 1_000_000),
        ({"options": (("mem", "0"),), "script_options": (("mem-per-gpu", "1G"),)}, 1, 1_000_000),
        ({"cpus_per_task": 2, "script_options": (("mem-per-cpu", "1G"),)}, 2, 2048),
        ({"options": (("exclusive", None),)}, 64, 512_000),
        ({"options": (("mem-per-gpu", "much"),)}, 1, 8000),
    ],
)
def test_a_request_holds_what_it_asks_for_or_the_clusters_default(asked, cpus, memory):
    decision = judge(make_request(**asked), settings={"DefMemPerCPU": "8000"})
    assert decision.kind == "admit"
    used = decision.use
    assert (used.cpus, used.memory_mb) == (cpus, memory)
    assert (dict(used.gpus), used.partition, used.qos) == ({"h100": decision.gpus}, "gpu", "normal")


def test_without_any_default_a_job_holds_the_memory_of_its_nodes():
    consumed = judge(settings={"SelectTypeParameters": "CR_CORE_MEMORY"})
    assert consumed.use.memory_mb == 1_000_000
    assert judge(settings={"SelectTypeParameters": "CR_CORE"}).use.memory_mb == 0
    by_node = judge(make_request(gpus=16), settings={"DefMemPerNode": "500"})
    assert by_node.use.memory_mb == 1000


def test_on_a_site_without_types_the_gpus_have_none():
    decision = judge(cluster_defaults={"typed": False})
    assert dict(decision.use.gpus) == {"": 1}
    assert decision.cost_micros == 2_500_000


def run(**tres: int) -> AccountingRecord:
    named = {name.replace("_", "/", 1).replace("__", ":"): n for name, n in tres.items()}
    return AccountingRecord(
        1, "1", "u1", "nlp", "gpu", "normal", "job", JobState.COMPLETED, 0, 0, 0, 0, 0, 0, None,
        0, 0, "gpu01", named,
    )  # fmt: skip


def test_a_run_used_what_was_allocated_to_it():
    used = use_of_run(run(cpu=4, mem=8000, gres_gpu=5, gres_gpu__H100=2, gres_gpu__a100=2))
    assert used == Use({"h100": 2, "a100": 2, "": 1}, 4, 8000, "gpu", "normal")
    assert use_of_run(run(cpu=1)).gpu_count == 0


def test_a_job_uses_what_slurm_says_and_the_type_that_it_asked_for():
    pending = make_job(state=JobState.PENDING, gpus=2, partitions=("gpu", "old"))
    tres = {"cpu": 4, "mem": 9000, "gres/gpu": 2}
    assert use_of_job(replace(pending, tres=tres)) == Use({"h100": 2}, 4, 9000, "gpu,old", "normal")
    typed = {**tres, "gres/gpu:a100": 1}
    assert use_of_job(replace(pending, tres=typed, gpu_type="")).gpus == {"a100": 1, "": 1}
    assert use_of_job(pending) == Use({"h100": 2}, 1, 1000, "gpu,old", "normal")


def test_a_job_that_waits_uses_the_most_that_it_may_get():
    comment = write_tag({"most": "8"}, "", CONTROLLER)
    job = make_job(state=JobState.PENDING, gpus=2, admin_comment=comment)
    assert use_of_job(job).gpus == {"h100": 8}
    assert use_of_job(replace(job, state=JobState.RUNNING)).gpus == {"h100": 2}
