"""How people are told: the part ``notify`` of the policy file."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from slurm_gpu_policy.config.applying import AbsolutePath
from slurm_gpu_policy.config.fields import Duration, Positive, Strict

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_ADDRESS = rf"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:@{_DOMAIN})?"
_USER = "{user}"


def _mail_address(value: str) -> str:
    if not re.fullmatch(_ADDRESS, value, re.ASCII):
        msg = f"{value!r} is no mail address: name@example.org, or the name of a mailbox or alias"
        raise ValueError(msg)
    return value


def _address_pattern(value: str) -> str:
    if value.count(_USER) != 1 or not re.fullmatch(_ADDRESS, value.replace(_USER, "u"), re.ASCII):
        msg = f"{value!r} makes no mail address: one with {{user}} in it, as {{user}}@example.org"
        raise ValueError(msg)
    return value


Host = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9_.:-]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
MailAddress = Annotated[str, Field(max_length=254), AfterValidator(_mail_address)]
AddressPattern = Annotated[str, Field(max_length=254), AfterValidator(_address_pattern)]
Severity = Literal["info", "warning", "critical"]


class Mail(Strict):
    """Mail, by a server that takes it (SMTP). Each user gets a message of their own."""

    server: Host = Field(description="Name of the mail server, as its certificate has it.")
    port: Port | None = Field(
        default=None,
        description="Its port; 25 if left out, 587 with a `user`, 465 with `tls: tls`.",
    )
    tls: Literal["none", "starttls", "tls"] = Field(
        default="starttls",
        description="`starttls`: the connection is encrypted before anything is said, or nothing "
        "is sent; `tls`: from its first byte; `none`: never, such as for a server on this machine. "
        "The server's certificate must be right.",
    )
    ca_file: AbsolutePath | None = Field(
        default=None,
        description="Certificates (PEM) of who may have signed the server's; the system's own if "
        "left out.",
    )
    user: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Name to log in with; needs `password_file`, and `tls`.",
    )
    password_file: AbsolutePath | None = Field(
        default=None,
        description="File with nothing but the password, which `gpu-policyd` can read and others "
        "cannot.",
    )
    sender: MailAddress = Field(
        description="Address that the messages come from (From, and of the envelope)."
    )
    address: AddressPattern = Field(
        default="{user}",
        description="How a user's name becomes an address, such as `{user}@example.org`. `{user}` "
        "alone leaves it to the mail server and its aliases.",
    )
    to_operators: tuple[MailAddress, ...] = Field(
        default=(),
        description="Addresses that also get what is a warning or worse, whomever it is for, and "
        "what is for no user.",
    )
    timeout: Duration = Field(
        default=20, ge=1, le=120, description="How long an answer of the server is waited for."
    )

    @model_validator(mode="after")
    def _must_log_in_safely(self) -> Mail:
        if (self.user is None) != (self.password_file is None):
            msg = "a mapping: with both user and password_file, or neither"
            raise ValueError(msg)
        if self.user is not None and self.tls == "none":
            msg = "a mapping: with tls: starttls or tls, for a password must not be overheard"
            raise ValueError(msg)
        return self


class Webhook(Strict):
    """A chat channel, by an incoming webhook in Slack's form, which Mattermost takes as well."""

    url_file: AbsolutePath = Field(
        description="File with nothing but the webhook's address (`https://…`), which "
        "`gpu-policyd` can read and others cannot: whoever knows it can write to the channel.",
    )
    ca_file: AbsolutePath | None = Field(
        default=None,
        description="Certificates (PEM) of who may have signed the server's; the system's own if "
        "left out.",
    )
    least: Severity = Field(
        default="warning",
        description="The mildest that is told; all in the channel see whose budget it is.",
    )
    timeout: Duration = Field(
        default=20, ge=1, le=120, description="How long its server's answer is waited for."
    )


class Notify(Strict):
    """How people are told what concerns them, such as that their budget runs out.

    Where neither way is given, notices are written into the log of `gpu-policyd` and nowhere else.
    Both files are read each time, so a changed one needs no reload.
    """

    mail: Mail | None = Field(default=None, description="By mail.")
    webhook: Webhook | None = Field(default=None, description="In a chat channel.")
    tries: Positive = Field(
        default=12,
        le=100,
        description="How often it is tried to send a notice, first after ten seconds, then with "
        "pauses that double up to a quarter of an hour; 12 tries take an hour and a half.",
    )
