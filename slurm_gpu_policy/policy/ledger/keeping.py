"""Whether a site keeps books at all; gpu-submit asks it each time, so it is little to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy


def keeps_books(policy: Policy) -> bool:
    """Whether the site wants books: it says so, or has budgets or prices for them."""
    if policy.ledger.keep is not None:
        return policy.ledger.keep
    return bool(policy.budgets) or policy.pricing is not None
