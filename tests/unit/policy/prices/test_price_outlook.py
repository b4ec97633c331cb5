"""What a run would cost at other times: the most, the longest, the cheapest."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.model.prices import Band, Prices, Tariff
from slurm_gpu_policy.policy.prices.price_outlook import (
    later_start,
    longest_whenever,
    most_micros,
    time_words,
)
from slurm_gpu_policy.policy.prices.pricing import (
    changes,
    cost,
)
from slurm_gpu_policy.units import MICRO
from tests.unit.policy.priced import (
    DAY,
    EVERY_DAY,
    H100,
    HOUR,
    NOON,
    berlin,
)

bands = st.builds(
    Band,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 24).map(lambda n: n * HOUR),
    st.integers(0, 24).map(lambda n: n * HOUR),
    st.integers(0, 4).map(lambda n: n * MICRO // 2),
)
books = st.builds(
    lambda bands, zone, change: (
        Tariff(0, Prices({"h100": 3_600_000}, bands=tuple(bands), timezone=zone)),
        *((Tariff(NOON + change * HOUR, Prices({"h100": 5_000_000})),) if change else ()),
    ),
    st.lists(bands, max_size=2),
    st.sampled_from(["UTC", "Europe/Berlin"]),
    st.integers(0, 24 * 200),
)


@given(books, st.integers(60, 20 * DAY), st.integers(0, 300 * DAY))
@settings(deadline=None, max_examples=60)
def test_no_start_within_the_year_costs_more_than_the_most(book, seconds, wait):
    most = most_micros(H100, seconds, book, NOON)
    assert cost(H100, NOON + wait, NOON + wait + seconds, book).micros <= most


def test_the_dearest_and_the_cheapest_run_may_be_those_that_end_with_a_band():
    def book(first, second):
        bands = (
            Band(EVERY_DAY, 10 * HOUR, 12 * HOUR, first),
            Band(EVERY_DAY, 12 * HOUR, 13 * HOUR, second),
        )
        return (Tariff(0, Prices({"h100": MICRO}, bands=bands)),)

    assert most_micros(H100, 2 * HOUR, book(2 * MICRO, 3 * MICRO), NOON) == 5 * MICRO
    found = later_start(H100, 2 * HOUR, book(MICRO // 2, MICRO // 4), NOON)
    assert (found.start % DAY, found.micros) == (11 * HOUR, 750_000)


def test_a_run_over_years_costs_no_more_than_its_dearest_hour_throughout():
    book = (Tariff(0, Prices({"h100": MICRO}, bands=(Band(frozenset({0}), 0, DAY, 3 * MICRO),))),)
    years = 5 * 366 * DAY
    most = most_micros(H100, years, book, NOON)
    assert cost(H100, NOON, NOON + years, book).micros <= most == 3 * MICRO * years // HOUR


@given(books, st.integers(0, 10**9))
@settings(deadline=None, max_examples=40)
def test_the_longest_limit_fits_whenever_it_starts_and_a_minute_more_does_not(book, amount):
    seconds = longest_whenever(H100, amount, book, NOON)
    if seconds is None:
        return
    assert seconds % 60 == 0
    assert most_micros(H100, seconds, book, NOON) <= amount
    if seconds < 366 * DAY:
        assert most_micros(H100, seconds + 60, book, NOON) > amount


@given(books, st.integers(60, 3 * DAY), st.integers(0, 7 * DAY))
@settings(deadline=None, max_examples=60)
def test_no_start_in_the_week_is_cheaper_than_the_one_that_is_named(book, seconds, wait):
    found = later_start(H100, seconds, book, NOON)
    present = cost(H100, NOON, NOON + seconds, book).micros
    other = cost(H100, NOON + wait, NOON + wait + seconds, book).micros
    if found is None:
        assert other >= present - present // 100
    else:
        assert cost(H100, found.start, found.start + seconds, book).micros == found.micros < present
        assert other >= found.micros
        assert NOON < found.start <= NOON + 7 * DAY


def test_changes_are_the_moments_at_which_prices_differ():
    band = Band(frozenset(range(7)), 20 * HOUR, 8 * HOUR, 0)
    prices = Prices({"h100": 1}, bands=(band,), timezone="Europe/Berlin")
    book = (Tariff(0, prices), Tariff(NOON + DAY, replace(prices, bands=())))
    assert list(changes(book, NOON, NOON + 3 * DAY)) == [
        NOON + 8 * HOUR,
        NOON + 20 * HOUR,
        NOON + DAY,
    ]
    assert not list(changes(book[1:], NOON, NOON + DAY))


def test_times_are_told_by_the_clocks_of_the_prices():
    book = (Tariff(0, Prices(timezone="Europe/Berlin")),)
    assert time_words(berlin("2030-12-24T18:00"), book) == "Tue 2030-12-24 18:00 CET"
    assert time_words(0, ()) == "Thu 1970-01-01 00:00 UTC"
