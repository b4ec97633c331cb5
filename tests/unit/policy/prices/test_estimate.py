"""What a request is told of its cost: C-401, C-403 to C-405."""

from __future__ import annotations

from slurm_gpu_policy.policy.admission import decide
from slurm_gpu_policy.units import MICRO
from tests.builders import make_node, make_policy, make_request, make_snapshot
from tests.unit.policy.priced import (
    DAY,
    HOUR,
    NIGHTS,
    NOON,
    berlin,
    judge,
    reason,
)


def test_c_401_each_task_of_an_array_is_rounded_up_by_itself():
    asked = make_request(time_seconds=60, array="1-3")
    decision = judge(asked, gpu_types={"h100": {"price_per_hour": "0.000001"}})
    assert decision.cost_micros == 3


def test_c_401_factors_of_qos_and_partition_count():
    pricing = {"qos": {"high": 2}, "partitions": {"gpu": 0.5}}
    assert judge(make_request(time_seconds=HOUR, qos="high"), pricing=pricing).cost_micros == (
        2_500_000
    )
    assert judge(pricing=pricing).cost_micros == 1_250_000


def test_c_401_cpus_and_memory_count_where_they_have_a_price():
    pricing = {"cpu_hour": "0.10", "memory_hour": "0.01"}
    asked = make_request(time_seconds=HOUR, cpus_per_task=4, memory_mb=2048)
    assert judge(asked, pricing=pricing).cost_micros == 2_500_000 + 400_000 + 20_000


def test_c_401_a_job_without_gpus_has_an_estimate_where_cpus_have_a_price():
    asked = make_request(gpus=0, ntasks=2, cpus_per_task=4, time_seconds=HOUR)
    decision = judge(asked, pricing={"cpu_hour": "0.10"})
    assert decision.cost_micros == 800_000
    assert reason(decision, "C-401")
    assert judge(asked).cost_micros is None
    assert reason(judge(asked), "C-403") is None


def test_c_401_a_price_in_the_pricing_part_counts_before_that_of_the_type():
    assert judge(pricing={"gpu_types": {"h100": 4}}).cost_micros == 4_000_000
    decision = judge(gpu_types={}, pricing={"gpu_types": {"h100": 4}})
    assert decision.cost_micros == 4_000_000


def test_c_401_a_change_within_the_job_counts_for_the_rest_of_it():
    change = {"since": "2030-05-03T12:30", "gpu_types": {"h100": 5}}
    pricing = {"timezone": "Europe/Berlin", "changes": [change]}
    assert judge(pricing=pricing).cost_micros == 1_250_000 + 2_500_000


def test_c_404_a_cheaper_hour_is_named_with_its_time_and_amount():
    decision = judge(pricing=NIGHTS)
    assert decision.cost_micros == 2_500_000
    found = reason(decision, "C-404")
    assert "from Fri 2030-05-03 20:00 CEST on" in found.message
    assert "at most 1.25 credits, 1.25 less" in found.message
    assert found.remedy == "let it wait with --begin=now+480minutes"


def test_c_404_a_dated_change_in_the_next_week_is_named_as_well():
    change = {"since": "2030-05-06", "gpu_types": {"h100": 1}}
    decision = judge(pricing={"timezone": "Europe/Berlin", "changes": [change]})
    assert "from Mon 2030-05-06 00:00 CEST on" in reason(decision, "C-404").message


def test_c_404_says_nothing_where_now_is_the_cheapest_time():
    night = judge(at=berlin("2030-05-03T21:00"), pricing=NIGHTS)
    assert night.cost_micros == 1_250_000
    assert reason(night, "C-404") is None
    assert "at other hours up to 2.50 credits" in reason(night, "C-401").message
    assert reason(judge(), "C-404") is None


def test_c_405_what_the_minimum_adds_is_said():
    decision = judge(make_request(time_seconds=60), pricing={"minimum_charge": 1})
    assert decision.cost_micros == MICRO
    assert reason(decision, "C-405").value == "0.958333 credits"
    three = judge(make_request(time_seconds=60, array="1-3"), pricing={"minimum_charge": 1})
    assert (three.cost_micros, reason(three, "C-405").value) == (3 * MICRO, "2.874999 credits")
    assert reason(judge(pricing={"minimum_charge": 1}), "C-405") is None


def test_the_cheapest_of_several_types_is_taken_by_the_prices_in_force():
    nodes = (make_node("gpu01"), make_node("gpu02", "a100"))
    policy = make_policy(
        gpu_types={"h100": {"price_per_hour": 2}, "a100": {"price_per_hour": 1}},
        pricing={"changes": [{"since": "2030-01-01", "gpu_types": {"a100": 3}}]},
    )
    for time, expected in ((NOON, "h100"), (NOON - 366 * DAY, "a100")):
        snapshot = make_snapshot(nodes=nodes, time=time)
        decision = decide(make_request(), snapshot, policy, policy.cluster_defaults)
        assert decision.gpu_type == expected
