"""What the policy made of a request, and why."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from slurm_gpu_policy.model.prices import Use
from slurm_gpu_policy.model.record import record

Kind = Literal["admit", "hold", "refuse"]


@record
class Reason:
    """One rule's word on a request.

    ``rule`` is an id of docs/policy.md; ``value`` is what was found and ``limit`` what the rule
    allows, both as text with units; ``remedy`` says what would pass.
    """

    rule: str
    message: str
    value: str | None = None
    limit: str | None = None
    remedy: str | None = None


@record
class Decision:
    """Admit, hold for approval, or refuse; and where the job goes if it goes.

    ``reasons`` are never empty. ``cost_micros`` is ``None`` where the site has no price for the
    GPU type. The routed fields are what the request becomes, also where a refusal shows how far
    it came; they are empty or ``None`` where routing did not get that far.
    """

    kind: Kind
    reasons: tuple[Reason, ...]
    gpus: int = 0
    """GPUs of one job (of each array task)."""
    gpu_type: str = ""
    gres_type: str | None = None
    """Slurm's name of the type in GRES requests; ``None`` on a site with untyped GRES."""
    features: tuple[str, ...] = ()
    """Node features the GPU type needs (how untyped sites tell types apart)."""
    gpu_request: str = "gres"
    """The site's form of GPU requests: ``gres``, ``gpus-per-node`` or ``gpus``."""
    nodes: int = 1
    cpus: int | None = None
    """CPUs per task where the policy chose them (CPU fallback)."""
    partition: str = ""
    account: str = ""
    qos: str = ""
    time_seconds: int | None = None
    tasks: int = 1
    """Array tasks; 1 for a plain job."""
    cost_micros: int | None = None
    """Estimate for all tasks, if they start now and each uses its whole time limit."""
    currency: str = ""
    use: Use = field(default_factory=Use)
    """What each task holds, as prices ask for it."""
