"""The ids of the rules, as docs/policy.md numbers them.

Each rule has one function that implements it and names it in its docstring; the id stands in
every reason, so that a user can look it up and an operator can grep for it.
"""

from __future__ import annotations

from typing import Final

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

# S-5xx: the script.
SCRIPT_CONFLICT: Final = "S-501"
