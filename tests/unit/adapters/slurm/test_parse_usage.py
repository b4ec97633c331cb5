"""The controller's table of associations, and when it last calculated."""

from __future__ import annotations

import json
import pathlib

import pytest

from slurm_gpu_policy.adapters.slurm import parse_accounts, parse_usage
from slurm_gpu_policy.errors import SlurmUnreadable
from slurm_gpu_policy.model.account import Association

DATA = pathlib.Path(__file__).parents[3] / "data" / "slurm"
TAIL = "ParentAccount=nlp(3) Lft=17 DefAssoc=No GrpJobs=N(0) GrpTRES=cpu=N(0) MinPrioThresh= "


def line(shares="30/0.30/100/0.00", usage="12.34/0.08/0.08", user="u1(6001)", priority="7"):
    return (
        f"ClusterName=c Account=a UserName={user} Partition=gpu Priority={priority} ID=6 "
        f"SharesRaw/Norm/Level/Factor={shares} UsageRaw/Norm/Efctv={usage} {TAIL}"
    )


@pytest.mark.parametrize("release", ["22.05", "26.05"])
def test_a_real_answer_is_read_in_the_controllers_order(release):
    found = parse_usage.usage((DATA / release / "usage.txt").read_text())
    assert [(one.account, one.user) for one in found[:4]] == [
        ("root", ""),
        ("root", "root"),
        ("nlp", ""),
        ("nlp-finetune", ""),
    ]
    by_place = {(one.account, one.user): one for one in found}
    assert by_place["nlp-finetune", ""].parent == "nlp"
    assert by_place["nlp", ""].raw_shares == 60
    assert by_place["vision-seg", "u3"].raw_shares is None
    assert by_place["nlp-pretrain", ""].priority == 20
    assert by_place["root", ""].usage > 0
    assert by_place["vision-seg-medical", "u4"].usage == 0


def test_what_cannot_be_read_is_named():
    with pytest.raises(SlurmUnreadable, match="association"):
        parse_usage.usage(line(usage="some/0.08/0.08"))
    with pytest.raises(SlurmUnreadable, match="association"):
        parse_usage.usage("ClusterName=c Account=a GrpJobs=N(0)")


def test_a_record_has_its_partition_priority_and_usage():
    (one,) = parse_usage.usage("\nAssociation Records\n\n" + line())
    assert (one.account, one.user, one.partition, one.priority) == ("a", "u1", "gpu", 7)
    assert (one.raw_shares, one.usage) == (30, 12.34)


def tree(usage, norm, whole=400.0):
    return (
        Association("root", "", usage=whole, norm_usage=1.0),
        Association("root", "u1", usage=usage, norm_usage=norm),
    )


def test_usage_is_as_exact_as_both_figures_together():
    exact = 0.47191
    (_, one) = parse_usage.sharpened(tree(0.47, round(exact / 400, 6)))
    assert one.usage == pytest.approx(exact, abs=3e-4)
    assert one.usage != 0.47


def test_of_a_large_total_the_printed_hundredths_are_better():
    (_, one) = parse_usage.sharpened(tree(123456.78, 0.000123, whole=1e9))
    assert one.usage == pytest.approx(123456.78, abs=1e-6)


def test_usage_that_has_changed_since_the_last_calculation_stands():
    (_, one) = parse_usage.sharpened(tree(12.0, 0.001))
    assert one.usage == 12.0
    (_, none) = parse_usage.sharpened(tree(0.0, 0.0))
    assert none.usage == 0.0


def test_the_controllers_order_and_figures_win_and_the_databases_limits_stay():
    database = (
        Association("b", "u1", raw_shares=1, qos=frozenset({"normal"}), max_jobs=3),
        Association("a", "", parent="root", raw_shares=5),
        Association("new", "u2"),
    )
    controller = (
        Association("a", "", parent="root", raw_shares=7, usage=2.0, priority=4),
        Association("b", "u1", raw_shares=None, usage=1.0),
        Association("unread", "", parent="root"),
    )
    found = parse_accounts.with_usage(database, controller)
    assert [one.account for one in found] == ["a", "b", "unread", "new"]
    assert (found[0].raw_shares, found[0].usage, found[0].priority) == (7, 2.0, 4)
    assert (found[1].raw_shares, found[1].max_jobs) == (None, 3)


def test_the_last_calculation_is_read_from_the_controllers_state(tmp_path):
    settings = {"StateSaveLocation": str(tmp_path)}
    assert parse_usage.last_calculation(settings) is None
    (tmp_path / "priority_last_decay_ran").write_bytes(bytes.fromhex("000000006b00ee3b" * 2))
    assert parse_usage.last_calculation(settings) == 0x6B00EE3B
    (tmp_path / "priority_last_decay_ran").write_bytes(b"\0\0\0")
    assert parse_usage.last_calculation(settings) is None
    assert parse_usage.last_calculation({}) is None


def shares(part, kind="USER"):
    entry = {"name": "u1", "parent": "root", "partition": "", "type": [kind]}
    return json.dumps({"shares": {"shares": [entry | {"usage_normalized": {"number": part}}]}})


def test_from_23_11_on_usage_is_exact():
    part = 0.00117980625
    (_, one) = parse_usage.exact(tree(0.47, 0.00118), shares(part))
    assert one.usage == part * 400.0
    (_, changed) = parse_usage.exact(tree(9.47, 0.00118), shares(part))
    assert changed.usage == 9.47
    with pytest.raises(SlurmUnreadable, match="sshare"):
        parse_usage.exact(tree(0.47, 0.00118), "{}")


def test_exact_usage_is_asked_for_on_a_young_cluster_only():
    assert parse_usage.worth_exact(tree(0.47, 0.00118))
    assert not parse_usage.worth_exact(tree(0.47, 0.0, whole=1e9))
    assert not parse_usage.worth_exact(tree(0.0, 0.0, whole=0.0))
    assert not parse_usage.worth_exact(tree(0.47, 0.00118) * 2000)
