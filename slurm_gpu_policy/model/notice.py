"""News for people: what it says, whom it is for, and what became of it on its way."""

from __future__ import annotations

from typing import Final, Literal

from slurm_gpu_policy.model.record import record

Severity = Literal["info", "warning", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")
"""The mildest first."""

Fate = Literal["sent", "retried", "refused", "given_up", "dropped"]
"""``retried``: it will be tried again. ``refused``: trying again could not help. ``given_up``:
tried often enough. ``dropped``: too many wait already, or the way there was taken away.
"""


@record
class Notice:
    """One piece of news."""

    to: tuple[str, ...]
    """User names; empty for what concerns only those who run the site."""
    subject: str
    """One line."""
    text: str
    """Whole sentences, without markup; paragraphs are divided by an empty line."""
    rule: str
    severity: Severity
    key: str
    """The same text for the same news, so that it is sent once."""
    time: int
    """Unix seconds."""
    template: str = "notice"
    """Which mail template tells it; the others take ``subject`` and ``text`` as they are."""
    values: tuple[tuple[str, str], ...] = ()
    """What the template can say besides, by name."""


@record
class Delivery:
    """What became of one notice on one way, to one address."""

    way: str
    """``mail``, ``webhook`` or ``log``."""
    fate: Fate
    notice: Notice
    address: str = ""
    """``""`` where the way has no addresses."""
    words: str = ""
    """Why, where it was not sent."""
