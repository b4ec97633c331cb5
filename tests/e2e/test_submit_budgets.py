"""gpu-submit under a budget, on a real cluster with a real gpu-policyd and real users."""

from __future__ import annotations

import json
import time

import pytest

from tests.clusters import PrivateCluster, require_cluster
from tests.e2e.asking import SUBMIT, open_site
from tests.e2e.daemons import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.root]

POLICY = {
    "currency": "EUR",
    "gpu_types": {"h100": {"price_per_hour": "2.00"}},
    "budgets": {
        name: {"amount": 100, "soft": 80}
        for name in ("nlp-pretrain", "nlp-finetune", "vision", "vision-seg")
    },
}


def sleep(account):
    """Options of a job in an account of its own, which no other test has spent anything in."""
    return ("-A", account, "--", "sleep", "300")


@pytest.fixture(scope="module")
def cluster():
    require_cluster()
    with PrivateCluster("submitbudget") as up:
        yield up


@pytest.fixture
def site(cluster):
    with open_site(cluster, **POLICY) as made:
        yield made
        cluster.run("scancel", "--user=u1", "--user=u3", check=False)


def start(site):
    controller = site.start()
    eventually(controller.ticks)
    return controller


def budget(site, account="nlp-pretrain", user="u1"):
    """Return how an account stands, in EUR as text."""
    shown = json.loads(site.ask("budget", "--json", user=user).stdout)
    (found,) = [one for one in shown if one["account"] == account]
    return found


def test_a_job_shows_what_it_costs_and_leaves_and_the_next_is_refused_with_what_would_pass(site):
    start(site)
    said = site.ask("--gpus", "8", "--time", "5h", *sleep("nlp-pretrain"), program=SUBMIT).stdout
    assert "at most 80.00 EUR" in said
    assert "account nlp-pretrain has 20.00 EUR left after this job" in said
    job = said.split()[2].rstrip(":")
    refused = site.ask(
        "--gpus", "8", "--time", "2h", *sleep("nlp-pretrain"), program=SUBMIT, check=False
    )
    assert refused.returncode == 3
    assert "B-001" in refused.stderr
    assert "has 20.00 EUR left, and the job may cost 32.00 EUR" in refused.stderr
    assert "--time=01:15:00 at most" in refused.stderr
    assert "4 GPUs" in refused.stderr
    fits = site.ask("--gpus", "4", "--time", "2h", *sleep("nlp-pretrain"), program=SUBMIT)
    assert "B-002" in fits.stderr
    other = fits.stdout.split()[2].rstrip(":")
    eventually(lambda: budget(site)["in_flight"] == "96.00")
    assert (budget(site)["granted"], budget(site)["available"]) == ("100.00", "4.00")
    site.cluster.run("scancel", job, other)
    eventually(lambda: float(budget(site)["available"]) > 99, seconds=120)
    assert (budget(site)["in_flight"], budget(site)["committed"]) == ("0.00", "0.00")


def test_a_dry_run_sets_nothing_aside_and_what_slurm_refuses_is_given_back(site):
    start(site)
    site.ask("--dry-run", "--gpus", "8", "--time", "5h", *sleep("nlp-finetune"), program=SUBMIT)
    assert budget(site, "nlp-finetune")["committed"] == "0.00"
    bad = ("--sbatch-arg", "--licenses=nobodys:1")
    refused = site.ask(
        "--gpus", "8", "--time", "5h", *bad, *sleep("nlp-finetune"), program=SUBMIT, check=False
    )
    assert refused.returncode == 1
    assert budget(site, "nlp-finetune")["committed"] == "0.00"
    assert budget(site, "nlp-finetune")["available"] == "100.00"


def test_a_promise_becomes_its_jobs_reservation_and_is_not_counted_twice(site):
    start(site)
    later = ("--sbatch-arg", "--begin=now+1hour")
    said = site.ask("--gpus", "8", "--time", "5h", *later, *sleep("vision"), program=SUBMIT).stdout
    job = said.split()[2].rstrip(":")
    for _ in range(5):
        assert budget(site, "vision")["committed"] == "80.00"
        time.sleep(0.3)
    site.cluster.run("scancel", job)
    eventually(lambda: budget(site, "vision")["available"] == "100.00")


def test_without_a_controller_the_site_says_whether_jobs_go(site):
    said = site.ask("--gpus", "1", "--time", "1h", *sleep("nlp-finetune"), program=SUBMIT)
    assert "cannot be found out" in said.stderr
    site.cluster.run("scancel", said.stdout.split()[2].rstrip(":"))
    site.write(ledger={"unreachable": "closed"})
    refused = site.ask(
        "--gpus", "1", "--time", "1h", *sleep("nlp-finetune"), program=SUBMIT, check=False
    )
    assert refused.returncode == 3
    assert "B-001" in refused.stderr


def test_a_single_user_keeps_the_books_without_a_controller(site):
    folder = site.folder / "own"
    folder.mkdir()
    folder.chmod(0o777)
    site.write(
        ledger={"own_books": True},
        controller={**site.policy["controller"], "database": f"sqlite:///{folder}/books.db"},
    )
    said = site.ask(
        "--gpus", "8", "--time", "5h", *sleep("vision-seg"), program=SUBMIT, user="u3"
    ).stdout
    assert "has 20.00 EUR left after this job" in said
    refused = site.ask(
        "--gpus", "8", "--time", "2h", *sleep("vision-seg"), program=SUBMIT, user="u3", check=False
    )
    assert refused.returncode == 3
    site.cluster.run("scancel", said.split()[2].rstrip(":"))
    eventually(lambda: float(budget(site, "vision-seg", "u3")["available"]) > 99, seconds=120)
