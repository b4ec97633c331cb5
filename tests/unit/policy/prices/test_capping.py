"""What --max-cost makes of a request: C-402, C-403."""

from __future__ import annotations

from dataclasses import replace

from slurm_gpu_policy.policy.admission import decide
from slurm_gpu_policy.units import MICRO
from tests.builders import make_policy, make_request, make_snapshot
from tests.unit.policy.priced import (
    DAY,
    HOUR,
    NIGHTS,
    TYPES,
    berlin,
    judge,
    reason,
)


def test_c_402_a_time_limit_that_was_not_asked_for_is_cut_to_what_the_cap_pays():
    decision = judge(make_request(max_cost_micros=1_000_000))
    assert decision.kind == "admit"
    assert decision.time_seconds == 24 * 60
    assert decision.cost_micros == 1_000_000
    assert reason(decision, "C-402").value == "00:24:00"


def test_c_402_a_cap_that_pays_for_less_than_a_minute_is_refused():
    decision = judge(make_request(max_cost_micros=1))
    assert decision.kind == "refuse"
    assert reason(decision, "C-402").remedy == "ask for fewer GPUs or allow more"


def test_c_402_the_cap_holds_at_the_dearest_hour_the_job_may_run_in():
    night = berlin("2030-05-03T21:00")
    asked = make_request(time_seconds=2 * HOUR, max_cost_micros=2_500_000)
    decision = judge(asked, at=night, pricing=NIGHTS)  # 2.50 now, and 5.00 by day
    assert decision.kind == "refuse"
    assert "up to 5.00 credits" in reason(decision, "C-402").message
    assert "--time=01:00:00" in reason(decision, "C-402").remedy
    assert judge(replace(asked, time_seconds=HOUR), at=night, pricing=NIGHTS).kind == "admit"


def test_c_402_a_price_that_rises_later_counts_for_the_cap():
    change = {"since": "2030-11-01", "gpu_types": {"h100": 5}}
    asked = make_request(time_seconds=HOUR, max_cost_micros=2_500_000)
    assert judge(asked, pricing={"changes": [change]}).kind == "refuse"
    late = {**change, "since": "2033-01-01"}
    assert judge(asked, pricing={"changes": [late]}).kind == "admit"


def test_c_402_a_minimum_above_the_cap_is_refused():
    asked = make_request(time_seconds=60, max_cost_micros=500_000)
    assert judge(asked, pricing={"minimum_charge": 1}).kind == "refuse"


def test_c_402_tasks_of_an_array_share_the_cap():
    decision = judge(make_request(array="1-10", max_cost_micros=10_000_000))
    assert (decision.time_seconds, decision.cost_micros) == (24 * 60, 10_000_000)


def test_c_402_a_free_job_passes_any_cap():
    asked = make_request(time_seconds=DAY, max_cost_micros=0)
    assert judge(asked, pricing={"partitions": {"gpu": 0}}).kind == "admit"


def test_c_402_a_job_without_gpus_is_held_to_the_cap_where_cpus_have_a_price():
    asked = make_request(gpus=0, cpus_per_task=10, time_seconds=2 * HOUR, max_cost_micros=MICRO)
    refused = judge(asked, pricing={"cpu_hour": "0.10"})
    assert refused.kind == "refuse"
    assert "--time=01:00:00 on CPUs" in reason(refused, "C-402").remedy
    assert judge(asked).kind == "admit"


def test_c_402_a_fallback_to_cpus_is_held_to_the_cap_as_well():
    asked = make_request(
        gpus=99, workload="ocr", cpu_fallback=True, time_seconds=HOUR, max_cost_micros=6_399_999
    )
    assert judge(asked, pricing={"cpu_hour": "0.10"}).kind == "refuse"
    dearer = replace(asked, max_cost_micros=6_400_000)
    decision = judge(dearer, pricing={"cpu_hour": "0.10"})
    assert (decision.kind, decision.cost_micros, decision.cpus) == ("admit", 6_400_000, 64)


def test_c_403_a_job_that_asks_for_no_time_limit_cannot_be_capped():
    partitions = tuple(
        replace(each, max_time_seconds=None, default_time_seconds=None)
        for each in make_snapshot().partitions
    )
    policy = make_policy(gpu_types=TYPES)
    snapshot = make_snapshot(partitions=partitions)

    def decided(**fields):
        asked = make_request(max_cost_micros=2_500_000, **fields)
        return decide(asked, snapshot, policy, policy.cluster_defaults)

    assert reason(decided(time_seconds=0), "C-403")
    assert decided().time_seconds == HOUR  # one that leaves it out gets what the cap pays
