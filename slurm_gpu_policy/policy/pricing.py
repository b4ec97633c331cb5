"""What a job costs (rules C-4xx): whole GPU-seconds times an exact price."""

from __future__ import annotations

HOUR_SECONDS = 3600


def cost_micros(price: int, gpus: int, seconds: int, tasks: int = 1) -> int:
    """Rule C-401: GPUs x seconds x tasks x price per hour, rounded up to a whole micro-unit."""
    return -(-price * gpus * seconds * tasks // HOUR_SECONDS)


def affordable_seconds(price: int, gpus: int, budget_micros: int, tasks: int = 1) -> int | None:
    """Return the longest time limit whose cost stays within *budget_micros*.

    ``None`` where the job costs nothing, so that any time fits.
    """
    per_hour = price * gpus * tasks
    return None if per_hour == 0 else budget_micros * HOUR_SECONDS // per_hour
