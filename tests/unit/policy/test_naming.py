"""Names in the policy that the cluster does not have are found, and others left in peace."""

from __future__ import annotations

from slurm_gpu_policy.policy.naming import unknown_names
from tests.builders import make_node, make_policy, make_snapshot

TEMPLATES = ("batch", "interactive")


def found(snapshot=None, **fields):
    policy = make_policy(**fields)
    names = unknown_names(policy, snapshot or make_snapshot(), TEMPLATES)
    return {".".join(map(str, item.where)): item.name for item in names}


def test_the_built_in_defaults_name_nothing_unknown():
    assert found() == {}


def test_every_kind_of_unknown_name_is_found_at_its_place():
    assert found(
        clusters={"elsewhere": {}},
        gpu_types={
            "b200": {},
            "fast": {"gres_type": "mi300", "partitions": ["nowhere"], "features": ["nvlink"]},
        },
        workloads={
            "mine": {
                "pools": ["b200", "tpu"],
                "partitions": ["gone"],
                "template": "nope",
                "qos": "platinum",
                "cpu_fallback": {"partitions": ["lost"]},
            }
        },
        limits={"users": {"bob": {}}, "accounts": {"physics": {}}},
        defaults={"gpu_type": "v100", "account": "x", "partition": "y", "qos": "z"},
        ordering={
            "classes": {"qos": {"gold": "high"}, "accounts": {"chem": "low"}},
            "terms": {"interactive": {"partitions": ["shell"]}},
        },
    ) == {
        "clusters.elsewhere": "elsewhere",
        "gpu_types.b200": "b200",
        "gpu_types.fast.gres_type": "mi300",
        "gpu_types.fast.partitions": "nowhere",
        "gpu_types.fast.features": "nvlink",
        "workloads.mine.pools": "tpu",
        "workloads.mine.partitions": "gone",
        "workloads.mine.template": "nope",
        "workloads.mine.qos": "platinum",
        "workloads.mine.cpu_fallback.partitions": "lost",
        "limits.users.bob": "bob",
        "limits.accounts.physics": "physics",
        "defaults.gpu_type": "v100",
        "defaults.account": "x",
        "defaults.partition": "y",
        "defaults.qos": "z",
        "ordering.classes.qos.gold": "gold",
        "ordering.classes.accounts.chem": "chem",
        "ordering.terms.interactive.partitions": "shell",
    }


def test_factors_and_prices_of_what_the_cluster_has_not_are_found_at_their_places():
    change = {"since": "2030-01-01", "qos": {"gold": 2}, "gpu_types": {"H100": 1}}
    assert found(
        gpu_types={"big": {"gres_type": "h100"}},
        pricing={
            "qos": {"HIGH": 2, "platinum": 3},
            "partitions": {"gpu": 1, "gone": 2},
            "gpu_types": {"big": 2, "h100": 3, "tpu": 4},
            "changes": [change],
        },
    ) == {
        "pricing.qos.platinum": "platinum",
        "pricing.partitions.gone": "gone",
        "pricing.gpu_types.tpu": "tpu",
        "pricing.changes.0.qos.gold": "gold",
    }


def test_names_the_cluster_has_are_right():
    assert (
        found(
            clusters={"cluster": {}, "elsewhere": {}},
            gpu_types={"h100": {"partitions": ["gpu"]}},
            workloads={"mine": {"pools": ["h100", "*"], "qos": "high", "template": "batch"}},
            limits={"users": {"u1": {}}, "accounts": {"NLP": {}}},
            defaults={"gpu_type": "h100", "account": "nlp", "partition": "gpu", "qos": "normal"},
        )
        == {}
    )


def test_a_site_without_gres_types_may_call_its_gpus_as_it_likes():
    snapshot = make_snapshot(nodes=(make_node("g1", gpu_type=""),))
    assert found(snapshot, gpu_types={"h100": {}}, cluster_defaults={"typed": False}) == {}
    assert found(snapshot, gpu_types={"h100": {}}) == {"gpu_types.h100": "h100"}


def test_the_message_says_what_there_is():
    (unknown,) = unknown_names(make_policy(defaults={"partition": "y"}), make_snapshot(), TEMPLATES)
    assert unknown.message == "this cluster has no partition y; it has: cpu, gpu, interactive"


def test_default_types_of_raw_requests_are_looked_at():
    assert found(submission={"default_types": {"gpu": "h100"}}) == {}
    unknown = found(submission={"default_types": {"gpu": "H100", "gone": "h100"}})
    assert unknown == {
        "submission.default_types.gpu": "H100",
        "submission.default_types.gone": "gone",
    }


def test_budgets_that_nobody_can_spend_from_are_found():
    assert found(budgets={"NLP": {"amount": "5"}, "x": {"account": "nlp", "amount": "5"}}) == {}
    unknown = found(
        budgets={
            "chem": {"amount": "5"},
            "one": {"account": "physics", "gpu_hours": 5},
            "two": {"account": "nlp", "user": "nobody", "amount": "5"},
        },
        submission={"over_budget_qos": "spare"},
    )
    assert unknown == {
        "budgets.chem": "chem",
        "budgets.one.account": "physics",
        "budgets.two.user": "nobody",
        "submission.over_budget_qos": "spare",
    }
