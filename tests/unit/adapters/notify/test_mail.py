"""Mail, to a real server."""

from __future__ import annotations

import email
import email.policy
import os
from types import SimpleNamespace

import pytest

from slurm_gpu_policy.adapters.notify.mail import Mail
from slurm_gpu_policy.adapters.notify.way import send_now
from slurm_gpu_policy.adapters.notify.wording import Wording
from tests.builders import make_policy
from tests.servers import HOST, Mailbox, free_port, mail_server, server_context, silent_server


@pytest.fixture
def mailbox():
    return Mailbox()


def make_mail(port, folders=(), **fields):
    settings = {
        "server": HOST,
        "port": port,
        "tls": "none",
        "sender": "gpu-policy@example.org",
        "address": "{user}@example.org",
        "timeout": "5s",
        **fields,
    }
    return Mail(make_policy(notify={"mail": settings}).notify.mail, Wording(folders))


def outcomes(mail, *notices):
    """Why each letter was not sent ("" where it was), by its address."""
    letters = [(notice, each) for notice in notices for each in mail.addresses(notice)]
    return [
        (address, str(failure or ""))
        for (_, address), failure in zip(letters, mail.deliver(letters), strict=True)
    ]


def read(letter):
    return email.message_from_bytes(letter[2], policy=email.policy.default)


def text_in(message):
    return message.get_content().replace("\r\n", "\n")


def test_each_user_gets_a_message_of_their_own_over_one_connection(mailbox, make_notice):
    with mail_server(mailbox) as port:
        found = outcomes(make_mail(port), make_notice(to=("u1", "u2", "u1")))
    assert found == [("u1@example.org", ""), ("u2@example.org", "")]
    assert [(sender, to) for sender, to, *_ in mailbox.letters] == [
        ("gpu-policy@example.org", ("u1@example.org",)),
        ("gpu-policy@example.org", ("u2@example.org",)),
    ]
    assert len(mailbox.sessions) == 1
    assert read(mailbox.letters[0])["To"] == "u1@example.org"


def test_a_message_says_what_the_notice_says_in_any_script(mailbox, make_notice):
    notice = make_notice(subject="Bücher: 50 % — 予算", text="Früher.\n\nSpäter: " + "lang " * 400)
    with mail_server(mailbox) as port:
        outcomes(make_mail(port), notice)
    content = mailbox.letters[0][2]
    assert content.isascii()
    assert max(map(len, content.splitlines())) <= 998
    message = read(mailbox.letters[0])
    assert message["Subject"] == "[gpu-policy] Bücher: 50 % — 予算"
    assert message["From"] == "gpu-policy@example.org"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime.timestamp() == notice.time
    text = text_in(message)
    assert text.startswith("Früher.\n\nSpäter: lang lang")
    assert "B-010" in text
    assert max(map(len, text.splitlines())) <= 78


def test_the_same_news_has_the_same_message_id_and_other_news_another(mailbox, make_notice):
    first, other = make_notice(), make_notice(key="budget:1:80")
    with mail_server(mailbox) as port:
        outcomes(make_mail(port), first, first, other)
    same, again, different = (read(letter)["Message-ID"] for letter in mailbox.letters)
    assert same == again
    assert same != different
    assert same.endswith("@example.org>")


@pytest.mark.parametrize(
    ("to", "severity", "found"),
    [
        (("u1",), "info", ["u1@example.org"]),
        (("u1",), "warning", ["u1@example.org", "ops@example.org"]),
        ((), "info", ["ops@example.org"]),
    ],
)
def test_operators_hear_what_is_grave_and_what_is_for_nobody_else(make_notice, to, severity, found):
    mail = make_mail(25, to_operators=["ops@example.org"])
    assert list(mail.addresses(make_notice(to=to, severity=severity))) == found


def test_a_user_name_alone_is_left_to_the_servers_aliases(mailbox, make_notice):
    with mail_server(mailbox) as port:
        assert outcomes(make_mail(port, address="{user}"), make_notice()) == [("u1", "")]
    assert mailbox.letters[0][1] == ("u1",)
    assert read(mailbox.letters[0])["To"] == "u1"


@pytest.mark.parametrize(
    "user",
    [
        "u1\nBcc: all@example.org",
        "u1\r\nRCPT TO:<all@example.org>",
        "u1 all",
        "u1,all",
        "u1@evil.org",
        "u1>",
        "-oQ",
        "",
        "ü",
        "u1\u2028x",
        "a" * 65,
    ],
)
def test_a_user_name_that_is_no_address_is_sent_nothing(mailbox, make_notice, user):
    with mail_server(mailbox) as port:
        (_, words), second = outcomes(make_mail(port), make_notice(to=(user, "u2")))
    assert "is no mail address" in words
    assert "\n" not in words
    assert second == ("u2@example.org", "")
    assert [to for _, to, *_ in mailbox.letters] == [("u2@example.org",)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\u0085", "\x0b", "\x1c", "\x00"])
def test_no_subject_begins_a_header_of_its_own(mailbox, make_notice, end):
    notice = make_notice(
        subject=f"job{end}Bcc: all@example.org{end}{end}evil",
        text=f"text{end}.{end}MAIL FROM:<x>",
        values=(("job", f"a{end}Bcc: all@example.org"),),
    )
    with mail_server(mailbox) as port:
        assert outcomes(make_mail(port), notice) == [("u1@example.org", "")]
    message = read(mailbox.letters[0])
    assert len(mailbox.letters) == 1
    assert message["Bcc"] is None
    assert message["Subject"] == "[gpu-policy] job Bcc: all@example.org evil"
    assert set(message.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted",
        "Content-Type", "Content-Transfer-Encoding", "MIME-Version",
    }  # fmt: skip
    assert "MAIL FROM:<x>" in text_in(message)


def test_a_refused_address_is_lasting_and_the_others_get_theirs(mailbox, make_notice):
    mailbox.rcpt["u1@example.org"] = ["550 no such user"]
    mail = None
    with mail_server(mailbox) as port:
        mail = make_mail(port)
        found = dict(send_now(mail, make_notice(to=("u1", "u2"))))
    assert found["u1@example.org"].is_lasting
    assert "550 no such user" in str(found["u1@example.org"])
    assert found["u2@example.org"] is None


@pytest.mark.parametrize("place", ["rcpt", "data"])
def test_what_is_refused_for_now_can_be_tried_again(mailbox, make_notice, place):
    busy = "451 greylisted, come back"
    if place == "rcpt":
        mailbox.rcpt["u1@example.org"] = [busy]
    else:
        mailbox.data = [busy]
    with mail_server(mailbox) as port:
        mail = make_mail(port)
        first = dict(send_now(mail, make_notice()))["u1@example.org"]
        assert not first.is_lasting
        assert "451" in str(first)
        assert dict(send_now(mail, make_notice()))["u1@example.org"] is None


def test_a_refused_text_is_lasting_and_a_refused_sender_can_be_mended(mailbox, make_notice):
    mailbox.data = ["554 looks like spam"]
    with mail_server(mailbox) as port:
        mail = make_mail(port)
        assert dict(send_now(mail, make_notice()))["u1@example.org"].is_lasting
        mailbox.refuses_senders = True
        failure = dict(send_now(mail, make_notice()))["u1@example.org"]
    assert not failure.is_lasting
    assert "550 no such sender" in str(failure)


def test_a_server_that_is_not_there_or_says_nothing_fails_all_for_now(make_notice):
    notice = make_notice(to=("u1", "u2"))
    gone = list(send_now(make_mail(free_port()), notice))
    assert [failure.is_lasting for _, failure in gone] == [False, False]
    assert "cannot be reached: Connection refused" in str(gone[0][1])
    with silent_server() as port:
        (_, first), (_, second) = send_now(make_mail(port, timeout="1s"), notice)
    assert f"port {port}, gives no answer in 1 s" in str(first)
    assert first is second  # it was waited for once


def test_starttls_encrypts_before_the_login(mailbox, certificate, secret, make_notice):
    with mail_server(
        mailbox,
        tls_context=server_context(*certificate),
        require_starttls=True,
        authenticator=mailbox.authenticate,
        auth_required=True,
    ) as port:
        mail = make_mail(
            port, server="localhost", tls="starttls", ca_file=str(certificate[0]),
            user="gpu", password_file=secret("s3cret\n"),
        )  # fmt: skip
        assert outcomes(mail, make_notice()) == [("u1@example.org", "")]
        assert mailbox.letters[0][3], "it was not encrypted"
        mailbox.login = ("gpu", "another")
        ((_, words),) = outcomes(mail, make_notice())
    assert "refused the user or the password: 535" in words
    assert "s3cret" not in words


def test_a_certificate_of_a_stranger_is_not_spoken_to(mailbox, certificate, make_notice):
    with mail_server(mailbox, tls_context=server_context(*certificate)) as port:
        ((_, words),) = outcomes(make_mail(port, server="localhost", tls="starttls"), make_notice())
        assert "certificate that is not trusted: self-signed certificate" in words
        trusting = make_mail(port, tls="starttls", ca_file=str(certificate[0]))
        ((_, words),) = outcomes(trusting, make_notice())
        assert "IP address mismatch" in words
    assert mailbox.letters == []


def test_without_starttls_at_the_server_nothing_is_said_in_the_clear(mailbox, make_notice):
    with mail_server(mailbox) as port:
        ((_, words),) = outcomes(make_mail(port, tls="starttls"), make_notice())
    assert "does not offer" in words
    assert mailbox.letters == []


def test_tls_from_the_first_byte(mailbox, certificate, make_notice):
    with mail_server(mailbox, ssl_context=server_context(*certificate)) as port:
        mail = make_mail(port, server="localhost", tls="tls", ca_file=str(certificate[0]))
        assert outcomes(mail, make_notice()) == [("u1@example.org", "")]
        ((_, words),) = outcomes(make_mail(port, server="localhost", tls="tls"), make_notice())
    assert "certificate that is not trusted" in words


def test_a_password_that_no_server_can_be_told_is_in_no_error(
    mailbox, certificate, secret, make_notice
):
    with mail_server(
        mailbox, tls_context=server_context(*certificate), authenticator=mailbox.authenticate
    ) as port:
        mail = make_mail(
            port, server="localhost", tls="starttls", ca_file=str(certificate[0]),
            user="gpu", password_file=secret("pässwört"),
        )  # fmt: skip
        ((_, failure),) = send_now(mail, make_notice())
    assert "not ASCII" in str(failure)
    assert failure.__cause__ is None
    assert "p\\xe4ssw" not in repr(failure.__context__ if not failure.__suppress_context__ else "")


def test_a_site_words_its_own_mails(mailbox, make_notice, tmp_path):
    (tmp_path / "notice.txt.j2").write_text(
        "Subject: {{ severity }} for {{ user }}\n\nDear {{ user }},\n{{ text }}\n"
    )
    with mail_server(mailbox) as port:
        outcomes(make_mail(port, [str(tmp_path)]), make_notice())
    message = read(mailbox.letters[0])
    assert message["Subject"] == "warning for u1"
    assert text_in(message) == "Dear u1,\nOf 100.00 EUR 50.00 are spent.\n"


def test_a_broken_template_is_said_and_can_be_mended(mailbox, make_notice, tmp_path):
    template = tmp_path / "notice.txt.j2"
    template.write_text("{{ txet }}")
    with mail_server(mailbox) as port:
        mail = make_mail(port, [str(tmp_path)])
        failure = dict(send_now(mail, make_notice()))["u1@example.org"]
        assert not failure.is_lasting
        assert "notice.txt.j2 cannot be filled: 'txet' is undefined" in str(failure)
        template.write_text("{{ text }}")
        os.utime(template, (1, 1))  # else it could be as old as before
        assert dict(send_now(mail, make_notice()))["u1@example.org"] is None
    assert read(mailbox.letters[0])["Subject"] == "Half of nlp's budget is spent"


def test_what_is_wrong_with_its_files_is_said_beforehand(tmp_path, secret):
    (tmp_path / "notice.txt.j2").write_text("{% if %}")
    mail = make_mail(
        25, [str(tmp_path)], tls="starttls", ca_file=secret("no certificate", "ca.pem"),
        user="gpu", password_file=secret("x", mode=0o644),
    )  # fmt: skip
    template, password, certificates = mail.problems()
    assert "notice.txt.j2 cannot be used" in template
    assert "can be read by everyone: chmod 600" in password
    assert "ca.pem cannot be used" in certificates
    assert make_mail(25).problems() == ()


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        ({"tls": "none"}, 25),
        ({"tls": "starttls"}, 25),
        ({"tls": "starttls", "user": "u", "password_file": "/p"}, 587),
        ({"tls": "tls"}, 465),
    ],
)
def test_the_port_is_the_usual_one(monkeypatch, make_notice, settings, port):
    asked = []

    def connect(host, port, **_):
        asked.append(port)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("slurm_gpu_policy.adapters.notify.mail.read_secret", lambda _: "x")
    stub = SimpleNamespace(SMTP=connect, SMTP_SSL=connect)
    for name in ("SMTP", "SMTP_SSL"):
        monkeypatch.setattr(f"smtplib.{name}", getattr(stub, name))
    mail = make_mail(1, **settings)
    mail._settings = SimpleNamespace(**{**vars(mail._settings), "port": None})
    outcomes(mail, make_notice())
    assert asked == [port]


def test_a_budget_that_runs_out_is_told_with_its_figures(mailbox, make_notice):
    fields = {
        "account": "nlp", "budget": "nlp-2030", "member": "", "until": "2030-02-01",
        "percent": "80", "granted": "100.00 EUR", "spent": "80.00 EUR", "running": "5.00 EUR",
        "waiting": "0.00 EUR", "left": "15.00 EUR",
    }  # fmt: skip
    notice = make_notice(subject="S", text="T.", template="budget", values=tuple(fields.items()))
    member = {**fields, "member": "u1", "until": "", "budget": ""}
    other = make_notice(key="other", template="budget", values=tuple(member.items()))
    with mail_server(mailbox) as port:
        outcomes(make_mail(port), notice, other)
    assert text_in(read(mailbox.letters[0])) == (
        "T.\n\n"
        "  Account      nlp\n"
        "  Budget       nlp-2030\n"
        "  Granted      100.00 EUR until 2030-02-01\n"
        "  Spent        80.00 EUR (80 %)\n"
        "  Set aside    5.00 EUR for jobs that run, 0.00 EUR for jobs that wait\n"
        "  Left         15.00 EUR\n"
        "\n--\nSent by gpu-policy (rule B-010). Nobody reads answers to this message.\n"
    )
    assert "  User         u1\n  Granted      100.00 EUR\n" in text_in(read(mailbox.letters[1]))
