"""``gpu-policy optimize``: the ways to run a job, by cost and by start."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.apps.submit import main as submit_main
from slurm_gpu_policy.errors import SlurmRefused
from tests.fakes.world import gpu_node

SITE = """\
currency: EUR
gpu_types: {h100: {price_per_hour: 2}, a100: {price_per_hour: 1}}
"""
NIGHTS = 'pricing: {hours: [{start: "20:00", end: "08:00", factor: 0.5}]}\n'


@pytest.fixture
def site(monkeypatch, tmp_path):
    monkeypatch.setattr(submit_main, "current_user", lambda: "u1")
    monkeypatch.setenv("GPU_POLICY_USER_FILE", str(tmp_path / "submit.yaml"))
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "policy.yaml"))

    def write(text):
        (tmp_path / "policy.yaml").write_text(text)

    write(SITE)
    return write


@pytest.fixture
def two_types(slurm, site):
    """A cluster whose A100s are all taken for a while, and whose H100s are free."""
    slurm.nodes = tuple(
        gpu_node(node.name, gpu_type="a100") if node.name == "gpu02" else node
        for node in slurm.nodes
    )
    return slurm


def choices(gpu_policy, *argv):
    result = gpu_policy("optimize", "--json", *argv)
    assert result.code == 0, result.err
    return result.json["options"]


def test_each_type_and_partition_is_there_the_cheapest_first(gpu_policy, two_types):
    found = choices(gpu_policy, "--gpus", "2", "--time", "1h")
    assert [(one["gpu_type"], one["partition"]) for one in found] == [
        ("a100", "gpu"), ("a100", "interactive"), ("h100", "gpu"), ("h100", "interactive"),
    ]  # fmt: skip
    assert [one["estimated_cost"]["amount"] for one in found] == ["2.00", "2.00", "4.00", "4.00"]
    assert [one["cheapest"] for one in found] == [True, False, False, False]
    assert sum(one["soonest"] for one in found) == 1
    assert found[2]["arguments"] == ["--gpu-type=h100", "--gpus=2", "--partition=gpu"]


def test_the_soonest_may_be_another_than_the_cheapest(gpu_policy, two_types, submit):
    submit(gpus=8, partition="gpu", nodelist="gpu02")
    starts = {"a100": 2_000_000_000, "h100": 1_900_000_000}
    slurm = two_types
    slurm.would_start = lambda submission: next(
        start for kind, start in starts.items() if kind in dict(submission.options)["gres"]
    )
    found = choices(gpu_policy, "--gpus", "2", "--time", "1h")
    (cheapest,) = [one for one in found if one["cheapest"]]
    (soonest,) = [one for one in found if one["soonest"]]
    assert (cheapest["gpu_type"], soonest["gpu_type"]) == ("a100", "h100")


def test_what_the_request_names_stays(gpu_policy, two_types):
    found = choices(
        gpu_policy,
        "--gpus",
        "2",
        "--gpu-type",
        "h100",
        "--partition",
        "interactive",
        "--time",
        "1h",
    )
    assert [(one["gpu_type"], one["partition"]) for one in found] == [("h100", "interactive")]


def test_fewer_gpus_are_tried_only_where_they_are_allowed(gpu_policy, two_types):
    asked = ("--gpus", "7", "--gpu-type", "h100", "--partition", "gpu", "--time", "1h")
    assert [one["gpus"] for one in choices(gpu_policy, *asked)] == [7]
    found = choices(gpu_policy, *asked, "--min-gpus", "2")
    assert [one["gpus"] for one in found] == [2, 3, 7]
    (soonest,) = [one for one in found if one["soonest"]]
    assert soonest["gpus"] == 7  # of those that start at once, all that was asked for


def test_cheaper_hours_are_a_choice_of_their_own(gpu_policy, two_types, site):
    site(SITE + NIGHTS)
    now = two_types.clock.now()
    noon = now - now % 86400 + 12 * 3600 + 86400
    two_types.clock.sleep(noon - now)
    found = choices(gpu_policy, "--gpu-type", "h100", "--partition", "gpu", "--time", "1h")
    assert [one["estimated_cost"]["amount"] for one in found] == ["1.00", "2.00"]
    assert found[0]["arguments"][-1] == "--begin=now+480minutes"
    assert found[0]["begin"] is not None
    assert (found[0]["cheapest"], found[1]["soonest"]) == (True, True)
    own = choices(gpu_policy, "--gpu-type", "h100", "-p", "gpu", "--time", "1h", "--begin", "23:00")
    assert len(own) == 1  # a begin of the user's own is kept


def test_what_slurm_itself_refuses_is_no_choice(gpu_policy, two_types):
    def would_start(submission):
        if dict(submission.options)["partition"] == "interactive":
            msg = "no"
            raise SlurmRefused(msg)

    two_types.would_start = would_start
    found = choices(gpu_policy, "--gpus", "1", "--time", "1h")
    assert {one["partition"] for one in found} == {"gpu"}
    assert [one["estimated_start"] for one in found] == [None, None]
    assert not any(one["soonest"] for one in found)


def test_the_table_names_the_options_for_gpu_submit(gpu_policy, two_types):
    lines = gpu_policy("optimize", "--gpus", "2", "--time", "1h").out.splitlines()
    assert lines[0].split() == ["GPUS", "TYPE", "PARTITION", "START", "COST", "OPTIONS"]
    assert lines[1].startswith("cheapest")
    assert lines[1].endswith("2.00 EUR  --gpu-type=a100 --gpus=2 --partition=gpu")


def test_a_job_that_can_run_nowhere_is_refused_as_gpu_submit_refuses_it(gpu_policy, two_types):
    result = gpu_policy("optimize", "--gpus", "99")
    assert result.code == 3
    assert "A-105" in result.err


def test_a_script_is_read_as_gpu_submit_reads_it(gpu_policy, two_types, tmp_path):
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\n#SBATCH --gpus=h100:2 --time=60\ntrue\n")
    found = choices(gpu_policy, str(script))
    assert {(one["gpus"], one["gpu_type"], one["time_limit_seconds"]) for one in found} == {
        (2, "h100", 3600)
    }


def test_a_job_without_gpus_has_choices_too(gpu_policy, two_types, site):
    site("pricing: {cpu_hour: 0.10}\n")
    found = choices(gpu_policy, "--gpus", "0", "--cpus-per-task", "10", "--time", "1h")
    assert found[0]["estimated_cost"]["amount"] == "1.00"
    assert {one["gpus"] for one in found} == {0}


def test_nothing_is_queued_and_too_many_ways_are_cut(gpu_policy, two_types, monkeypatch):
    monkeypatch.setattr("slurm_gpu_policy.services.optimize.MOST_CHOICES", 3)
    result = gpu_policy("optimize", "--gpus", "2", "--time", "1h")
    assert "1 more were left out" in result.out
    assert not two_types.submissions
