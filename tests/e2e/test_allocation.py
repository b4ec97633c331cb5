"""The Python interface on a real cluster: GPUs come with the block and go with it."""

from __future__ import annotations

import json
import signal
import textwrap
import time

import pytest

from tests.e2e.conftest import scontrol_indexes, squeue, wait_for

pytestmark = pytest.mark.cluster

HOLD = """
    import json, sys, time
    from slurm_gpu_policy import allocation
    with allocation(gpus={gpus}, gpu_type="h100", hours=0.1, name="held") as gpus:
        print(json.dumps([gpus.job_id, gpus.node, list(gpus.indexes), len(gpus.nodes)]), flush=True)
        {body}
"""


def python(u1, text: str) -> list[str]:
    return [f"{u1.programs}/python", "-c", textwrap.dedent(text)]


def hold(u1, body: str, gpus: int = 2):
    process = u1.start(*python(u1, HOLD.format(gpus=gpus, body=body)))
    line = process.stdout.readline()
    assert line, process.communicate()[1].decode()
    return process, json.loads(line)


def test_an_allocation_gives_the_gpus_slurm_says_and_ends_with_the_block(u1):
    process, (job, node, indexes, nodes) = hold(u1, "sys.stdin.readline()", gpus=2)
    assert nodes == 1
    assert len(indexes) == 2
    first, _, last = scontrol_indexes(str(job))[node].partition("-")
    assert indexes == list(range(int(first), int(last or first) + 1))
    assert squeue(str(job), "%j") == "held"
    process.communicate(timeout=60)
    wait_for(str(job), "CANCELLED", "COMPLETED")


def test_an_allocation_over_two_nodes_names_both(u1):
    process, (job, _, _, nodes) = hold(u1, "pass", gpus=16)
    assert nodes == 2
    process.communicate(timeout=60)
    wait_for(str(job), "CANCELLED", "COMPLETED")


def test_an_error_in_the_block_passes_on_and_gives_the_gpus_back(u1):
    process, (job, *_) = hold(u1, "raise RuntimeError('mine')")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "RuntimeError: mine" in errors.decode()
    wait_for(str(job), "CANCELLED", "COMPLETED")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_gives_the_gpus_back(u1, number):
    process, (job, *_) = hold(u1, "time.sleep(300)")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    wait_for(str(job), "CANCELLED", "COMPLETED")


def test_a_signal_while_waiting_leaves_nothing_in_the_queue(users):
    u1, u2 = users["u1"], users["u2"]
    job = u2.submit("--gpus", "16", "-t", "5", "--", "sleep", "120")
    wait_for(job, "RUNNING")
    process = u1.start(*python(u1, HOLD.format(gpus=1, body="pass").replace("held", "patient")))
    deadline = time.monotonic() + 30
    while "patient" not in u1.run("squeue", "-h", "-u", "u1", "-o", "%j").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode != 0
    deadline = time.monotonic() + 30
    while "patient" in u1.run("squeue", "-h", "-u", "u1", "-o", "%j").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_an_allocation_that_is_not_granted_in_time_is_withdrawn(users):
    u1, u2 = users["u1"], users["u2"]
    job = u2.submit("--gpus", "16", "-t", "5", "--", "sleep", "120")
    wait_for(job, "RUNNING")
    text = """
        from slurm_gpu_policy import allocation
        from slurm_gpu_policy.errors import SlurmTimeout
        try:
            with allocation(gpus=1, name="late", timeout_seconds=2):
                print("granted")
        except SlurmTimeout:
            print("late")
    """
    assert u1.run(*python(u1, text)).stdout == "late\n"
    assert "late" not in u1.run("squeue", "-h", "-u", "u1", "-o", "%j").stdout


def test_submit_returns_the_job_and_the_decision(u1):
    text = """
        from slurm_gpu_policy import submit
        job = submit(["true"], gpus=3, gpu_type="h100", hours=0.05, name="mine")
        print(job.job_id, job.decision.partition)
    """
    number, partition = u1.run(*python(u1, text)).stdout.split()
    assert partition == "gpu"
    wait_for(number, "COMPLETED")
    assert squeue(number, "%j") == "mine"


def test_a_refusal_is_an_error_with_its_reasons(u1):
    text = """
        from slurm_gpu_policy import submit
        from slurm_gpu_policy.errors import Refused, RequestError
        try:
            submit(["true"], gpus=99)
        except Refused as no:
            print(no.decision.reasons[0].rule)
        try:
            submit(["true"], bogus=1)
        except RequestError as no:
            print("bogus" in str(no))
    """
    assert u1.run(*python(u1, text)).stdout.split() == ["A-105", "True"]
