"""The ids of the rules, as docs/policy.md numbers them.

Each rule has one function that implements it and names it in its docstring; the id stands in
every reason, so that a user can look it up and an operator can grep for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.action import Level

# A-1xx: can Slurm ever run it? Broken ones are always refused.
ACCOUNT: Final = "A-101"
QOS: Final = "A-102"
GPU_TYPE_KNOWN: Final = "A-103"
GPU_TYPE_UP: Final = "A-104"
SIZE: Final = "A-105"
PARTITION: Final = "A-106"
TIME: Final = "A-107"
WORKLOAD: Final = "A-108"
SLURM_LIMIT: Final = "A-109"
ARRAY: Final = "A-110"

# L-2xx: the site's limits. What follows depends on the enforcement level.
LIMIT_GPUS_PER_JOB: Final = "L-201"
LIMIT_GPUS: Final = "L-202"
LIMIT_TIME: Final = "L-203"
GPU_TYPE_NAMED: Final = "L-204"
TIME_NAMED: Final = "L-205"
ACCOUNT_CLOSED: Final = "L-206"
ACCOUNT_OVER_BUDGET: Final = "L-207"

# R-3xx: routing. These say where a job goes.
ROUTE_PREFERENCE: Final = "R-301"
ROUTE_CHEAPEST: Final = "R-302"
ROUTE_CPU_FALLBACK: Final = "R-303"
ROUTE_CPU: Final = "R-304"
ROUTE_TIME: Final = "R-305"

# C-4xx: cost.
COST_ESTIMATE: Final = "C-401"
COST_CAP: Final = "C-402"
COST_UNKNOWN: Final = "C-403"
COST_TIME: Final = "C-404"
COST_MINIMUM: Final = "C-405"
REFUND_NODE: Final = "C-406"
REFUND_PREEMPTION: Final = "C-407"
SURCHARGE_IDLE: Final = "C-408"
COST_NEVER_RAN: Final = "C-409"
COST_RUN: Final = "C-410"
REFUND_BY_HAND: Final = "C-411"

# S-5xx: the script.
SCRIPT_CONFLICT: Final = "S-501"

# P-6xx: who goes first. Orderings, and the terms that are added to each.
ORDER_SLURM: Final = "P-601"
ORDER_PRIORITY: Final = "P-602"
ORDER_FCFS: Final = "P-603"
ORDER_SJF: Final = "P-604"
ORDER_FAIR_SHARE: Final = "P-605"
TERM_DEADLINE: Final = "P-611"
TERM_WORKLOAD: Final = "P-612"
TERM_INTERACTIVE: Final = "P-613"
TERM_BUDGET_PACE: Final = "P-614"
TERM_WASTE: Final = "P-615"
TERM_ENTRY_PENALTY: Final = "P-616"
TERM_FRAGMENTATION: Final = "P-617"

# Q-7xx: lending idle GPUs, and getting them back.
QUOTA_WITHIN: Final = "Q-701"
QUOTA_BEYOND: Final = "Q-702"
QUOTA_LEFT: Final = "Q-703"

# T-8xx: retries.
RETRY: Final = "T-801"
RETRY_CAP: Final = "T-802"
RETRY_COUNT: Final = "T-803"
RETRY_PLACE: Final = "T-804"
RETRY_NODE: Final = "T-805"
RETRY_BACKOFF: Final = "T-806"

# V-9xx: approvals, and what people may do to jobs.
APPROVAL_NEEDED: Final = "V-901"
APPROVAL_HOLD: Final = "V-902"
APPROVAL_GIVEN: Final = "V-903"
APPROVAL_DENIED: Final = "V-904"
APPROVAL_EXPIRED: Final = "V-905"
APPROVAL_CHANGED: Final = "V-906"
APPROVAL_MOOT: Final = "V-907"
PRIORITY_CLASS: Final = "V-908"

# B-0xx: budgets.
BUDGET_HARD: Final = "B-001"
BUDGET_SOFT: Final = "B-002"
BUDGET_RESERVE: Final = "B-003"
BUDGET_RELEASE: Final = "B-004"
BUDGET_PERIOD: Final = "B-005"
BUDGET_HOLD: Final = "B-006"
BUDGET_QOS: Final = "B-007"
BUDGET_SLURM: Final = "B-008"
BUDGET_END: Final = "B-009"
BUDGET_WARNING: Final = "B-010"
BUDGET_CORRECTION: Final = "B-011"
BUDGET_BY_HAND: Final = "B-012"

KNOWN: Final = frozenset(
    value for name, value in list(globals().items()) if name.isupper() and isinstance(value, str)
)
"""All of them."""


def level_of(rule: str, policy: Policy) -> Level:
    """Return how far a rule goes: its own level in the policy file, else the site's."""
    return policy.rules.get(rule, policy.enforcement)
