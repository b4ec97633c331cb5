"""The mark in a job's comment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.tag import read_tag, strip_tag, workload_of, write_tag

plain = st.from_regex(r"[A-Za-z0-9_.:-]{1,20}", fullmatch=True)


@given(st.dictionaries(plain, plain, min_size=1), st.text())
def test_what_is_written_is_read_whatever_the_users_comment(facts, comment):
    assert read_tag(write_tag(facts, comment)) == facts


def test_the_users_own_words_come_back_without_the_mark():
    assert strip_tag(write_tag({"token": "x"}, "my words")) == "my words"


def test_a_comment_without_mark_has_no_facts():
    assert read_tag("gpu-submit is nice") == {}


@pytest.mark.parametrize("value", ["a;b", "a)b", "a b", "a=b", "é"])
def test_a_value_that_would_break_the_mark_is_refused(value):
    with pytest.raises(ValueError, match="cannot carry"):
        write_tag({"key": value})


@pytest.mark.parametrize(
    ("comment", "workload"),
    [
        ("", ""),
        ("mine gpu-submit(token=1;workload=training)", "training"),
        ("workload=inference gpu-submit(token=1;workload=training)", "training"),
        ("workload=inference", "inference"),
        ("run 7, workload=eval.big please", "eval.big"),
        ("my_workload=no", ""),
    ],
)
def test_a_comment_names_the_workload_class(comment, workload):
    assert workload_of(comment) == workload
