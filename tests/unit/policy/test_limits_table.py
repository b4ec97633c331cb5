"""The table that job_submit.lua reads."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.policy.limits_table import lua, table_text
from tests.builders import (
    make_association,
    make_node,
    make_partition,
    make_policy,
    make_snapshot,
)

TREE = (
    make_association("root", "", parent=""),
    make_association("nlp", "", parent="root"),
    make_association("nlp-pretrain", "", parent="nlp"),
    make_association("vision", "", parent="root"),
    make_association("nlp-pretrain", "u1"),
)


def table(snapshot=None, closed=(), **policy):
    snapshot = snapshot or make_snapshot(associations=TREE)
    return table_text(make_policy(**policy), snapshot, closed=closed)


def entry_of(text, name):
    """The lines of one entry, as one."""
    after = text.partition(f'["{name}"] = {{')[2]
    return " ".join(after.partition("}")[0].split())


def test_equal_inputs_give_the_same_text_and_other_ones_another_generation():
    first, *_ = table().splitlines()
    assert first.startswith("-- generation ")
    assert table() == table()
    assert table(enforcement="enforce").splitlines()[0] != first


def test_an_account_has_the_strictest_of_its_own_limits_and_those_above_it():
    limits = {"accounts": {
        "nlp": {"gpus_per_job": 8, "time": "2h"},
        "nlp-pretrain": {"gpus_per_job": 16, "time": "1h", "gpus": 32},
    }}  # fmt: skip
    text = table(limits=limits)
    assert entry_of(text, "nlp") == '["gpus_per_job"] = 8, ["seconds"] = 7200,'
    of_child = '["gpus_per_job"] = 8, ["gpus"] = 32, ["seconds"] = 3600,'
    assert entry_of(text, "nlp-pretrain") == of_child
    assert "vision" not in text


def test_a_closed_account_passes_it_on_to_those_below():
    text = table(closed=["nlp"])
    assert entry_of(text, "nlp-pretrain") == '["closed"] = true,'
    assert "vision" not in text


def test_the_table_says_where_what_is_left_stands_only_where_books_are_kept():
    assert "budgets" not in table()
    text = table(budgets={"nlp": {"gpu_hours": 1}}, ledger={"table": "/x/budgets.lua"})
    assert '["budgets"] = "/x/budgets.lua",' in text


def test_an_account_that_the_policy_closes_is_closed():
    text = table(accounts={"nlp": {"closed": "true"}, "vision": {}})
    assert entry_of(text, "nlp-pretrain") == '["closed"] = true,'
    assert "vision" not in text


def test_an_account_that_slurm_does_not_have_yet_is_limited_all_the_same():
    text = table(limits={"accounts": {"Later": {"gpus_per_job": 1}}})
    assert entry_of(text, "later") == '["gpus_per_job"] = 1,'


def test_accounts_that_are_each_others_parents_end_the_walk():
    loop = (make_association("a", "", parent="b"), make_association("b", "", parent="a"))
    text = table(make_snapshot(associations=loop), closed=["a"])
    assert entry_of(text, "b") == '["closed"] = true,'


def test_a_partition_has_the_counts_of_its_nodes_and_a_type_if_that_is_clear():
    snapshot = make_snapshot(
        nodes=(make_node("n1"), make_node("n2", gpu_type="A100", gpus=4), make_node("n3", gpus=0)),
        partitions=(
            make_partition("one", "n2"),
            make_partition("two", "n1", "n2", "n3"),
            make_partition("none", "n3"),
        ),
    )
    text = table(snapshot)
    assert entry_of(text, "one") == (
        '["least_gpus"] = 4, ["most_gpus"] = 4, ["cpus"] = 64, ["type"] = "A100",'
    )
    assert entry_of(text, "two") == '["least_gpus"] = 0, ["most_gpus"] = 8, ["cpus"] = 64,'
    assert entry_of(text, "none") == '["least_gpus"] = 0, ["most_gpus"] = 0, ["cpus"] = 64,'
    chosen = table(snapshot, submission={"default_types": {"two": "h100"}})
    assert '["type"] = "h100",' in entry_of(chosen, "two")


@pytest.mark.parametrize(("version", "prefix"), [("22.05.8", "gres:"), ("26.05.5", "gres/")])
def test_the_prefix_is_that_of_the_release(version, prefix):
    config = ClusterConfig("cluster", version, {"SlurmUser": "slurm(64030)"})
    text = table(replace(make_snapshot(), config=config))
    assert f'["prefix"] = "{prefix}"' in text
    assert entry_of(text, "exempt") == "[0] = true, [64030] = true,"


def test_only_the_levels_of_the_scripts_own_rules_are_in_it():
    text = table(enforcement="enforce", rules={"L-201": "observe", "P-601": "advise"})
    assert '["level"] = "enforce"' in text
    assert entry_of(text, "levels") == '["L-201"] = "observe",'


def test_of_a_type_listed_twice_the_higher_price_counts():
    types = {
        "h100": {"price_per_hour": "2.50"},
        "h100-nvlink": {"gres_type": "h100", "price_per_hour": "3"},
    }
    types["a100"] = {"price_per_hour": "1"}
    assert entry_of(table(gpu_types=types), "prices") == (
        '["a100"] = 1000000, ["h100"] = 3000000, [""] = 3000000,'
    )


# --- through a real Lua -----------------------------------------------------------------

needs_lua = pytest.mark.skipif(not shutil.which("lua5.1"), reason="apt-get install lua5.1")
_PRINT = """
local value = dofile(arg[1])
io.write((value:gsub(".", function(c) return string.format("%02x", c:byte()) end)))
"""


@needs_lua
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=30))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_arrives_in_lua_as_it_is(tmp_path, text):
    path, program = tmp_path / "value.lua", tmp_path / "print.lua"
    quoted = lua(text)
    assert quoted.isascii()
    assert "\n" not in quoted
    path.write_text(f"return {quoted}")
    program.write_text(_PRINT.replace('"."', '"[%z\\1-\\255]"'))
    done = subprocess.run(["lua5.1", program, path], capture_output=True, text=True, check=True)
    assert bytes.fromhex(done.stdout).decode() == text


@needs_lua
def test_hostile_names_stay_keys(tmp_path):
    name = '"]=1}os.execute("false")--'
    limits = {"users": {name.replace("=", "").replace("(", "").replace(")", ""): {"gpus": 1}}}
    path = tmp_path / "limits.lua"
    path.write_text(table(limits=limits))
    done = subprocess.run(["luac5.1", "-p", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_lua
def test_a_table_of_20000_accounts_is_loaded_within_the_scripts_bounds(tmp_path):
    accounts = {f"account-{number}": {"gpus_per_job": number % 64} for number in range(20_000)}
    path = tmp_path / "limits.lua"
    text = table(limits={"accounts": accounts})
    assert len(text) < 16 * 1024 * 1024
    path.write_text(text)
    program = tmp_path / "count.lua"
    program.write_text(
        "local steps = 0\ndebug.sethook(function() steps = steps + 1 end, '', 1000)\n"
        "dofile(arg[1])\nprint(steps)"
    )
    done = subprocess.run(["lua5.1", program, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1000 < 20_000_000
