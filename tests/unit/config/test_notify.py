"""The part ``notify`` of the policy file."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import PolicyFileError
from tests.builders import make_policy

MAIL = {"server": "mail.example.org", "sender": "gpu@example.org"}


def problem(**notify):
    with pytest.raises(PolicyFileError) as caught:
        make_policy(notify=notify)
    return str(caught.value)


def test_nothing_is_sent_unless_the_site_says_where():
    notify = make_policy().notify
    assert (notify.mail, notify.webhook) == (None, None)


def test_mail_is_encrypted_unless_the_site_says_otherwise():
    assert make_policy(notify={"mail": MAIL}).notify.mail.tls == "starttls"


@pytest.mark.parametrize(
    "pattern", ["{user}", "{user}@example.org", "hpc-{user}@lab.example.org", "{user}.x@a-b.org"]
)
def test_an_address_is_made_of_the_users_name(pattern):
    assert make_policy(notify={"mail": {**MAIL, "address": pattern}}).notify.mail.address == pattern


@pytest.mark.parametrize(
    "pattern",
    ["", "u@x.org", "{user}{user}", "{user}@", "{user}@-x.org", "{user} <x>", "{user}@a b"],
)
def test_a_pattern_that_makes_no_address_is_refused(pattern):
    assert "as {user}@example.org" in problem(mail={**MAIL, "address": pattern})


@pytest.mark.parametrize(
    "sender", ["a b@x.org", "x@y@z", "Name <a@b.org>", "a@b.org\nBcc: c", "@b"]
)
def test_a_sender_that_is_no_address_is_refused(sender):
    assert "name@example.org" in problem(mail={**MAIL, "sender": sender})
    assert "name@example.org" in problem(mail={**MAIL, "to_operators": [sender]})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"user": "u"}, "both user and password_file"),
        ({"password_file": "/p"}, "both user and password_file"),
        ({"user": "u", "password_file": "/p", "tls": "none"}, "must not be overheard"),
    ],
)
def test_a_password_is_said_only_where_nobody_can_overhear_it(fields, words):
    assert words in problem(mail={**MAIL, **fields})


def test_files_need_not_be_there_when_the_policy_file_is_read():
    """Whoever checks it may not read them."""
    policy = make_policy(
        notify={
            "webhook": {"url_file": "/nowhere/url"},
            "mail": {**MAIL, "user": "u", "password_file": "/nowhere/p", "ca_file": "/nowhere/c"},
        }
    )
    assert policy.notify.webhook.url_file == "/nowhere/url"
