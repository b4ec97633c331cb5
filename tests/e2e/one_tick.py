"""One tick of the controller with its records in memory: for a cluster without their database.

``python -m tests.e2e.one_tick [VOTE…]``, a vote being ``JOB:SUBMIT_TIME:APPROVER:VERDICT``; the
policy file is the environment's. Prints what was done, as JSON.
"""

from __future__ import annotations

import json
import sys

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.adapters.identity import groups_of
from slurm_gpu_policy.adapters.slurm.people import SlurmPeople
from slurm_gpu_policy.model.action import Vote
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.services.controller import Controller
from slurm_gpu_policy.services.directory import Directory
from tests.fakes.records import FakeRecords


def main():
    policy = bootstrap.load_policy()
    clock = SystemClock()
    records = FakeRecords()
    for text in sys.argv[1:]:
        job, submitted, approver, verdict = text.split(":")
        numbers = (JobId(int(job)), int(submitted))
        records.vote(Vote(*numbers, approver, verdict, "because", clock.now()))
    controller = Controller(
        policy=policy,
        slurm=bootstrap.connect(policy),
        open_records=lambda _: records,
        clock=clock,
        directory=Directory(SlurmPeople(), groups_of, clock),
        observers=(),
        actor="test",
        holder="test",
    )
    assert controller.keep_lead()
    report = controller.run_tick()
    assert report.succeeded, report
    actions = [
        {"job_id": e.action.job_id, "rule": e.action.rule, "outcome": e.outcome, "words": e.words}
        for e in report.actions
    ]
    sys.stdout.write(json.dumps(actions))


main()
