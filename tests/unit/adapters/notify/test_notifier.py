"""Sending in the background: real threads, real servers, and ways that behave as a test says."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from slurm_gpu_policy.adapters.notify.notifier import Notifier
from slurm_gpu_policy.bootstrap import service
from slurm_gpu_policy.errors import NotifyFailed
from tests.builders import make_policy
from tests.servers import (
    HOST,
    Channel,
    Mailbox,
    free_port,
    mail_server,
    silent_server,
    wait_until,
    web_server,
)

LATER = NotifyFailed("come back later")
NEVER = NotifyFailed("never", is_lasting=True)


class Observer:
    """Keeps what it is told, as metrics and the log are."""

    def __init__(self):
        self.deliveries = []

    def delivered(self, delivery):
        self.deliveries.append(delivery)

    def fates(self, way="mail"):
        return [each.fate for each in self.deliveries if each.way == way]


class StubWay:
    """Sends by giving the next of some answers; waits first where a test wants it to."""

    name = "mail"

    def __init__(self, *answers, at_work=None):
        self.answers = list(answers)
        self.sent = []
        self.batches = []
        self.gate = at_work

    def addresses(self, notice):
        return notice.to or ("",)

    def deliver(self, letters):
        self.batches.append(len(letters))
        for notice, address in letters:
            if self.gate is not None:
                self.gate.wait(30)
            answer = self.answers.pop(0) if self.answers else None
            if isinstance(answer, Exception) and not isinstance(answer, NotifyFailed):
                raise answer
            if answer is None:
                self.sent.append((notice.key, address))
            yield answer

    def problems(self):
        return ()


@pytest.fixture
def observer():
    return Observer()


@pytest.fixture
def notifier(observer):
    """Make a notifier whose pauses are short; it is stopped at the end."""
    made = []

    def make(*ways, **options):
        options = {"first_pause_seconds": 0.02, "longest_pause_seconds": 0.1, **options}
        made.append(Notifier(ways, [observer], **options))
        return made[-1]

    yield make
    for one in made:
        one.stop(0)


def test_a_notice_goes_every_way_to_every_address(notifier, observer, make_notice):
    mail, webhook = StubWay(), StubWay()
    webhook.name = "webhook"
    notifier(mail, webhook).send(make_notice(to=("u1", "u2")))
    wait_until(lambda: len(observer.deliveries) == 4)
    assert {(each.way, each.address, each.fate) for each in observer.deliveries} == {
        ("mail", "u1", "sent"),
        ("mail", "u2", "sent"),
        ("webhook", "u1", "sent"),
        ("webhook", "u2", "sent"),
    }


def test_the_same_news_is_sent_once(notifier, observer, make_notice):
    way = StubWay()
    one = notifier(way)
    for _ in range(3):
        one.send(make_notice())
    one.send(make_notice(key="other"))
    wait_until(lambda: len(way.sent) == 2)
    one.send(make_notice())
    one.stop()
    assert way.sent == [("budget:1:50", "u1"), ("other", "u1")]


def test_what_fails_for_now_is_tried_again_for_that_address_only(notifier, observer, make_notice):
    way = StubWay(None, LATER, None, LATER)
    notifier(way).send(make_notice(to=("u1", "u2", "u3")))
    wait_until(lambda: len(way.sent) == 3)
    assert [address for _, address in way.sent] == ["u1", "u3", "u2"]
    assert observer.fates().count("retried") == 2


def test_what_cannot_be_sent_is_given_up_after_so_many_tries(notifier, observer, make_notice):
    notifier(StubWay(*[LATER] * 9), tries=4).send(make_notice())
    wait_until(lambda: "given_up" in observer.fates())
    assert observer.fates() == ["retried"] * 3 + ["given_up"]
    assert observer.deliveries[-1].words == "come back later"


def test_what_is_refused_for_good_is_not_tried_again(notifier, observer, make_notice):
    way = StubWay(NEVER)
    notifier(way).send(make_notice())
    wait_until(lambda: observer.deliveries)
    time.sleep(0.2)
    assert observer.fates() == ["refused"]


def test_pauses_double_up_to_the_longest(notifier):
    one = notifier(StubWay(), tries=12, first_pause_seconds=10, longest_pause_seconds=900)
    pauses = [one._pause(tried) for tried in range(1, 13)]
    assert pauses == [10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900, None]


def test_a_full_queue_takes_no_more_and_says_so_and_can_be_tried_again(
    notifier, observer, make_notice
):
    gate = threading.Event()
    way = StubWay(at_work=gate)
    one = notifier(way, most_waiting=3)
    for number in range(3):
        one.send(make_notice(key=f"n{number}"))
    with pytest.raises(NotifyFailed, match="too many notices wait to be sent by mail"):
        one.send(make_notice(key="n3"))
    assert observer.fates() == ["dropped"]
    gate.set()
    wait_until(lambda: len(way.sent) == 3)
    one.send(make_notice(key="n3"))
    wait_until(lambda: ("n3", "u1") in way.sent)


def test_a_full_queue_of_one_way_keeps_no_other_from_its_news(notifier, observer, make_notice):
    gate = threading.Event()
    mail, webhook = StubWay(at_work=gate), StubWay()
    webhook.name = "webhook"
    one = notifier(mail, webhook, most_waiting=1)
    one.send(make_notice(key="n0"))
    wait_until(lambda: len(webhook.sent) == 1)
    for _ in range(2):
        with pytest.raises(NotifyFailed):
            one.send(make_notice(key="n1"))
    wait_until(lambda: len(webhook.sent) == 2)
    gate.set()
    wait_until(lambda: len(mail.sent) == 1)
    one.send(make_notice(key="n1"))
    wait_until(lambda: len(mail.sent) == 2)
    assert [key for key, _ in webhook.sent] == ["n0", "n1"]


def test_sending_never_waits_for_a_server_that_hangs(notifier, observer, make_notice):
    with silent_server() as port:
        policy = make_policy(notify={"mail": {"server": HOST, "port": port, "sender": "a@b.org"}})
        one = notifier(*service.make_ways(policy))
        began = time.monotonic()
        for number in range(100):
            one.send(make_notice(key=str(number)))
        one.stop(0.3)
        assert time.monotonic() - began < 10  # an answer is waited for 20 s
    assert observer.fates() == ["dropped"] * 100
    assert {each.words for each in observer.deliveries} == {"the controller ended"}


def test_at_the_end_what_waits_is_tried_once_more(notifier, observer, make_notice):
    way = StubWay(LATER)
    one = notifier(way, first_pause_seconds=600, longest_pause_seconds=600)
    one.send(make_notice())
    wait_until(lambda: observer.fates() == ["retried"])
    one.stop()
    assert observer.fates() == ["retried", "sent"]
    assert not [thread for thread in threading.enumerate() if thread.name == "notify-mail"]


def test_at_the_end_what_fails_again_is_given_up(notifier, observer, make_notice):
    one = notifier(StubWay(*[LATER] * 9), first_pause_seconds=600, longest_pause_seconds=600)
    one.send(make_notice())
    wait_until(lambda: observer.fates() == ["retried"])
    one.stop()
    assert observer.fates() == ["retried", "given_up"]


def test_a_stop_while_sending_finishes_what_is_in_hand(notifier, observer, make_notice):
    gate = threading.Event()
    way = StubWay(at_work=gate)
    one = notifier(way)
    one.send(make_notice(to=("u1", "u2", "u3")))
    wait_until(lambda: way.batches)
    threading.Timer(0.1, gate.set).start()
    one.stop()
    assert len(way.sent) == 3
    assert observer.fates() == ["sent"] * 3


def test_who_was_told_that_a_notice_is_lost_hears_no_more_of_it(notifier, observer, make_notice):
    gate = threading.Event()
    way = StubWay(at_work=gate)
    one = notifier(way)
    one.send(make_notice(to=("u1", "u2")))
    wait_until(lambda: way.batches)
    one.stop(0)
    assert observer.fates() == ["dropped"] * 2
    gate.set()
    time.sleep(0.2)
    assert observer.fates() == ["dropped"] * 2
    assert [address for _, address in way.sent] == ["u1"], "it went on after its end"


def test_a_defect_of_a_way_ends_nothing_and_its_words_stay_hidden(notifier, observer, make_notice):
    way = StubWay(RuntimeError("https://example.org/verysecret"))
    notifier(way).send(make_notice(to=("u1", "u2")))
    wait_until(lambda: len(way.sent) == 2)
    assert observer.deliveries[0].words == "a defect: RuntimeError"
    assert observer.fates() == ["retried"] * 2 + ["sent"] * 2


def test_a_reload_sends_what_waits_by_the_new_settings(notifier, observer, make_notice):
    one = notifier(StubWay(LATER), first_pause_seconds=0.3, longest_pause_seconds=0.3)
    one.send(make_notice())
    wait_until(lambda: observer.fates() == ["retried"])
    new = StubWay()
    one.use([new], 12)
    wait_until(lambda: new.sent)
    one.send(make_notice())  # known, though by another object
    one.stop()
    assert new.sent == [("budget:1:50", "u1")]


def test_a_reload_without_a_way_drops_what_waits_for_it(notifier, observer, make_notice):
    one = notifier(StubWay(LATER), first_pause_seconds=600, longest_pause_seconds=600)
    one.send(make_notice())
    wait_until(lambda: observer.fates() == ["retried"])
    other = StubWay()
    other.name = "webhook"
    one.use([other], 12)
    assert observer.fates() == ["retried", "dropped"]
    one.send(make_notice(key="other"))
    wait_until(lambda: other.sent)


def test_no_thread_runs_before_there_is_news(notifier, make_notice):
    notifier(StubWay())
    assert not [thread for thread in threading.enumerate() if thread.name == "notify-mail"]


def test_many_letters_share_a_connection_but_not_without_end(notifier, observer, make_notice):
    way = StubWay()
    notifier(way).send(make_notice(to=tuple(f"u{number}" for number in range(120))))
    wait_until(lambda: len(way.sent) == 120)
    assert way.batches == [50, 50, 20]


# --- real servers ---------------------------------------------------------------------------


@contextmanager
def both(mailbox, channel, secret, **mail):
    """The ways of a policy file that has both, to real servers."""
    with mail_server(mailbox) as port, web_server(channel) as web:
        policy = make_policy(
            notify={
                "mail": {
                    "server": HOST,
                    "port": port,
                    "tls": "none",
                    "sender": "gpu-policy@example.org",
                    "address": "{user}@example.org",
                    **mail,
                },
                "webhook": {"url_file": secret(f"http://{HOST}:{web}/x")},
            }
        )
        yield service.make_ways(policy)


def test_greylisted_mail_and_a_webhook_in_trouble_arrive_in_the_end(
    notifier, observer, make_notice, secret
):
    mailbox, channel = Mailbox(), Channel()
    mailbox.rcpt["u1@example.org"] = ["451 greylisted", "451 greylisted"]
    channel.answers = [500]
    with both(mailbox, channel, secret) as ways:
        one = notifier(*ways)
        one.send(make_notice(to=("u1", "u2")))
        wait_until(lambda: len(mailbox.letters) == 2 and channel.said)
        one.stop()
    assert [to for _, to, *_ in mailbox.letters] == [("u2@example.org",), ("u1@example.org",)]
    assert sorted(observer.fates()) == ["retried", "retried", "sent", "sent"]
    assert observer.fates("webhook") == ["retried", "sent"]


def test_a_mail_server_that_comes_back_gets_what_waited(notifier, observer, make_notice):
    mailbox, port = Mailbox(), free_port()
    policy = make_policy(
        notify={"mail": {"server": HOST, "port": port, "tls": "none", "sender": "a@b.org"}}
    )
    one = notifier(*service.make_ways(policy), tries=100)
    one.send(make_notice())
    wait_until(lambda: observer.fates().count("retried") >= 2)
    with mail_server(mailbox, port=port):
        wait_until(lambda: mailbox.letters)
        one.stop()
    assert observer.fates()[-1] == "sent"


def test_without_any_way_the_log_has_it(observer, make_notice):
    lines = []
    logger = SimpleNamespace(info=lambda event, **fields: lines.append((event, fields)))
    one = service.make_notifier(make_policy(), logger, [observer])
    one.send(make_notice())
    one.stop()
    ((event, fields),) = lines
    assert event == "notice"
    assert fields["subject"] == "Half of nlp's budget is spent"
    assert fields["to"] == ["u1"]
    assert observer.fates("log") == ["sent"]
