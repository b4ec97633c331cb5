"""Accounts with guaranteed GPUs, and jobs in the two QOS they move between."""

from __future__ import annotations

from slurm_gpu_policy.model.job import JobState
from tests.builders import make_association, make_policy
from tests.queues import waiting

MINE, LENT = "guaranteed", "over-quota"
HOME = "gpu-policy(home=guaranteed)"
SETTLE, MIN_RUN = 600, 1800


def policy_for(section=None, **guaranteed):
    accounts = {name: {"guaranteed_gpus": gpus} for name, gpus in guaranteed.items()}
    return make_policy(accounts=accounts, over_quota=section or {})


def tree(*accounts, users=("u1",), default_qos=MINE, **parents):
    """Accounts under root, or under the one that *parents* says, with users in each."""
    qos = frozenset({MINE, LENT, "normal", "high"})
    names = (*accounts, *parents)
    return (
        make_association("root", "", parent=""),
        *(make_association(n, "", parent=parents.get(n, "root")) for n in names),
        *(make_association(n, u, qos=qos, default_qos=default_qos) for n in names for u in users),
    )


def job(number, gpus=1, qos=MINE, **fields):
    return waiting(number, gpus=gpus, qos=qos, **fields)


def running(number, gpus=1, qos=MINE, **fields):
    return job(number, gpus, qos, state=JobState.RUNNING, **fields)
