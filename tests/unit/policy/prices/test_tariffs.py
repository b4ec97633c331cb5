"""What prices hold when: from the policy file, and from what was recorded of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.prices import Prices, Tariff
from slurm_gpu_policy.policy.prices.pricing import (
    in_force,
    price_book,
)
from tests.builders import make_policy
from tests.unit.policy.priced import (
    NIGHT,
    berlin,
)

SITE = {
    "gpu_types": {
        "h100": {"price_per_hour": "2.50", "partitions": ["gpu"]},
        "big": {"gres_type": "A100-80G", "price_per_hour": "1.50", "partitions": ["old"]},
    },
}


def test_a_policy_without_a_pricing_part_has_the_prices_of_its_gpu_types():
    (tariff,) = price_book(make_policy(**SITE))
    assert tariff.since == 0
    assert tariff.prices == Prices(
        {"h100": 2_500_000, "a100-80g": 1_500_000, "": 2_500_000},
        {"gpu": 2_500_000, "old": 1_500_000},
    )


def test_two_names_of_one_type_have_the_higher_price():
    types = {"h100": {"price_per_hour": 1}, "nv": {"gres_type": "h100", "price_per_hour": 2}}
    (tariff,) = price_book(make_policy(gpu_types=types))
    assert tariff.prices.gpus["h100"] == 2_000_000


def test_changes_lie_over_what_was_before_in_the_order_of_their_dates():
    pricing = {
        "timezone": "Europe/Berlin",
        "cpu_hour": "0.01",
        "minimum_charge": "0.05",
        "qos": {"Low": 0.5},
        "gpu_types": {"h100": 3},
        "hours": [{"start": "20:00", "end": "08:00", "factor": 0.5}],
        "changes": [
            {"since": "2031-07-01", "gpu_types": {"big": 2}, "qos": {"high": 2}},
            {"since": "2030-01-01T08:00", "cpu_hour": 0, "partitions": {"old": 0.9}, "hours": []},
        ],
    }
    first, second, third = price_book(make_policy(**SITE, pricing=pricing))
    assert first.prices.gpus == {"h100": 3_000_000, "a100-80g": 1_500_000, "": 3_000_000}
    assert (first.prices.cpu, first.prices.qos) == (10_000, {"low": 500_000})
    assert first.prices.bands == (NIGHT,)
    assert first.prices.minimum == third.prices.minimum == 50_000
    assert second.since == berlin("2030-01-01T08:00")
    assert (second.prices.cpu, second.prices.bands) == (0, ())
    assert (second.prices.qos, second.prices.partitions) == ({"low": 500_000}, {"old": 900_000})
    assert third.since == berlin("2031-07-01")
    assert third.prices.qos == {"low": 500_000, "high": 2_000_000}
    assert third.prices.gpus["a100-80g"] == 2_000_000


def test_a_change_before_time_began_holds_since_ever():
    changes = [{"since": "1960-01-01", "cpu_hour": 2}, {"since": "1950-01-01", "cpu_hour": 1}]
    (tariff,) = price_book(make_policy(pricing={"changes": changes}))
    assert (tariff.since, tariff.prices.cpu) == (0, 2_000_000)


def test_a_price_by_slurms_own_name_counts_for_a_type_that_is_not_listed():
    (tariff,) = price_book(make_policy(pricing={"gpu_types": {"L4": "0.50"}}))
    assert tariff.prices.gpus == {"l4": 500_000, "": 500_000}


def flat(price: int, since: int = 0) -> Tariff:
    return Tariff(since, Prices({"h100": price}))


def test_recorded_books_hold_from_when_they_were_recorded_and_the_first_since_ever():
    recorded = (
        (1000, (flat(1), flat(2, 500), flat(3, 1500), flat(4, 9000))),
        (2000, (flat(5), flat(6, 1800), flat(7, 3000))),
    )
    assert in_force(recorded) == (
        flat(1),
        flat(2, 500),
        flat(3, 1500),
        flat(6, 2000),
        flat(7, 3000),
    )


def test_a_book_that_was_replaced_at_once_counts_nowhere():
    assert in_force(((0, (flat(1),)), (9, (flat(2),)), (9, (flat(3),)))) == (flat(1), flat(3, 9))
    assert in_force(()) == ()


@given(
    st.lists(st.tuples(st.integers(0, 50), st.lists(st.integers(1, 60), max_size=3)), max_size=4),
    st.integers(0, 70),
)
def test_the_price_of_a_moment_is_that_of_the_book_in_force_then(found, at):
    recorded = []
    price = 0
    for since, dates in sorted(found):
        book = []
        for date in [0, *sorted(set(dates))]:
            price += 1
            book.append(flat(price, date))
        recorded.append((since, tuple(book)))
    merged = in_force(tuple(recorded))
    if not recorded:
        assert merged == ()
        return
    current = [book for since, book in recorded if since <= at] or [recorded[0][1]]
    expected = [tariff for tariff in current[-1] if tariff.since <= at][-1]
    assert [t for t in merged if t.since <= at][-1].prices == expected.prices
    assert list(merged) == sorted(merged, key=lambda tariff: tariff.since)


def test_a_book_recorded_by_a_clock_that_was_ahead_gives_way_to_the_next():
    recorded = ((0, (flat(1),)), (90, (flat(2),)), (10, (flat(3),)))
    assert in_force(recorded) == (flat(1), flat(3, 10))
