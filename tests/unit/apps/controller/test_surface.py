"""What gpu-policyd shows and sends while it runs: here, its notices."""

from __future__ import annotations

import io
import json

import pytest

from slurm_gpu_policy.adapters.logs import LogObserver, make_logger
from slurm_gpu_policy.apps.controller.surface import Surface
from slurm_gpu_policy.bootstrap import service
from slurm_gpu_policy.model.notice import Notice
from tests.builders import make_policy
from tests.servers import HOST, Mailbox, mail_server, wait_until

CONTROLLER = {"metrics": ""}
NOTICE = Notice(("u1",), "News", "All of it.", "B-010", "warning", "k1", 1_800_000_000)


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def make_surface(output):
    """Make the surface and its notifier as gpu-policyd does."""

    def make(policy):
        logger = make_logger(output)
        metrics = service.make_metrics()
        observers = (LogObserver(logger), metrics)
        notifier = service.make_notifier(policy, logger, observers)
        return Surface(policy, logger, metrics, notifier), notifier

    return make


def events(output):
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_files_that_cannot_be_used_are_in_the_log_from_the_start(make_surface, output, tmp_path):
    policy = make_policy(controller=CONTROLLER, notify={"webhook": {"url_file": f"{tmp_path}/url"}})
    surface, _ = make_surface(policy)
    with surface:
        (line,) = events(output)
        assert (line["level"], line["event"]) == ("warning", "notices cannot be sent")
        assert line["message"] == f"{tmp_path}/url cannot be read: No such file or directory"
        (tmp_path / "url").write_text("ftp://x")
        (tmp_path / "url").chmod(0o600)
        surface.reloaded(policy)
        assert "no address of a webhook" in events(output)[-1]["message"]


def test_a_reload_changes_where_notices_go_and_the_end_waits_for_them(make_surface, output):
    mailbox = Mailbox()
    surface, notifier = make_surface(make_policy(controller=CONTROLLER))
    with mail_server(mailbox) as port:
        with surface:
            notifier.send(NOTICE)
            wait_until(lambda: "notice sent" in output.getvalue())
            mail = {"server": HOST, "port": port, "tls": "none", "sender": "a@b.org"}
            surface.reloaded(make_policy(controller=CONTROLLER, notify={"mail": mail}))
            notifier.send(NOTICE)
        assert [to for _, to, *_ in mailbox.letters] == [("u1",)]
    assert [line["way"] for line in events(output) if line["event"] == "notice sent"] == [
        "log",
        "mail",
    ]
