"""Charging beside a real cluster, with books in memory: every GPU-second as sacct adds it up."""

from __future__ import annotations

import os
import subprocess

from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.services.ledger.charge import Charging
from slurm_gpu_policy.services.ledger.reconcile import Reconciling
from tests.builders import make_policy
from tests.fakes.books import FakeLedger

PARTS = (Part.JOBS, Part.ENDED, Part.ASSOCIATIONS)
POLICY = make_policy(
    gpu_types={"h100": {"price_per_hour": "3.6"}},
    budgets={"nlp": {"amount": "100000"}, "vision": {"gpu_hours": 10000}},
)
ADD_UP = r"""
{
    gpus = 0
    if (match($5, /gres\/gpu=[0-9]+/)) gpus = substr($5, RSTART + 9, RLENGTH - 9)
    seconds = $4
    if ($3 ~ /^[0-9]+$/ && $3 < $2) seconds -= $2 - $3  # 22.05, of a resized job
    sum[$1] += gpus * seconds
}
END { for (job in sum) print job, sum[job] }
"""


def by_sacct(ids):
    """Return GPU-seconds by job id."""
    fields = "JobIDRaw,Submit,Start,ElapsedRaw,AllocTRES"
    argv = ["sacct", "-n", "-D", "-X", "-P", "-o", fields, "-j", ",".join(map(str, ids))]
    env = os.environ | {"SLURM_TIME_FORMAT": "%s"}
    said = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout
    summed = subprocess.run(
        ["awk", "-F|", ADD_UP], input=said, capture_output=True, text=True, check=True
    ).stdout
    return {int(job): int(seconds) for job, seconds in map(str.split, summed.splitlines())}


class Books:
    """Charging over the cluster's queue and accounting, by hand."""

    def __init__(self, cluster):
        self.slurm = cluster.slurm
        self.ledger = FakeLedger()
        self.charging = Charging(self.ledger, self.slurm, SystemClock(), "test")

    def tick(self):
        state = self.charging.run(self.slurm.read(*PARTS), POLICY)
        assert state.problems == ()
        assert self.ledger.problems() == ()

    def by_job(self, ids):
        """Return GPU-seconds by job id, from the cluster's own funds."""
        sums = {}
        with self.ledger.reading() as books:
            own = {fund.fund_id for fund in books.funds() if fund.level == ("", "")}
            for claim in books.claims_between(0, 2**40):
                if claim.job_id in ids:
                    seconds = sum(leg.gpu_seconds for leg in claim.legs if leg.fund_id in own)
                    sums[claim.job_id] = sums.get(claim.job_id, 0) + seconds
        return sums


def test_requeued_resized_suspended_and_cancelled_jobs_are_charged_as_sacct_has_them(real_cluster):
    books = Books(real_cluster)
    gpu = {"gres": "gpu:h100:1", "account": "nlp-finetune", "mem": "100"}
    sleep = "#!/bin/sh\nsleep 6\n"
    array = real_cluster.submit(script="#!/bin/sh\nsleep 1\n", array="0-3", **gpu)
    fails = real_cluster.submit(script="#!/bin/sh\nsleep 1\nexit 3\n", **gpu)
    requeued = real_cluster.submit(script=sleep, **gpu)
    resized = real_cluster.submit(script=sleep, nodes="2", **gpu)
    suspended = real_cluster.submit(script=sleep, **gpu)
    cancelled = real_cluster.submit(script=sleep, **gpu)
    waits = real_cluster.submit(script=sleep, begin="now+1hour", **gpu)
    run = (requeued, resized, suspended, cancelled)
    for job in run:
        real_cluster.running(job)
    books.tick()
    real_cluster.sleep(1.5)
    real_cluster.slurm.requeue(str(requeued), hold=True)
    scontrol("suspend", suspended)
    scontrol("update", f"JobId={resized}", "NumNodes=1")
    for job in (cancelled, waits):
        real_cluster.slurm.cancel(str(job))
    books.tick()
    real_cluster.sleep(2.2)
    scontrol("resume", suspended)
    books.tick()
    real_cluster.slurm.cancel(str(requeued))
    for job in (*run, fails):
        real_cluster.over(job)
    ids = {one.job_id for one in real_cluster.slurm.accounting(job_ids=[str(array)])}
    ids |= {*run, fails, waits}
    for _ in range(60):
        if all(one.is_over for one in real_cluster.slurm.accounting(job_ids=[*map(str, ids)])):
            break
        real_cluster.sleep(0.5)
    books.tick()
    theirs = by_sacct(ids)
    ours = books.by_job(ids)
    assert {job: seconds for job, seconds in theirs.items() if seconds} == {
        job: seconds for job, seconds in ours.items() if seconds
    }
    assert ours[resized] > 0
    assert ours[suspended] > 0
    said = Reconciling(real_cluster.slurm, books.ledger)(None)["differences"]
    assert [text for text in said if int(text.split()[1]) in ids] == []


def scontrol(*words):
    subprocess.run(["scontrol", *map(str, words)], check=True, capture_output=True)
