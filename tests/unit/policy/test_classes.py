"""Operators' priority classes."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.policy.classes import set_class
from tests.builders import make_job


def test_a_class_is_a_mark_on_the_job():
    action = set_class(make_job(), "high", "ann")
    assert (action.verb, action.rule, action.mark) == ("modify", "V-908", (("class", "high"),))
    assert (action.before, action.after) == ("class none", "class high")
    assert "ann" in action.reason


def test_no_class_takes_the_mark_out():
    job = make_job(admin_comment="gpu-policy(class=low)")
    assert set_class(job, "none", "ann").mark == (("class", ""),)
    assert set_class(job, "none", "ann").before == "class low"


def test_there_are_no_other_classes():
    with pytest.raises(ValueError, match="critical"):
        set_class(make_job(), "urgent", "ann")
