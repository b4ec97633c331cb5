"""What a refund gives back of each fund."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.ledger import Fund, Leg
from slurm_gpu_policy.policy.ledger.refunds import everything_left, refund_parts

LEVELS = [("", ""), ("nlp", ""), ("nlp", "u1")]

amounts = st.integers(0, 10**15)


@st.composite
def paid_runs(draw):
    """Legs on several funds of some levels, of which a part was given back before."""
    funds, legs = {}, []
    for account, user in LEVELS:
        for _ in range(draw(st.integers(0, 4))):
            fund_id = len(funds) + 1
            charged = draw(amounts)
            funds[fund_id] = Fund("b", account, user, fund_id=fund_id)
            legs.append(Leg(fund_id, charged=charged, refunded=draw(st.integers(0, charged))))
    return funds, legs


@given(paid_runs(), st.integers(0, 100))
def test_parts_add_up_per_level_and_no_fund_gets_more_than_is_left_of_its_charge(run, percent):
    funds, legs = run
    try:
        parts = refund_parts(legs, funds, percent, 100)
    except ValueError:
        assert any(
            sum(leg.charged for leg in level) * percent // 100
            > sum(leg.charged - leg.refunded for leg in level)
            for level in _by_level(funds, legs)
        )
        return
    for leg in legs:
        assert 0 <= parts.get(leg.fund_id, 0) <= leg.charged - leg.refunded
    for level in _by_level(funds, legs):
        given_back = sum(parts.get(leg.fund_id, 0) for leg in level)
        assert given_back == sum(leg.charged for leg in level) * percent // 100


@given(paid_runs())
def test_everything_is_what_no_refund_has_given_back(run):
    _, legs = run
    left = everything_left(legs)
    assert all(left.get(leg.fund_id, 0) == leg.charged - leg.refunded for leg in legs)


@given(st.lists(amounts, min_size=1, max_size=4), st.lists(st.integers(1, 100), max_size=6))
def test_refund_upon_refund_never_gives_back_more_than_the_whole(charges, percents):
    funds = {n: Fund("b", "nlp", fund_id=n) for n in range(len(charges))}
    back = dict.fromkeys(funds, 0)
    for percent in percents:
        legs = [Leg(n, charged=many, refunded=back[n]) for n, many in enumerate(charges)]
        try:
            parts = refund_parts(legs, funds, percent, 100)
        except ValueError:
            continue
        for fund_id, many in parts.items():
            back[fund_id] += many
    assert all(back[n] <= many for n, many in enumerate(charges))


def _by_level(funds, legs):
    levels = {}
    for leg in legs:
        levels.setdefault(funds[leg.fund_id].level, []).append(leg)
    return levels.values()
