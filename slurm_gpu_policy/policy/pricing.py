"""What a job costs (rules C-4xx): whole GPU-seconds times an exact price."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy

HOUR_SECONDS = 3600


def price_micros(policy: Policy, gpu_type: str) -> int | None:
    """Return the price of one GPU-hour in micro-units; ``None`` where the site has set none."""
    entry = policy.gpu_types.get(gpu_type)
    return entry.price_per_hour if entry is not None else None


def cost_micros(price: int, gpus: int, seconds: int, tasks: int = 1) -> int:
    """Rule C-401: GPUs x seconds x tasks x price per hour, rounded up to a whole micro-unit."""
    return -(-price * gpus * seconds * tasks // HOUR_SECONDS)


def affordable_seconds(price: int, gpus: int, budget_micros: int, tasks: int = 1) -> int | None:
    """Return the longest time limit whose cost stays within *budget_micros*.

    ``None`` where the job costs nothing, so that any time fits.
    """
    per_hour = price * gpus * tasks
    return None if per_hour == 0 else budget_micros * HOUR_SECONDS // per_hour
