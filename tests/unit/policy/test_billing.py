from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.policy.billing import billing, read_weight, read_weights, shown_billing

WEIGHTS = {"CPU": "1.0", "Mem": "0.25G", "GRES/gpu": "10.0"}
SMALL = {"cpu": 4, "mem": 8000, "node": 1, "billing": 99, "gres/gpu": 2, "gres/gpu:h100": 2}
LARGE = {"cpu": 8, "mem": 8000, "node": 1, "gres/gpu": 4}


def test_a_gpu_job_is_billed_what_slurm_billed_and_shown_truncated():
    assert billing(SMALL, WEIGHTS) == 25.953125
    assert shown_billing(billing(SMALL, WEIGHTS)) == 25


@pytest.mark.parametrize(("flag", "shown"), [("", 49), ("MAX_TRES", 40), ("MAX_TRES_GRES", 48)])
def test_the_max_tres_modes_are_what_slurm_showed(flag, shown):
    assert shown_billing(billing(LARGE, WEIGHTS, frozenset({flag}))) == shown


def test_without_weights_the_cpus_are_billed():
    assert billing(SMALL, {}) == 4.0
    assert billing({}, {}) == 0.0


def test_weights_for_typed_and_untyped_gpus_bill_a_gpu_twice():
    assert billing(SMALL, {"gres/gpu": "10", "gres/gpu:h100": "5"}) == 30.0


def test_what_is_not_on_a_node_is_added_to_the_dearest():
    tres = {"cpu": 8, "gres/gpu": 1, "license/matlab": 2}
    weights = {"cpu": "1", "gres/gpu": "4", "license/matlab": "50"}
    assert billing(tres, weights, frozenset({"MAX_TRES"})) == 108.0
    assert billing(tres, weights, frozenset({"MAX_TRES_GRES"})) == 112.0


def test_billing_itself_has_no_weight():
    assert billing(SMALL, {"billing": "5", "cpu": "1"}) == 4.0


@pytest.mark.parametrize(
    ("name", "text", "weight"),
    [
        ("cpu", "1.5", 1.5),
        ("cpu", "1K", 1 / 1024),
        ("mem", "0.25G", 0.25 / 1024),
        ("Mem", "1T", 1 / 1024**2),
        ("mem", "1P", 1 / 1024**3),
        ("mem", "2M", 2.0),
        ("mem", "2K", 2.0),  # Slurm divides for larger units only
        ("mem", "1g", 1 / 1024),
        ("gres/gpu", "8.", 8.0),
        ("gres/gpu", " .5", 0.5),
        ("gres/gpu", "1e3", 1000.0),
        ("gres/gpu", "-2", -2.0),
        ("bb/cray", "1G", 1 / 1024),
        ("vmem", "1M", 1 / 1024**2),
    ],
)
def test_a_suffix_says_for_how_many_units_a_weight_is(name, text, weight):
    assert read_weight(name, text) == weight


@pytest.mark.parametrize("text", ["", "G", "x", "1E", "0x1p3", "inf", "1,5"])
def test_a_weight_that_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="weight of mem is no number"):
        read_weight("mem", text)


def test_weights_are_in_slurms_order():
    read = read_weights({"GRES/gpu:h100": "2", "gres/gpu": "1", "Mem": "1", "CPU": "1"})
    assert list(read) == ["cpu", "mem", "gres/gpu:h100", "gres/gpu"]


counts = st.dictionaries(
    st.sampled_from(["cpu", "mem", "node", "gres/gpu", "gres/shard", "license/x"]),
    st.integers(0, 10**6),
)
texts = st.dictionaries(
    st.sampled_from(["CPU", "Mem", "node", "GRES/gpu", "gres/shard", "license/x"]),
    st.sampled_from(["0", "1", "0.5", "2K", "3G"]),
    min_size=1,
)


@given(counts, texts)
def test_the_dearest_alone_costs_no_more_than_with_gres_added_nor_that_than_all(tres, weights):
    dearest, with_gres, everything = (
        billing(tres, weights, frozenset({flag})) for flag in ("MAX_TRES", "MAX_TRES_GRES", "")
    )
    assert dearest <= with_gres * (1 + 1e-12)
    assert with_gres <= everything * (1 + 1e-12)


@given(counts, texts, st.sampled_from(["", "MAX_TRES", "MAX_TRES_GRES"]), st.integers(1, 100))
def test_more_of_everything_is_billed_in_proportion(tres, weights, flag, times):
    more = {name: count * times for name, count in tres.items()}
    flags = frozenset({flag})
    assert billing(more, weights, flags) == pytest.approx(billing(tres, weights, flags) * times)
