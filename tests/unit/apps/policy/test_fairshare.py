"""``gpu-policy fairshare``: the tree, its words, and the JSON that scripts rely on."""

from __future__ import annotations

from dataclasses import replace

import pytest

USAGE = {
    ("root", ""): 1000.0,
    ("nlp", ""): 900.0,
    ("nlp-pretrain", ""): 900.0,
    ("nlp-pretrain", "u1"): 800.0,
    ("nlp-pretrain", "u2"): 100.0,
    ("vision", ""): 100.0,
    ("vision-seg", ""): 100.0,
    ("vision-seg", "u3"): 100.0,
}


@pytest.fixture(autouse=True)
def _used(slurm):
    slurm.associations = tuple(
        replace(
            one,
            usage=USAGE.get((one.account, one.user), 0.0),
            raw_shares={"vision-seg": None, "vision-seg-medical": 0}.get(
                one.account if not one.user else "", one.raw_shares
            ),
        )
        for one in slurm.associations
    )


def test_the_json_is_the_documented_one(gpu_policy):
    found = {(one["account"], one["user"]): one for one in gpu_policy("fairshare", "--json").json}
    assert found["nlp", ""] == {
        "account": "nlp",
        "user": "",
        "partition": "",
        "raw_shares": 60,
        "norm_shares": 60 / 101,
        "effective_usage": 0.9,
        "level_fs": 60 / 101 / 0.9,
        "fair_share_factor": None,
    }
    assert found["vision-seg", ""]["raw_shares"] == "parent"
    assert found["nlp-finetune", "u1"]["level_fs"] is None  # infinite: no usage
    assert found["root", ""]["level_fs"] is None
    factors = [one["fair_share_factor"] for one in found.values() if one["user"]]
    assert max(factors) == 1.0
    assert min(factors) > 0


def test_the_page_is_the_tree_with_who_is_over_and_who_is_under(gpu_policy):
    lines = gpu_policy("fairshare").out.splitlines()
    names = [
        line[: line.index("  ", len(line) - len(line.lstrip()))].strip() for line in lines[1:-1]
    ]
    assert names[:6] == ["root", "root", "nlp", "nlp-finetune", "u1", "u2"]
    text = "\n".join(lines)
    assert "over: 1.52 x its share" in text  # nlp
    assert "under: 0.17 x its share" in text  # nlp-pretrain's u2: a ninth of 2 thirds
    assert "unused" in text
    assert "first in line" not in text  # that is for the accounts above to say, too
    assert "takes part with its account's shares" in text
    assert "no share, no use" in text
    assert lines[-1] == "9 users: 2 over, 1 under, 6 unused"


def test_an_account_is_shown_with_all_below_it(gpu_policy):
    found = gpu_policy("fairshare", "VISION", "--json").json
    assert {one["account"] for one in found} == {"vision", "vision-seg", "vision-seg-medical"}
    assert len(gpu_policy("fairshare", "vision").out.splitlines()) == 9


def test_an_account_nobody_has_is_said(gpu_policy):
    result = gpu_policy("fairshare", "\x1b[2J")
    assert result.code == 2
    assert "no account" in result.err
    assert "\x1b" not in result.err


def test_who_may_not_see_all_is_told_why(gpu_policy, slurm):
    slurm.associations = tuple(one for one in slurm.associations if one.user == "u1")
    result = gpu_policy("fairshare")
    assert result.code == 1
    assert "PrivateData" in result.err
