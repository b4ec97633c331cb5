"""Jobs and rules for tests of the controller."""

from __future__ import annotations

import itertools

from slurm_gpu_policy.model.action import Action
from slurm_gpu_policy.model.submission import Submission

_tokens = itertools.count(1)
SCRIPTS = {"wait": "#!/bin/sh\nsleep 300\n", "fail": "#!/bin/sh\nsleep 1\nexit 3\n"}


def submitted(slurm, kind, **options):
    """Queue a job of *kind* for u1 and return its id; one that is to ``wait`` finds no node."""
    if kind == "wait":
        slurm.drain("gpu01")
        slurm.drain("gpu02")
        options = {"gres": "gpu:h100:1", **options}
    else:
        options = {"partition": "cpu", **options}
    token = f"t{next(_tokens)}"
    given = {"comment": f"gpu-submit(token={token})", **options}
    return slurm.submit(Submission(SCRIPTS[kind], tuple(given.items()), token, submit_as="u1"))


def site_factors(wanted, rule="P-601"):
    """Return a decider that wants ``wanted(job)`` for each waiting job, where it differs."""

    def decide(snapshot, policy, votes):
        sites = {one.job_id: one.site for one in snapshot.priorities}
        return tuple(
            Action("site_factor", job.job_id, job.display_id, rule, "because",
                   f"site {sites[job.job_id]}", f"site {wanted(job)}", user=job.user,
                   site_factor=wanted(job))
            for job in snapshot.jobs
            if job.state.is_pending
            and job.job_id in sites
            and sites[job.job_id] != wanted(job)
        )  # fmt: skip

    return decide
