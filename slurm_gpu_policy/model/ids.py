"""Types of identifiers, apart from what they identify: naming a job needs no job's fields."""

from __future__ import annotations

from typing import NewType

JobId = NewType("JobId", int)
"""Slurm's own number of a job; each array task that has started has one of its own."""
