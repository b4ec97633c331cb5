"""PriorityFlags as slurm.conf has them, where 22.05 prints others."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.adapters.slurm.conf_file import corrected


@pytest.fixture
def conf(tmp_path):
    def write(text, included=""):
        (tmp_path / "slurm.conf").write_text(text)
        (tmp_path / "more.conf").write_text(included)
        return {"SLURM_CONF": str(tmp_path / "slurm.conf"), "PriorityFlags": "NO_NORMAL_ALL"}

    return write


def test_the_last_line_of_the_file_and_what_it_includes_counts(conf):
    settings = conf(
        "PriorityFlags=MAX_TRES # not this\n#PriorityFlags=ACCRUE_ALWAYS\nInclude more.conf\n",
        "  priorityflags = NO_NORMAL_QOS,MAX_TRES # this\n",
    )
    assert corrected(settings)["PriorityFlags"] == "NO_NORMAL_QOS,MAX_TRES"


def test_what_really_is_all_stays(conf):
    settings = conf("PriorityFlags=no_normal_all\n")
    assert corrected(settings) is settings


def test_other_flags_are_never_looked_up(conf):
    settings = conf("PriorityFlags=NO_NORMAL_QOS\n") | {"PriorityFlags": "MAX_TRES"}
    assert corrected(settings) is settings


def test_without_the_file_what_is_printed_stands(conf, tmp_path):
    settings = conf("Include more.conf\n", "Include slurm.conf\n")  # in a circle, and no flags
    assert corrected(settings) is settings
    settings["SLURM_CONF"] = str(tmp_path / "none")
    assert corrected(settings) is settings
