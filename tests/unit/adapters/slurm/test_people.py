"""What sacctmgr says of people."""

from __future__ import annotations

from slurm_gpu_policy.adapters.slurm.people import read_coordinators, read_operators


def test_operators_are_those_with_either_level():
    text = "root|Administrator\nann|Operator\nu1|None\nu2|\n"
    assert read_operators(text) == {"root", "ann"}
    assert read_operators("") == frozenset()


def test_coordinators_are_read_by_account():
    text = "nlp|\nvision|u3,u4\nvision-seg|u3\n"
    found = {"vision": frozenset({"u3", "u4"}), "vision-seg": frozenset({"u3"})}
    assert read_coordinators(text) == found
