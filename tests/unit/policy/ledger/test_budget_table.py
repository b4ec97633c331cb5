"""What job_submit.lua is told of budgets."""

from __future__ import annotations

from slurm_gpu_policy.model.ledger import Fund, FundView, LedgerState
from slurm_gpu_policy.policy.ledger.budget_table import budget_table
from tests.builders import NOW, make_node, make_partition, make_policy, make_snapshot

HOUR = 3600


def view(level, number, committed=0, **fields):
    fund = Fund("b", *level, **{"unit": "gpu_seconds", "fund_id": number, **fields})
    return FundView(fund, 0, 0, committed)


def table(*views, **policy):
    state = LedgerState(NOW, views=views, parents={"nlp-x": "nlp", "nlp": "root", "lab": "root"})
    fields = {"budgets": {"nlp": {"gpu_hours": 1}}, **policy}
    return budget_table(make_snapshot(), make_policy(**fields), state)


def flat(text):
    return " ".join(text.split())


def test_each_level_has_what_is_left_and_each_account_its_line():
    text = flat(table(view(("nlp", ""), 1, available=HOUR, overdraft=60), view(("nlp-x", "u1"), 2)))
    assert '["nlp"] = { ["amount"] = 3660, ["unit"] = "gpu_seconds", ["spent"] = false, }' in text
    assert '["nlp-x u1"] = { ["amount"] = 0, ["unit"] = "gpu_seconds", ["spent"] = true, }' in text
    assert '["nlp-x"] = { "nlp" }' in text
    assert '["lab"]' not in text


def test_what_is_only_set_aside_is_not_spent():
    assert '["spent"] = false' in flat(table(view(("nlp", ""), 1, committed=60)))


def test_the_clusters_own_and_unlimited_funds_are_no_limit():
    text = flat(table(view(("", ""), 1, unlimited=True), view(("lab", ""), 2, unlimited=True)))
    assert '["left"] = {}' in text


def test_prices_are_the_dearest_of_all_hours_qos_partitions_and_dates():
    text = flat(
        table(
            gpu_types={"h100": {"price_per_hour": "2"}},
            submission={"over_budget_qos": "idle"},
            pricing={
                "qos": {"high": "3", "idle": "9"},
                "hours": [{"start": "20:00", "factor": "1.5"}],
                "changes": [{"since": "2030-01-01", "gpu_types": {"h100": "4"}}],
            },
        )
    )
    assert '["h100"] = 18000000' in text  # 4 x 3 x 1.5
    assert '["qos"] = "idle"' in text


def test_a_node_costs_what_all_of_its_cpus_and_memory_do():
    snapshot = make_snapshot(
        nodes=(make_node("gpu01", cpus=10, memory_mb=2048),),
        partitions=(make_partition("gpu", "gpu01"),),
    )
    policy = make_policy(pricing={"cpu_hour": "0.1", "memory_hour": "1"})
    text = flat(budget_table(snapshot, policy, LedgerState(NOW)))
    assert '["nodes"] = { ["gpu"] = 3000000, }' in text


def test_it_holds_for_ten_ticks():
    assert f'["valid_until"] = {NOW + 600}' in table()
