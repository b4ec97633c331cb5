"""A policy layer for GPUs on Slurm: who goes first, what it costs, where it fits, and why.

>>> from slurm_gpu_policy import allocation, submit
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.version import __version__

if TYPE_CHECKING:
    from slurm_gpu_policy.api import Allocation, SubmittedJob, allocation, submit

__all__ = ["Allocation", "SubmittedJob", "__version__", "allocation", "submit"]


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is first used, and not before (PEP 562)."""
    if name in __all__:
        from slurm_gpu_policy import api  # noqa: PLC0415

        return getattr(api, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
