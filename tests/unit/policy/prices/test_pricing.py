"""What a run costs, to the micro-unit: C-401, C-405, C-410."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.model.prices import Band, Cost, Prices, Tariff, Use
from slurm_gpu_policy.policy.prices.pricing import (
    cost,
    costs,
    has_price,
    hourly_micros,
    longest_within,
)
from slurm_gpu_policy.units import MICRO
from tests.builders import NOW
from tests.unit.policy.priced import (
    BERLIN,
    DAY,
    FLAT,
    H100,
    HOUR,
    NIGHT,
    berlin,
)


def micros(use: Use, start: int, end: int, *tariffs: Tariff) -> int:
    return cost(use, start, end, tariffs).micros


def test_c_410_a_run_costs_its_gpus_times_its_seconds_times_the_price():
    assert cost(Use({"h100": 3}), NOW, NOW + 1000, FLAT) == Cost(
        -(-3 * 1000 * 2_500_000 // HOUR), 3000
    )


def test_c_410_gpus_of_several_types_cpus_and_memory_add_up():
    prices = replace(FLAT[0].prices, cpu=10_000, memory_gib=2_000)
    use = Use({"h100": 2, "a100": 1}, cpus=8, memory_mb=1536)
    found = cost(use, NOW, NOW + 2 * HOUR, (Tariff(0, prices),))
    assert found == Cost(2 * (5_000_000 + 1_000_000 + 80_000 + 3_000), 6 * HOUR)


def test_c_410_a_job_without_gpus_costs_its_cpus_and_memory_only():
    prices = replace(FLAT[0].prices, cpu=10_000, memory_gib=1_000)
    found = cost(Use(cpus=4, memory_mb=512), NOW, NOW + HOUR, (Tariff(0, prices),))
    assert found == Cost(40_500, 0)


def test_c_410_a_part_of_a_micro_unit_is_rounded_up_once_over_the_whole_run():
    book = (Tariff(0, Prices({"h100": 1})),)
    assert cost(H100, NOW, NOW + 1, book).micros == 1
    cuts = range(NOW, NOW + HOUR + 1)
    assert sum(part.micros for part in costs(H100, cuts, book)) == 1


def test_c_410_factors_of_qos_and_partition_multiply_and_nought_is_free():
    prices = replace(FLAT[0].prices, qos={"low": MICRO // 2, "free": 0}, partitions={"slow": 900})
    tariff = Tariff(0, prices)
    use = replace(H100, qos="LOW", partition="slow")
    assert micros(use, NOW, NOW + HOUR, tariff) == ceil(Fraction(2_500_000 * 900, 2 * MICRO))
    assert micros(replace(use, qos="free"), NOW, NOW + HOUR, tariff) == 0
    assert micros(replace(use, qos="other", partition="gpu"), NOW, NOW + HOUR, tariff) == 2_500_000


def test_c_410_slurms_names_of_types_match_in_any_case():
    assert micros(Use({"H100": 1}), NOW, NOW + HOUR, *FLAT) == 2_500_000


def test_c_410_a_gpu_without_a_type_costs_what_its_partition_has_else_the_most():
    tariff = Tariff(0, replace(FLAT[0].prices, gpus_by_partition={"old": 1_000_000}))
    assert micros(Use({"": 1}, partition="old"), NOW, NOW + HOUR, tariff) == 1_000_000
    assert micros(Use({"": 1}, partition="gpu"), NOW, NOW + HOUR, tariff) == 2_500_000


def test_c_410_a_type_without_a_price_costs_nothing_and_says_so():
    use = Use({"b200": 1})
    assert cost(use, NOW, NOW + HOUR, FLAT) == Cost(0, HOUR)
    assert not has_price(use, FLAT[0].prices)
    assert has_price(H100, FLAT[0].prices)
    assert not has_price(Use(cpus=4), FLAT[0].prices)
    assert has_price(Use(cpus=4), replace(FLAT[0].prices, cpu=1))


def test_c_410_of_several_partitions_the_dearest_counts():
    tariff = Tariff(0, replace(FLAT[0].prices, partitions={"slow": 0, "fast": 2 * MICRO}))
    use = replace(H100, partition="slow,fast,gpu")
    assert micros(use, NOW, NOW + HOUR, tariff) == 5_000_000


def test_an_empty_book_costs_nothing():
    assert cost(H100, NOW, NOW + HOUR, ()) == Cost(0, HOUR)
    assert longest_within(H100, NOW, 0, ()) is None


def test_cuts_that_go_back_are_an_error():
    with pytest.raises(ValueError, match="in order"):
        costs(H100, (NOW, NOW - 1), FLAT)


def test_c_405_a_run_costs_the_minimum_from_its_first_second_on():
    assert cost(H100, NOW, NOW + 1, FLAT, minimum=10_000).micros == 10_000
    assert cost(H100, NOW, NOW, FLAT, minimum=10_000).micros == 0
    parts = costs(H100, (NOW, NOW, NOW + 1, NOW + HOUR), FLAT, minimum=10_000)
    assert [part.micros for part in parts] == [0, 10_000, 2_490_000]


def test_c_405_the_minimum_is_that_of_the_prices_the_run_began_under():
    book = (
        Tariff(0, replace(FLAT[0].prices, minimum=10_000)),
        Tariff(NOW + 1, replace(FLAT[0].prices, minimum=50_000)),
    )
    assert cost(H100, NOW, NOW + 9, book).micros == 10_000
    assert cost(H100, NOW + 1, NOW + 9, book).micros == 50_000
    assert cost(H100, NOW, NOW + 9, book, minimum=60_000).micros == 60_000
    assert longest_within(H100, NOW + 1, 49_999, book) == 0


def test_c_405_what_is_free_stays_free():
    assert cost(Use({"b200": 1}), NOW, NOW + HOUR, FLAT, minimum=10_000).micros == 0


def test_a_run_across_a_price_change_costs_the_price_of_the_time_it_ran_in():
    dearer = replace(FLAT[0].prices, gpus={"h100": 5_000_000})
    book = (*FLAT, Tariff(NOW + HOUR, dearer))
    assert cost(H100, NOW, NOW + 3 * HOUR, book).micros == 2_500_000 + 2 * 5_000_000
    assert [part.micros for part in costs(H100, (NOW, NOW + HOUR, NOW + 3 * HOUR), book)] == [
        2_500_000,
        10_000_000,
    ]


bands = st.builds(
    Band,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 48).map(lambda n: n * 1800),
    st.integers(0, 48).map(lambda n: n * 1800),
    st.integers(0, 3 * MICRO),
)
factors = st.dictionaries(st.sampled_from(["", "low", "gpu"]), st.integers(0, 3 * MICRO))
prices = st.builds(
    Prices,
    gpus=st.dictionaries(st.sampled_from(["", "h100", "a100"]), st.integers(0, 10**8)),
    cpu=st.integers(0, 10**6),
    memory_gib=st.integers(0, 10**6),
    qos=factors,
    partitions=factors,
    bands=st.lists(bands, max_size=3).map(tuple),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns"]),
    minimum=st.sampled_from([0, 0, 1_000_000]),
)
books = st.lists(st.tuples(st.integers(0, 10 * DAY), prices), min_size=1, max_size=4).map(
    lambda found: tuple(
        Tariff(since, each) for since, each in sorted(dict(found).items(), key=lambda p: p[0])
    )
)
uses = st.builds(
    Use,
    gpus=st.dictionaries(st.sampled_from(["", "h100", "a100"]), st.integers(0, 16)),
    cpus=st.integers(0, 256),
    memory_mb=st.integers(0, 10**6),
    partition=st.sampled_from(["", "gpu", "low,gpu"]),
    qos=st.sampled_from(["", "low", "normal"]),
)
START = 1_900_800_000
"""Four days before the spring night of 2030."""


@given(uses, books, st.lists(st.integers(0, 20 * DAY), min_size=2), st.integers(0, 10**9))
@settings(deadline=None)
def test_parts_of_any_cuts_add_up_to_the_whole(use, book, cuts, minimum):
    book = tuple(replace(tariff, since=tariff.since + START) for tariff in book)
    cuts = sorted(START + cut for cut in cuts)
    parts = costs(use, cuts, book, minimum=minimum)
    whole = cost(use, cuts[0], cuts[-1], book, minimum=minimum)
    assert Cost(sum(p.micros for p in parts), sum(p.gpu_seconds for p in parts)) == whole
    assert all(part.micros >= 0 for part in parts)
    assert len(parts) == len(cuts) - 1


@given(uses, books, st.lists(st.integers(0, 20 * DAY), min_size=3), st.integers(0, 10**9))
@settings(deadline=None)
def test_what_a_part_costs_does_not_depend_on_how_the_run_goes_on(use, book, cuts, minimum):
    cuts = sorted(START + cut for cut in cuts)
    assert (
        costs(use, cuts[:-1], book, minimum=minimum)
        == (costs(use, cuts, book, minimum=minimum)[:-1])
    )


@given(uses, books, st.integers(0, 20 * DAY), st.integers(0, 10**10), st.integers(1, 50))
@settings(deadline=None)
@example(Use({"h100": 1}), FLAT, 0, 2_500_000, 1)
def test_the_longest_time_is_within_the_amount_and_a_second_more_is_not(
    use, book, start, amount, tasks
):
    start += START
    book = tuple(replace(tariff, since=tariff.since + START) for tariff in book)
    seconds = longest_within(use, start, amount, book, tasks)
    if seconds is None:
        assert cost(use, start, start + 3650 * DAY, book).micros * tasks <= amount
        return
    assert cost(use, start, start + seconds, book).micros * tasks <= amount
    if seconds < 10 * 366 * DAY:
        assert cost(use, start, start + seconds + 1, book).micros * tasks > amount


def test_c_405_an_amount_below_the_minimum_allows_no_time_at_all():
    assert longest_within(H100, NOW, 9_999, FLAT, minimum=10_000) == 0
    assert longest_within(H100, NOW, 2_500_000, FLAT, minimum=10_000) == HOUR


def test_what_costs_nothing_may_run_for_ever():
    free = (Tariff(0, replace(FLAT[0].prices, qos={"free": 0})),)
    assert longest_within(replace(H100, qos="free"), NOW, 0, free) is None
    by_hour = (Tariff(0, replace(BERLIN, qos={"free": 0})),)
    assert longest_within(replace(H100, qos="free"), NOW, 0, by_hour) is None
    at_night = (Tariff(0, replace(BERLIN, bands=(replace(NIGHT, factor=0),))),)
    assert longest_within(H100, berlin("2030-05-01T22:00"), 0, at_night) == 10 * HOUR


def test_the_rate_of_an_hour_is_that_of_the_moment():
    book = (Tariff(0, BERLIN),)
    assert hourly_micros(Use({"h100": 4}), berlin("2030-05-01T12:00"), book) == 10**7
    assert hourly_micros(H100, berlin("2030-05-01T22:00"), book) == 1_250_000
