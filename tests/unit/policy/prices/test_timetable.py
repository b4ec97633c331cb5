"""Hours of the week by the clock on the wall, also when clocks change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from math import ceil
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.model.prices import Band, Tariff, Use
from slurm_gpu_policy.policy.prices.pricing import (
    cost,
    costs,
)
from slurm_gpu_policy.policy.prices.timetable import Timetable, moment
from slurm_gpu_policy.units import MICRO
from tests.unit.policy.priced import (
    BERLIN,
    DAY,
    EVERY_DAY,
    H100,
    HOUR,
    NIGHT,
    WEEKEND,
    berlin,
)


def micros(use: Use, start: int, end: int, *tariffs: Tariff) -> int:
    return cost(use, start, end, tariffs).micros


def by_the_second(use: Use, start: int, end: int, band: Band, zone: str) -> Fraction:
    """The same by asking each second's clock on the wall."""
    total = Fraction(0)
    price = Fraction(use.gpu_count * 2_500_000, HOUR)
    for second in range(start, end):
        wall = datetime.fromtimestamp(second, ZoneInfo(zone))
        at = wall.hour * HOUR + wall.minute * 60 + wall.second
        day, before = wall.weekday(), (wall.weekday() - 1) % 7
        if band.start < band.end:
            inside = day in band.days and band.start <= at < band.end
        else:
            inside = (day in band.days and at >= band.start) or (
                before in band.days and at < band.end
            )
        total += price * Fraction(band.factor, MICRO) if inside else price
    return total


@pytest.mark.parametrize(
    ("evening", "hours"),
    [("2030-03-30T20:00", 11), ("2030-10-26T20:00", 13), ("2030-05-01T20:00", 12)],
)
def test_a_band_over_the_night_is_as_long_as_the_night_when_clocks_change(evening, hours):
    start = berlin(evening)
    tariff = Tariff(0, BERLIN)
    end = start + hours * HOUR
    assert micros(H100, start, end, tariff) == hours * 1_250_000
    # The second before and the second after cost the whole price.
    book = (Tariff(0, replace(BERLIN, gpus={"h100": HOUR})),)
    around = costs(Use({"h100": 2}), (start - 1, start, start + 1, end - 1, end, end + 1), book)
    assert [part.micros for part in around] == [2, 1, hours * HOUR - 2, 1, 2]


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Berlin", 1_901_149_200),
        ("Europe/Berlin", 1_919_293_200),
        ("America/New_York", 1_919_916_000),
        ("Australia/Lord_Howe", 1_901_718_000),
        ("Australia/Lord_Howe", 1_917_444_600),
        ("Asia/Kolkata", 1_901_145_600),
    ],
)
@given(
    first=st.integers(0, 12),
    last=st.integers(0, 86400 // 1800),
    days=st.frozensets(st.integers(0, 6), min_size=1),
    offset=st.integers(-5000, 5000),
)
@settings(max_examples=20, deadline=None)
def test_bands_follow_the_clock_on_the_wall_second_by_second(
    zone, change, first, last, days, offset
):
    band = Band(days, first * 1800, last * 1800, MICRO // 3)
    book = (Tariff(0, replace(BERLIN, bands=(band,), timezone=zone)),)
    start = change + offset
    end = start + 7200
    assert micros(H100, start, end, *book) == ceil(by_the_second(H100, start, end, band, zone))


def test_hours_before_a_change_of_clocks_are_those_of_the_old_time():
    early = Band(EVERY_DAY, HOUR + 1800, HOUR + 2700, 0)  # 01:30 to 01:45
    late = Band(EVERY_DAY, 4 * HOUR, 5 * HOUR, 2 * MICRO)
    table = Timetable((early, late), "Europe/Berlin")
    midnight = berlin("2030-03-31T00:00")
    pieces = [(at - midnight, factor) for at, factor in table.pieces(midnight, midnight + 6 * HOUR)]
    changes = [pieces[0], *(b for a, b in pairwise(pieces) if a[1] != b[1])]
    assert changes == [
        (0, MICRO),
        (HOUR + 1800, 0),
        (HOUR + 2700, MICRO),
        (3 * HOUR, 2 * MICRO),  # 04:00 comes an hour early
        (4 * HOUR, MICRO),
    ]


def test_a_weekday_band_over_midnight_belongs_to_the_day_it_begins_on():
    friday = Band(frozenset({4}), 22 * HOUR, 6 * HOUR, 0)
    book = (Tariff(0, replace(BERLIN, bands=(friday,))),)
    start = berlin("2030-05-03T21:00")  # a Friday
    assert datetime.fromtimestamp(start, UTC).strftime("%a") == "Fri"
    assert cost(H100, start, start + DAY, book).micros == 16 * 2_500_000
    assert cost(H100, start + 3 * HOUR, start + 9 * HOUR, book).micros == 0
    assert cost(H100, start - 15 * HOUR, start, book).micros == 15 * 2_500_000


def test_the_first_band_that_fits_counts():
    book = (Tariff(0, replace(BERLIN, bands=(WEEKEND, NIGHT))),)
    saturday = berlin("2030-05-04T00:00")
    assert cost(H100, saturday, saturday + 2 * DAY, book).micros == 48 * 2_500_000 // 4


def test_far_future_weeks_are_summed_without_walking_through_them():
    table = Timetable((NIGHT,), "Europe/Berlin")
    begin, weeks = 5_000_000_000, 400_000
    week = table.weight(begin, begin + 7 * DAY)
    assert table.weight(begin, begin + weeks * 7 * DAY) == weeks * week
    assert week == 7 * DAY * MICRO * 3 // 4


@given(st.integers(0, 5_000_000_000), st.integers(0, 20 * DAY))
@settings(deadline=None)
def test_pieces_of_a_timetable_have_the_factors_of_their_moments(start, seconds):
    table = Timetable((WEEKEND, NIGHT), "Europe/Berlin")
    pieces = [*table.pieces(start, start + seconds), (start + seconds, 0)]
    total = sum((end - begin) * factor for (begin, factor), (end, _) in pairwise(pieces))
    assert total == table.weight(start, start + seconds)
    assert all(table.factor(begin) == factor for begin, factor in pieces[:-1])


def test_dates_are_those_of_the_zone_also_when_clocks_change():
    assert moment("2030-01-01", "UTC") == 1_893_456_000
    assert moment("2030-07-01", "Europe/Berlin") == 1_909_087_200
    assert moment("2030-10-27T02:30", "Europe/Berlin") == 1_919_291_400  # the first of two
