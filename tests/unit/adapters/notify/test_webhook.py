"""A chat channel's webhook, on a real server."""

from __future__ import annotations

import os
import traceback

import pytest

from slurm_gpu_policy.adapters.notify.way import send_now
from slurm_gpu_policy.adapters.notify.webhook import Webhook, text_of
from tests.builders import make_policy
from tests.servers import HOST, Channel, free_port, server_context, silent_server, web_server

PATH = "/services/T000/B000/verysecret"


@pytest.fixture
def channel():
    return Channel()


@pytest.fixture
def webhook(secret):
    def make(url, **fields):
        settings = {"url_file": secret(f"{url}\n"), "timeout": "5s", **fields}
        return Webhook(make_policy(notify={"webhook": settings}).notify.webhook)

    return make


def sent(way, notice):
    """Why it was not sent, ``None`` where it was."""
    ((address, failure),) = send_now(way, notice)
    assert address == ""
    if failure is not None:
        shown = "".join(traceback.format_exception(failure)) + repr(failure)
        assert "verysecret" not in shown
    return failure


def test_a_notice_is_posted_as_slack_wants_it(channel, webhook, make_notice):
    with web_server(channel) as port:
        assert sent(webhook(f"http://{HOST}:{port}{PATH}"), make_notice()) is None
    assert channel.said == [
        {"text": "Half of nlp's budget is spent\nOf 100.00 EUR 50.00 are spent."}
    ]
    assert channel.paths == [PATH]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a & b < c > d", "a &amp; b &lt; c &gt; d"),
        ("&lt;!channel&gt;", "&amp;lt;!channel&amp;gt;"),
        ("<!channel>", "&lt;!channel&gt;"),
        ("<http://evil|click>", "&lt;http://evil|click&gt;"),
        ("@all @channel @here", "@\u200ball @\u200bchannel @\u200bhere"),
        ("u1@example.org", "u1@example.org"),
        ("[click](http://evil)", "[click]\u200b(http://evil)"),
        ("a\x1b[31m\u202eb", "a [31m b"),
        ("one\n\ntwo", "one\n\ntwo"),
    ],
)
def test_nothing_in_a_text_is_a_command(make_notice, said, shown):
    assert text_of(make_notice(subject="s", text=said)) == f"s\n{shown}"


def test_a_subject_is_one_line_and_a_long_text_is_cut(make_notice):
    text = text_of(make_notice(subject="a\nb", text="x" * 10_000))
    assert text.startswith("a b\nxxx")
    assert len(text) == 4000
    assert text.endswith("…")


@pytest.mark.parametrize(
    ("least", "severity", "is_told"),
    [
        ("warning", "info", False),
        ("warning", "warning", True),
        ("info", "info", True),
        ("critical", "warning", False),
    ],
)
def test_mild_news_is_not_told_to_everybody(webhook, make_notice, least, severity, is_told):
    way = webhook("https://example.org/x", least=least)
    assert bool(way.addresses(make_notice(severity=severity))) is is_told


@pytest.mark.parametrize(
    ("answer", "is_lasting", "words"),
    [
        (500, False, "answered 500"),
        (503, False, "answered 503"),
        (429, False, "answered 429"),
        (403, True, "answered 403"),
        (404, True, "answered 404 (no_service)"),
    ],
)
def test_an_answer_says_whether_it_helps_to_try_again(
    channel, webhook, make_notice, answer, is_lasting, words
):
    channel.answers = [answer]
    with web_server(channel) as port:
        way = webhook(f"http://{HOST}:{port}{PATH}")
        failure = sent(way, make_notice())
        assert failure.is_lasting is is_lasting
        assert words in str(failure)
        assert sent(way, make_notice()) is None


def test_after_a_failure_for_now_the_rest_is_not_tried(channel, webhook, make_notice):
    channel.answers = [500]
    with web_server(channel) as port:
        way = webhook(f"http://{HOST}:{port}{PATH}")
        found = list(way.deliver([(make_notice(), "")] * 3))
    assert [failure.is_lasting for failure in found] == [False] * 3
    assert len(channel.paths) == 1


def test_after_a_lasting_failure_the_rest_is_tried(channel, webhook, make_notice):
    channel.answers = [400]
    with web_server(channel) as port:
        way = webhook(f"http://{HOST}:{port}{PATH}")
        found = list(way.deliver([(make_notice(), "")] * 3))
    assert [failure is None for failure in found] == [False, True, True]


def test_a_redirect_is_not_followed(channel, webhook, make_notice):
    elsewhere = Channel()
    with web_server(elsewhere) as other, web_server(channel) as port:

        def redirect(handler):
            handler.send_response(302)
            handler.send_header("Location", f"http://{HOST}:{other}/elsewhere")
            handler.end_headers()

        channel.answers = [redirect]
        failure = sent(webhook(f"http://{HOST}:{port}{PATH}"), make_notice())
    assert "answered 302: it sends us elsewhere" in str(failure)
    assert failure.is_lasting
    assert elsewhere.paths == []


def test_a_server_that_is_not_there_or_says_nothing_fails_for_now(webhook, make_notice):
    failure = sent(webhook(f"http://{HOST}:{free_port()}{PATH}"), make_notice())
    assert "cannot be reached: Connection refused" in str(failure)
    with silent_server() as port:
        failure = sent(webhook(f"http://{HOST}:{port}{PATH}", timeout="1s"), make_notice())
    assert "gives no answer in 1 s" in str(failure)
    assert not failure.is_lasting


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 what\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_what_is_no_answer_fails_for_now(channel, webhook, make_notice, said):
    def answer(handler):
        handler.wfile.write(said)
        handler.close_connection = True

    channel.answers = [answer]
    with web_server(channel) as port:
        failure = sent(webhook(f"http://{HOST}:{port}{PATH}"), make_notice())
    assert not failure.is_lasting


def test_a_certificate_of_a_stranger_is_not_spoken_to(channel, webhook, certificate, make_notice):
    with web_server(channel, server_context(*certificate)) as port:
        url = f"https://localhost:{port}{PATH}"
        failure = sent(webhook(url), make_notice())
        assert "certificate that is not trusted: self-signed certificate" in str(failure)
        assert channel.paths == []
        assert sent(webhook(url, ca_file=str(certificate[0])), make_notice()) is None
        by_number = webhook(f"https://{HOST}:{port}{PATH}", ca_file=str(certificate[0]))
        assert "IP address mismatch" in str(sent(by_number, make_notice()))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("https://example.org/verysecret\nhttps://example.org/b", "more than one line"),
        ("verysecret", "no address of a webhook"),
        ("https://example.org/very secret/verysecret", "no address of a webhook"),
        ("https://user:verysecret@example.org/x", "no address of a webhook"),
        ("https://example.org:port/verysecret", "no address of a webhook"),
        ("https:///verysecret", "no address of a webhook"),
        ("file:///etc/verysecret", "no address of a webhook"),
        ("http://example.org/verysecret", "without TLS"),
        ("http://127.0.0.1.example.org/verysecret", "without TLS"),
    ],
)
def test_an_address_that_is_not_safe_is_refused_without_showing_it(
    webhook, make_notice, content, words
):
    way = webhook(content)
    assert words in str(sent(way, make_notice()))
    (problem,) = way.problems()
    assert words in problem
    assert "verysecret" not in problem
    assert "verysecret" not in repr(vars(way))


def test_a_changed_address_is_used_at_once(channel, webhook, secret, make_notice):
    with web_server(channel) as port:
        way = webhook(f"http://{HOST}:{port}/old")
        sent(way, make_notice())
        secret(f"http://{HOST}:{port}/new")
        sent(way, make_notice())
    assert channel.paths == ["/old", "/new"]


def test_a_file_that_cannot_be_read_is_said(webhook, make_notice, tmp_path):
    way = webhook("https://example.org/x")
    path = tmp_path / "secret"
    path.chmod(0o644)
    assert "chmod 600" in way.problems()[0]
    path.unlink()
    assert "secret cannot be read: No such file or directory" in str(sent(way, make_notice()))
    assert "No such file" in way.problems()[0]


def test_a_pipe_in_place_of_the_file_keeps_nobody_waiting(make_notice, tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    settings = make_policy(notify={"webhook": {"url_file": f"{tmp_path}/pipe"}}).notify.webhook
    assert "is no ordinary file" in str(sent(Webhook(settings), make_notice()))
