from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.hostlist import expand, indexes


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("gpu01", ("gpu01",)),
        ("gpu[01-03]", ("gpu01", "gpu02", "gpu03")),
        ("gpu[1-2,5],cpu01", ("gpu1", "gpu2", "gpu5", "cpu01")),
        ("n[008-011]", ("n008", "n009", "n010", "n011")),
        ("n[9-11]", ("n9", "n10", "n11")),
        ("r[1-2]n[1-2]", ("r1n1", "r1n2", "r2n1", "r2n2")),
        ("a-b[1-2]-ib", ("a-b1-ib", "a-b2-ib")),
        ("", ()),
        ("(null)", ()),
        ("a,,b", ("a", "b")),
    ],
)
def test_host_lists_are_expanded_in_their_order(text, hosts):
    assert expand(text) == hosts


@pytest.mark.parametrize("text", ["n[1-", "n]1[", "n[2-1]", "n[a-b]", "n[1-999999999]", "n[[1]]"])
def test_a_list_that_is_none_is_an_error(text):
    with pytest.raises(ValueError, match=r"."):
        expand(text)


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z][a-z-]{0,5}", fullmatch=True),
            st.integers(0, 50),
            st.integers(0, 20),
            st.integers(1, 4),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_list_of_ranges_is_expanded(spans):
    text = ",".join(
        f"{prefix}[{low:0{width}d}-{low + more:0{width}d}]" for prefix, low, more, width in spans
    )
    hosts = [
        f"{prefix}{number:0{width}d}"
        for prefix, low, more, width in spans
        for number in range(low, low + more + 1)
    ]
    assert list(expand(text)) == hosts


@given(st.text(alphabet="ab[],-019"))
def test_no_text_breaks_it_with_anything_but_a_value_error(text):
    for read in (expand, indexes):
        try:
            read(text)
        except ValueError:
            continue


def test_indexes_are_numbers_and_ranges():
    assert indexes("0,2-3") == (0, 2, 3)
    assert indexes("N/A") == ()
