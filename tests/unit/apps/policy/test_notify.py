"""``gpu-policy notify --test``: from here, by the policy file, to real servers."""

from __future__ import annotations

import pytest
import yaml

from tests.servers import HOST, Channel, Mailbox, free_port, mail_server, web_server


@pytest.fixture
def policy_file(monkeypatch, tmp_path):
    """Write the part ``notify`` of a policy file, which is then in force."""

    def write(**notify):
        path = tmp_path / "policy.yaml"
        path.write_text(yaml.safe_dump({"notify": notify}))
        monkeypatch.setenv("GPU_POLICY_FILE", str(path))

    return write


@pytest.fixture
def url_file(tmp_path):
    def write(url):
        path = tmp_path / "url"
        path.write_text(url)
        path.chmod(0o600)
        return str(path)

    return write


def mail_at(port):
    return {"server": HOST, "port": port, "tls": "none", "sender": "a@b.org",
            "to_operators": ["ops@b.org"]}  # fmt: skip


def test_a_test_goes_all_ways_at_once(gpu_policy, policy_file, url_file):
    mailbox, channel = Mailbox(), Channel()
    with mail_server(mailbox) as port, web_server(channel) as web:
        policy_file(mail=mail_at(port), webhook={"url_file": url_file(f"http://{HOST}:{web}/x")})
        result = gpu_policy("notify", "--test", "u1")
        assert (result.code, result.err) == (0, "")
        assert result.out == "mail to u1: sent\nmail to ops@b.org: sent\nwebhook: sent\n"
        assert gpu_policy("notify", "--test", "u1", "--json").json == [
            {"way": "mail", "address": "u1", "sent": True, "message": ""},
            {"way": "mail", "address": "ops@b.org", "sent": True, "message": ""},
            {"way": "webhook", "address": "", "sent": True, "message": ""},
        ]
    assert len(mailbox.letters) == 4
    assert channel.texts[0].startswith("A test for u1\n")


def test_a_way_that_fails_ends_with_four_and_the_reason(gpu_policy, policy_file, url_file):
    mailbox = Mailbox()
    secret = f"http://{HOST}:{free_port()}/verysecret"
    with mail_server(mailbox) as port:
        policy_file(mail=mail_at(port), webhook={"url_file": url_file(secret)})
        result = gpu_policy("notify", "--test", "u1")
        as_json = gpu_policy("notify", "--test", "u1", "--json")
    assert result.code == as_json.code == 4
    assert "gpu-policy: error: webhook: the webhook cannot be reached: Connection" in result.err
    assert [row["sent"] for row in as_json.json] == [True, True, False]
    assert "verysecret" not in result.out + result.err + as_json.out + as_json.err


def test_a_hostile_user_name_reaches_neither_server_nor_terminal(gpu_policy, policy_file):
    mailbox = Mailbox()
    with mail_server(mailbox) as port:
        policy_file(mail=mail_at(port))
        result = gpu_policy("notify", "--test", "u1\x1b[2J\nBcc: x@y")
    assert result.code == 4
    assert "\x1b" not in result.out + result.err
    assert [to for _, to, *_ in mailbox.letters] == [("ops@b.org",)]


def test_without_any_way_there_is_nothing_to_try(gpu_policy):
    result = gpu_policy("notify", "--test", "u1")
    assert result.code == 4
    assert "sets up no way to tell people: notify.mail or notify.webhook" in result.err


def test_it_says_for_whom(gpu_policy):
    assert gpu_policy("notify").code == 2
