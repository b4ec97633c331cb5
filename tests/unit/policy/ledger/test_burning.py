"""When a budget runs out, and how sure that is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.policy.ledger.burning import DAY_SECONDS as DAY
from slurm_gpu_policy.policy.ledger.burning import Piece, burn

NOW = 1_800_000_000


def daily(*amounts):
    """A piece a day, up to now."""
    first = NOW - len(amounts) * DAY
    return [Piece(first + n * DAY, first + (n + 1) * DAY, each) for n, each in enumerate(amounts)]


def test_an_even_burn_runs_out_when_what_is_left_is_used_up():
    how = burn(daily(*[10] * 14), 50, NOW - 14 * DAY, NOW)
    assert (how.per_day, how.certainty) == (10.0, "good")
    assert how.runs_out == how.earliest == how.latest == NOW + 5 * DAY


@pytest.mark.parametrize(
    ("amounts", "certainty"),
    [
        ([10] * 2, "low"),
        ([10] * 5, "fair"),
        ([10] * 7, "good"),
        ([2, 18, 2, 18, 2, 18, 2, 18], "fair"),
        ([0, 0, 0, 0, 0, 0, 0, 80], "low"),
        ([0] * 14, "none"),
    ],
)
def test_few_days_and_unlike_days_say_little(amounts, certainty):
    assert burn(daily(*amounts), 50, NOW - len(amounts) * DAY, NOW).certainty == certainty


def test_unlike_days_make_a_span():
    how = burn(daily(5, 15, 5, 15, 5, 15, 5, 15), 100, NOW - 8 * DAY, NOW)
    assert how.earliest < how.runs_out < how.latest


def test_less_than_a_day_says_nothing():
    how = burn([Piece(NOW - 100, NOW, 1000)], 50, NOW - 100, NOW)
    assert (how.certainty, how.runs_out) == ("none", None)


def test_what_is_spent_has_run_out_and_years_ahead_nothing_is_said():
    assert burn(daily(*[10] * 7), -5, NOW - 7 * DAY, NOW).runs_out == NOW
    assert burn(daily(*[10] * 7), 10**9, NOW - 7 * DAY, NOW).runs_out is None


def test_a_run_counts_for_the_part_that_lies_in_the_window():
    long = Piece(NOW - 20 * DAY, NOW, 2000)
    assert burn([long], 500, NOW - 10 * DAY, NOW).per_day == pytest.approx(100)
    assert burn([Piece(NOW - DAY, NOW + DAY, 200)], 1, NOW - 10 * DAY, NOW).per_day == 10


@given(
    st.lists(
        st.tuples(st.integers(0, 40 * DAY), st.integers(1, 9 * DAY), st.integers(1, 10**12)),
        max_size=8,
    ),
    st.integers(-(10**12), 10**15),
    st.integers(0, 40 * DAY),
)
def test_a_burn_is_never_before_now_and_its_span_holds_it(found, left, ago):
    pieces = [Piece(NOW - begin, NOW - begin + length, many) for begin, length, many in found]
    how = burn(pieces, left, NOW - ago, NOW)
    assert how.per_day >= 0
    if how.runs_out is not None:
        assert NOW <= (how.earliest or NOW) <= how.runs_out
        assert how.latest is None or how.runs_out <= how.latest
    if how.certainty == "none":
        assert how.runs_out is None
