"""A budget that runs out on a real cluster, told by mail and in a channel, each part once."""

from __future__ import annotations

import email
import email.policy
import re
import signal
import urllib.request

import pytest

from tests.clusters import PrivateCluster, require_cluster
from tests.e2e.daemons import Site, after_ticks, eventually
from tests.servers import HOST, Channel, Mailbox, free_port, mail_server, web_server

pytestmark = [pytest.mark.cluster, pytest.mark.root]

PER_SECOND = 3600
"""Price of an hour at which a GPU costs one unit a second."""


@pytest.fixture(scope="module")
def cluster():
    require_cluster("native")
    with PrivateCluster("notices") as cluster:
        yield cluster


def subjects(mailbox, address):
    """What was told to an address, in order."""
    return [
        email.message_from_bytes(content, policy=email.policy.default)["Subject"]
        for _, to, content, _ in mailbox.letters
        if to == (address,)
    ]


def parts(found):
    """The tens of percent in some subjects: 8 for 80 to 89 percent."""
    return [int(re.search(r"(\d+) %", subject)[1]) // 10 for subject in found]


def test_b_010_people_are_told_once_over_a_restart_and_a_server_that_was_away(cluster, tmp_path):
    mailbox, channel, port = Mailbox(), Channel(), free_port()
    mailbox.rcpt["u1@example.org"] = ["451 greylisted"]
    secret, metrics = tmp_path / "webhook", f"{HOST}:{free_port()}"
    secret.touch(0o600)
    notify = {
        "mail": {
            "server": HOST,
            "port": port,
            "tls": "none",
            "sender": "gpu-policy@example.org",
            "address": "{user}@example.org",
            "to_operators": ["ops@example.org"],
        },
        "webhook": {"url_file": str(secret)},
    }
    with web_server(channel) as web:
        secret.write_text(f"http://{HOST}:{web}/x\n")
        site = Site(
            cluster,
            tmp_path,
            currency="EUR",
            gpu_types={"h100": {"price_per_hour": str(PER_SECOND)}},
            budgets={
                "mine": {"account": "nlp-pretrain", "user": "u1", "amount": "40", "period": "year"},
                "all": {"account": "nlp-pretrain", "amount": "1000", "period": "year"},
            },
            ledger={"when_spent": "nothing", "slurm_limits": "off"},
            notify=notify,
        )
        site.policy["controller"]["metrics"] = metrics
        site.write()
        first = site.start()
        try:
            after_ticks(first)
            asked = ("-A", "nlp-pretrain", "--gres=gpu:h100:1", "-t", "2", "-o", "/dev/null")
            job = cluster.sbatch(*asked, "--wrap=sleep 100")
            eventually(lambda: first.events("notice not sent"), 60)  # nobody takes mail yet
            with mail_server(mailbox, port=port):
                eventually(lambda: parts(subjects(mailbox, "u1@example.org")) == [8], 60)
                assert first.end() == 0  # it tries what is greylisted once more
                assert 5 in parts(subjects(mailbox, "u1@example.org"))
                second = site.start()
                eventually(lambda: len(subjects(mailbox, "u1@example.org")) == 3, 60)
                second.signal(signal.SIGHUP)
                after_ticks(second, 5)
                found = urllib.request.urlopen(f"http://{metrics}/metrics", timeout=20).read()
                assert second.end() == 0
            cluster.run("scancel", job)
        finally:
            site.tidy()
    told = parts(subjects(mailbox, "u1@example.org"))
    assert sorted(told)[:2] == [5, 8]
    assert len(told) == 3
    assert max(told) >= 10
    mine = [one for one in subjects(mailbox, "ops@example.org") if "mine of u1" in one]
    assert len(mine) == 2, "operators hear of 80 and 100 percent"
    assert len([text for text in channel.texts if "mine of u1" in text]) == 2
    assert b'slurm_gpu_policy_notices_total{outcome="sent",way="mail"}' in found
    assert not [one for one in second.events("notice not sent") if one["fate"] != "retried"]
