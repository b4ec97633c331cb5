"""A chat channel's incoming webhook, in Slack's form.

The webhook's address is a secret: whoever has it can write to the channel. It is read from its
file each time, and stands in no error, no log and no attribute.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from slurm_gpu_policy.adapters.notify.way import (
    one_line,
    paragraphs,
    read_secret,
    secret_problems,
    tls_context,
)
from slurm_gpu_policy.errors import NotifyFailed
from slurm_gpu_policy.model.notice import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.config.notify import Webhook as Settings
    from slurm_gpu_policy.model.notice import Notice

_LONGEST_TEXT: Final = 4000
"""Characters; the least that Mattermost takes. Slack takes 40,000."""
_FOR_NOW: Final = frozenset({408, 425, 429})
_SERVER_TROUBLE: Final = 500
_NO_BREAK: Final = "\N{ZERO WIDTH SPACE}"
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class Webhook:
    """Implements :class:`slurm_gpu_policy.adapters.notify.way.Way`."""

    name = "webhook"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def addresses(self, notice: Notice) -> tuple[str, ...]:
        """Return the one address it has, for what is grave enough."""
        least = SEVERITIES.index(self._settings.least)
        return ("",) if SEVERITIES.index(notice.severity) >= least else ()

    def deliver(self, letters: Sequence[tuple[Notice, str]]) -> Iterator[NotifyFailed | None]:
        """Post each; after one that failed for now, those behind it wait as well."""
        away: NotifyFailed | None = None
        try:
            url = read_url(self._settings.url_file)
            opener = self._opener()
        except NotifyFailed as error:
            away = error
        for notice, _ in letters:
            if away is not None:
                yield away
                continue
            try:
                self._post(opener, url, text_of(notice))
            except NotifyFailed as error:
                away = None if error.is_lasting else error
                yield error
            else:
                yield None

    def problems(self) -> tuple[str, ...]:
        """Look at the files."""
        found = list(secret_problems(self._settings.url_file))
        try:
            if not found:
                read_url(self._settings.url_file)
            self._opener()
        except NotifyFailed as error:
            found.append(str(error))
        return tuple(found)

    def _opener(self) -> urllib.request.OpenerDirector:
        secure = urllib.request.HTTPSHandler(context=tls_context(self._settings.ca_file))
        return urllib.request.build_opener(_Stay(), secure)

    def _post(self, opener: urllib.request.OpenerDirector, url: str, text: str) -> None:
        body = json.dumps({"text": text}).encode("ascii")
        head = {"Content-Type": "application/json", "User-Agent": "slurm-gpu-policy"}
        request = urllib.request.Request(url, body, head, method="POST")  # noqa: S310 - read_url
        try:
            with opener.open(request, timeout=self._settings.timeout):
                return
        except urllib.error.HTTPError as error:
            with error:
                failed = _answered(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failed = NotifyFailed(f"the webhook {self._words(error)}")
        raise failed  # outside, so that no error with the address in it is attached to it

    def _words(self, error: Exception) -> str:
        """Return what went wrong; never the error's own text, which may have the address."""
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            return f"gives no answer in {self._settings.timeout} s"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"has a certificate that is not trusted: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:
            return f"cannot be reached: {cause.strerror}"
        if isinstance(cause, http.client.RemoteDisconnected):
            return "hung up without an answer"
        return f"cannot be reached: {type(cause).__name__}"


class _Stay(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: what we say is for the server that the site has chosen."""

    def redirect_request(self, *_: Any) -> None:
        return None


def text_of(notice: Notice) -> str:
    """Return a notice as the channel shows it: text in which nothing is a command.

    ``&``, ``<`` and ``>`` are written as Slack wants it, so that no name can make a link or call
    a channel (``<!channel>``); and what Mattermost takes for either is broken up.
    """
    said = f"{one_line(notice.subject)}\n{paragraphs(notice.text)}".strip()
    said = re.sub(r"@(?=(?:all|channel|here|everyone)\b)", f"@{_NO_BREAK}", said)
    said = said.replace("](", f"]{_NO_BREAK}(")
    if len(said) > _LONGEST_TEXT:
        said = said[: _LONGEST_TEXT - 1] + "…"
    return "".join(_ESCAPES.get(char, char) for char in said)


def read_url(path: str) -> str:
    """Return the webhook's address.

    Raises:
        NotifyFailed: the file cannot be read, or holds no address that is safe to use.
    """
    url = read_secret(path)
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or not re.fullmatch(r"https?://[!-~]+", url, re.ASCII) or "@" in parts.netloc:
        msg = f"{path} holds no address of a webhook: https://… on one line"
        raise NotifyFailed(msg)
    if parts.scheme != "https" and not _is_here(host):
        msg = f"{path} holds an address without TLS, which would give it away: https://… is needed"
        raise NotifyFailed(msg)
    return url


def _is_here(host: str) -> bool:
    """Whether what is said to *host* stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _answered(error: urllib.error.HTTPError) -> NotifyFailed:
    code = error.code
    try:
        words = error.read(40).decode("ascii")
    except (OSError, http.client.HTTPException, ValueError):
        words = ""
    why = f" ({words})" if re.fullmatch(r"[a-z_]{3,40}", words) else ""  # as Slack says it
    if 300 <= code < 400:  # noqa: PLR2004 - the redirects
        return NotifyFailed(f"the webhook answered {code}: it sends us elsewhere", is_lasting=True)
    is_lasting = code < _SERVER_TROUBLE and code not in _FOR_NOW
    return NotifyFailed(f"the webhook answered {code}{why}", is_lasting=is_lasting)
