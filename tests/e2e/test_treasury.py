"""Money by real users over the real socket: nobody sees or moves what is not theirs."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys

import pytest
import yaml

from tests.clusters import PrivateCluster, require_cluster
from tests.e2e.asking import open_site
from tests.e2e.daemons import eventually
from tests.e2e.test_over_the_network import SAY, SEAL, Tap

pytestmark = [pytest.mark.cluster, pytest.mark.root]

BUDGETS = {
    "nlp": {"amount": "1000"},
    "nlp-pretrain": {"amount": "100"},
    "vision-seg": {"amount": "100"},
    "vision-seg-medical": {"gpu_hours": 10, "period": "year"},
}
PRICES = {"h100": {"price_per_hour": "3600"}}
"""A GPU-second costs one."""
JOB = ("--gres=gpu:h100:1", "-t", "1", "-o", "/dev/null", "--wrap=sleep 2")

RAW = """
import json, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
line.sendall(sys.argv[2].encode() + b"\\n")
print(line.makefile().readline(), end="")
"""


@pytest.fixture(scope="module")
def cluster():
    require_cluster()
    with PrivateCluster("treasury") as up:
        # u4 coordinates vision-seg, and so vision-seg-medical below it
        up.run("sacctmgr", "-i", "add", "coordinator", "account=vision-seg", "names=u4")
        yield up


@pytest.fixture(scope="module")
def site(cluster):
    with open_site(
        cluster, budgets=BUDGETS, gpu_types=PRICES, currency="EUR", enforcement="observe"
    ) as made:
        with socket.create_server(("127.0.0.1", 0)) as free:
            made.port = free.getsockname()[1]
        made.policy["controller"]["listen"] = f"127.0.0.1:{made.port}"
        made.write()
        controller = made.start()
        jobs = {
            "u1": cluster.sbatch("-A", "nlp-pretrain", *JOB, user="u1"),
            "u2": cluster.sbatch("-A", "nlp-pretrain", *JOB, user="u2"),
            "u3": cluster.sbatch("-A", "vision-seg", *JOB, user="u3"),
        }
        made.jobs = jobs

        def settled():
            total = _json(made, "root", "statement", "--all", *_now(made))["total"]
            return total["runs"] == len(jobs)

        eventually(controller.good_ticks)
        eventually(settled, seconds=90, every=0.5)
        yield made


def _now(site):
    month = site.cluster.run("date", "-u", "+%Y-%m").stdout.strip()
    return ("--month", month, "--format", "json")


def _json(site, user, *words):
    return json.loads(site.ask("budget", *words, user=user).stdout)


def _refused(site, user, *words):
    answer = site.ask("budget", *words, user=user, check=False)
    assert (answer.returncode, answer.stdout) == (1, ""), answer
    return answer.stderr


def _budget(site, account):
    (one,) = [
        one
        for one in _json(site, "root", "--all", "--json")
        if (one["account"], one["user"]) == (account, "")
    ]
    return one


def _entries(site):
    with sqlite3.connect(site.database, timeout=10) as connection:
        return connection.execute("SELECT count(*) FROM entries").fetchone()[0]


def _raw(site, user, request):
    """Send a line of JSON as a user, without our programs."""
    argv = (sys.executable, "-c", RAW, str(site.folder / "sock"), json.dumps(request))
    argv = ("/usr/bin/python3", *argv[1:])
    return json.loads(site.cluster.run(*argv, user=user, cwd="/tmp").stdout)


def test_everybody_sees_the_budgets_they_are_paid_from(site):
    for user, accounts in (
        ("u1", {"nlp", "nlp-pretrain"}),
        ("u3", {"vision-seg", "vision-seg-medical"}),
    ):
        found = _json(site, user, "--json")
        assert {one["account"] for one in found} == accounts
    keys = {
        "account", "user", "currency", "granted", "settled", "in_flight", "committed", "available",
        "period_end",
    }  # fmt: skip
    assert all(one.keys() == keys for one in found)
    hours = next(one for one in found if one["account"] == "vision-seg-medical")
    assert (hours["currency"], hours["granted"]) == ("GPU-seconds", "36000")
    assert "nlp-pretrain" in site.ask("budget", user="u1").stdout


def test_what_a_job_cost_is_what_slurm_says_it_took(site):
    said = site.cluster.run(
        "sacct", "-X", "-n", "-P", "-a", "-o", "user,elapsedraw", "-S", "now-1hours"
    ).stdout
    seconds = dict(line.split("|") for line in said.split())
    for user in ("u1", "u2", "u3"):
        (line,) = _json(site, user, "statement", *_now(site))["users"]
        assert (line["user"], line["gpu_seconds"]) == (user, int(seconds[user]))
        assert line["cost"] == f"{seconds[user]}.00"


def test_no_user_reads_another_accounts_statement(site):
    for user, account in (("u1", "vision-seg"), ("u3", "nlp-pretrain"), ("u4", "nlp")):
        words = [
            _refused(site, user, *view, "--account", name).replace(name, "X")
            for view in (("statement", *_now(site)), ("forecast",), ())
            for name in (account, "no-such-account")
        ]
        assert len(set(words)) == 1, words
    for wanted in (["--user", "u2"], ["--all"]):
        _refused(site, "u1", "statement", *_now(site), *wanted)
    _refused(site, "u1", "export")
    assert site.ask("ledger", "verify", user="u1", check=False).returncode == 1


def test_a_member_sees_the_accounts_sum_and_their_own_lines(site):
    found = _json(site, "u1", "statement", "--account", "nlp-pretrain", *_now(site))
    assert found["total"]["runs"] == 2
    assert {one["user"] for one in found["users"] + found["jobs"]} == {"u1"}


def test_a_coordinator_sees_the_lines_of_the_accounts_below_and_refunds_them(site):
    found = _json(site, "u4", "statement", "--account", "vision-seg", *_now(site))
    assert {one["user"] for one in found["users"]} == {"u3"}
    before = _budget(site, "vision-seg")
    said = site.ask("budget", "refund", site.jobs["u3"], "--reason", "slow", user="u4").stdout
    assert "refund:" in said
    after = _budget(site, "vision-seg")
    assert (after["settled"], after["available"]) == ("0.00", "100.00")
    assert before["granted"] == after["granted"]


def test_nobody_moves_money_that_is_not_theirs_to_move(site):
    before = _entries(site)
    reason = ("--reason", "greed")
    move = ("transfer", "--from", "nlp-pretrain", "--to", "vision-seg", "--amount", "5", *reason)
    for user in ("u1", "u3", "u4"):
        _refused(site, user, "grant", "nlp-pretrain", "--amount", "5", *reason)
        _refused(site, user, "grant", "vision-seg", "--amount", "5", *reason)
        _refused(site, user, *move)
        _refused(site, user, "close", "vision-seg", *reason)
        _refused(site, user, "refund", site.jobs["u1"], *reason)
    assert _entries(site) == before
    assert site.ask("ledger", "verify", user="root").returncode == 0


def test_forged_fields_change_nothing(site):
    before = _entries(site)
    forged = {
        "caller": "root", "caller_id": 0, "user_id": 0, "uid": 0, "is_root": True, "actor": "root",
        "user": "root", "groups": ["root"], "operates": True,
    }  # fmt: skip
    grant = {
        "request": "grant", "account": "nlp-pretrain", "amount": "5", "unit": "money",
        "reason": "x", "id": "forged-request",
    }  # fmt: skip
    for request in (
        {**forged, **grant},
        {**forged, "request": "statement", "account": "vision-seg", "month": _now(site)[1]},
        {**forged, "request": "budget", "all": True},
        {**forged, "request": "entries"},
        {**forged, "request": "verify"},
    ):
        answer = _raw(site, "u1", request)
        assert (answer["ok"], answer["error"]) == (False, "NotAllowed"), answer
    assert _entries(site) == before


def test_a_replayed_request_writes_nothing_twice(site):
    grant = {
        "request": "grant", "account": "nlp", "amount": "5000000", "unit": "money",
        "reason": "more", "id": "replayed-request",
    }  # fmt: skip
    first = _raw(site, "root", grant)["result"]
    before = _entries(site)
    again = [_raw(site, "root", grant)["result"] for _ in range(3)]
    assert again == [{**first, "written": False}] * 3
    assert _entries(site) == before
    assert _budget(site, "nlp")["granted"] == "1005.00"
    stolen = _raw(site, "u1", grant)
    assert (stolen["ok"], stolen["error"]) == (False, "NotAllowed")


def test_an_operator_transfers_and_the_books_stay_right(site):
    site.ask(
        "budget", "transfer", "--from", "nlp", "--to", "nlp-pretrain", "--amount", "2.5",
        "--reason", "x", user="root",
    )  # fmt: skip
    assert _budget(site, "nlp-pretrain")["granted"] == "102.50"
    found = json.loads(site.ask("ledger", "verify", "--json", user="root").stdout)
    assert found["differences"] == []
    assert found["entries"] == _entries(site)
    done = site.ask("ledger", "reconcile", "--json", user="root")
    found = json.loads(done.stdout)
    assert (found["checked"], found["differences"]) == (len(site.jobs), [])


def test_the_views_of_an_operator(site, tmp_path):
    page = site.folder / "statement.html"
    site.ask(
        "budget", "statement", *_now(site)[:2], "--all", "--format", "html", "--output", page,
        user="root",
    )  # fmt: skip
    assert "<h2>Jobs</h2>" in page.read_text()
    rows = site.ask("budget", "export", user="root").stdout.splitlines()
    assert len(rows) == _entries(site) + 1
    grants = site.folder / "grants.csv"
    grants.write_text(
        "account,user,amount,unit,name,start,end,reason\nvision,,50,EUR,spring,,2090-01-01,new\n"
    )
    said = [site.ask("budget", "import", grants, user="root").stdout for _ in range(2)]
    assert said[0] == "imported 1 grant\n"
    assert "nothing was written again" in said[1]
    assert "none" in site.ask("budget", "forecast", "--all", user="root").stdout


# --- over the network, by MUNGE's credentials ------------------------------------------------


def _from_afar(site, user, *words, port=None, check=True):
    """Run ``gpu-policy budget`` as a user of another machine, which has no socket."""
    file = site.folder / f"afar-{port or site.port}.yaml"
    there = {"socket": "/run/not-here/sock", "reach": f"127.0.0.1:{port or site.port}"}
    file.write_text(yaml.safe_dump({**site.policy, "controller": there}))
    return site.cluster.ours(
        "slurm_gpu_policy.apps.policy", "budget", *words, user=user, cwd="/tmp", check=check,
        env={"GPU_POLICY_FILE": str(file), "XDG_CACHE_HOME": "/dev/null/cache"},
    )  # fmt: skip


def _says(site, user, what):
    """Let a user say the value of an expression at the door; return the answer's last line."""
    done = site.cluster.run("/usr/bin/python3", "-c", SAY, str(site.port), what, user=user)
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_over_the_network_everybody_is_who_munge_says(site):
    for user in ("u1", "u3"):
        near = _json(site, user, "--json")
        assert json.loads(_from_afar(site, user, "--json").stdout) == near
    words = []
    for account in ("vision-seg", "no-such-account"):
        answer = _from_afar(site, "u1", "statement", *_now(site), "--account", account, check=False)
        assert (answer.returncode, answer.stdout) == (1, "")
        words.append(answer.stderr.replace(account, "X"))
    assert len(set(words)) == 1
    before = _entries(site)
    grant = ("grant", "nlp", "--amount", "1", "--reason", "x")
    assert _from_afar(site, "u1", *grant, check=False).returncode == 1
    assert _entries(site) == before
    assert "grant: 1.00 EUR" in _from_afar(site, "root", *grant).stdout


def test_an_operators_request_taken_from_the_wire_moves_nothing_twice(site):
    grant = ("grant", "nlp", "--amount", "3", "--reason", "wire", "--request-id", "from-the-wire")
    with Tap(site.port) as tap:
        assert "grant: 3.00 EUR" in _from_afar(site, "root", *grant, port=tap.port).stdout
    before = _entries(site)
    for user in ("u1", "root"):
        replayed = _says(site, user, repr(tap.request.strip()))
        assert (replayed["ok"], replayed["error"]) == (False, "NotAllowed"), replayed
    with Tap(site.port, passes_on=False) as tap:  # caught before it arrives
        lost = _from_afar(site, "root", *grant[:-1], "caught-id", port=tap.port, check=False)
        assert (lost.returncode, "--request-id caught-id" in lost.stderr) == (4, True)
    stolen = _says(site, "u1", repr(tap.request.strip()))
    assert (stolen["ok"], stolen["error"]) == (False, "NotAllowed")
    again = _from_afar(site, "root", *grant).stdout  # the operator repeats what did arrive
    assert "nothing was written again" in again
    assert _entries(site) == before


def test_a_forged_credential_and_forged_fields_in_a_true_one_move_nothing(site):
    before = _entries(site)
    head = {
        "protocol": "slurm-gpu-policy/1", "is": "request", "cluster": site.cluster.name,
        "nonce": "n", "user": "root", "user_id": 0,
    }  # fmt: skip
    grant = {
        "request": "grant", "account": "nlp", "amount": "5", "unit": "money", "reason": "x",
        "id": "sealed-request", "user": "", "caller": "root", "user_id": 0,
    }  # fmt: skip
    body = json.dumps(grant).encode() + b"\n"
    answer = _says(site, "u2", SEAL.format(head=head, body=body))
    assert (answer["error"], "u2 may not grant" in answer["message"]) == ("NotAllowed", True)
    with Tap(site.port, passes_on=False) as tap:
        _from_afar(
            site, "root", "grant", "nlp", "--amount", "5", "--reason", "x", port=tap.port,
            check=False,
        )  # fmt: skip
    forged = bytearray(tap.request.strip())
    place = len(forged) // 2
    forged[place] = ord("B" if forged[place] == ord("A") else "A")
    assert _says(site, "u2", repr(bytes(forged)))["error"] == "NotAllowed"
    assert _entries(site) == before
