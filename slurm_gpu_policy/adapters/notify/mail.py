"""Mail over SMTP: one message for each address, several over one connection."""

from __future__ import annotations

import hashlib
import re
import smtplib
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.adapters.notify.way import (
    one_line,
    read_secret,
    secret_problems,
    tls_context,
)
from slurm_gpu_policy.errors import NotifyFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.adapters.notify.wording import Wording
    from slurm_gpu_policy.config.notify import Mail as Settings
    from slurm_gpu_policy.model.notice import Notice

_PORTS: Final = {"none": 25, "starttls": 25, "tls": 465}
_SUBMISSION_PORT: Final = 587
_FORM: Final = SMTP.clone(cte_type="7bit")  # every server takes that
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}(?:@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)?",
    re.ASCII,
)
"""What may stand in an envelope: a user name with anything else in it is not sent to."""
_FOR_NOW: Final = range(400, 500)


class Mail:
    """Implements :class:`slurm_gpu_policy.adapters.notify.way.Way`.

    The certificate of the server is checked, and a password is said over TLS only.
    """

    name = "mail"

    def __init__(self, settings: Settings, wording: Wording) -> None:
        self._settings = settings
        self._wording = wording

    def addresses(self, notice: Notice) -> tuple[str, ...]:
        """Return the users' addresses, and the operators' where it concerns them."""
        settings = self._settings
        found = [self._address(user) for user in notice.to]
        if notice.severity != "info" or not found:
            found += settings.to_operators
        return tuple(dict.fromkeys(found))

    def deliver(self, letters: Sequence[tuple[Notice, str]]) -> Iterator[NotifyFailed | None]:
        """Send the letters over one connection; a server that hangs up fails the rest for now."""
        try:
            server = self._connect()
        except NotifyFailed as error:
            yield from [error] * len(letters)
            return
        try:
            for notice, address in letters:
                try:
                    self._send(server, notice, address)
                except NotifyFailed as error:
                    yield error
                else:
                    yield None
        finally:
            with suppress(smtplib.SMTPException, OSError):
                server.quit()
            server.close()

    def problems(self) -> tuple[str, ...]:
        """Look at the templates, the password's file and the certificates."""
        settings = self._settings
        found = list(self._wording.problems())
        if settings.password_file is not None:
            found += secret_problems(settings.password_file)
        try:
            self._context()
        except NotifyFailed as error:
            found.append(str(error))
        return tuple(found)

    def _address(self, user: str) -> str:
        return self._settings.address.replace("{user}", user)

    def _context(self) -> ssl.SSLContext | None:
        if self._settings.tls == "none":
            return None
        return tls_context(self._settings.ca_file)

    def _connect(self) -> smtplib.SMTP:
        """Return a server that is ready to take messages. All that fails here may be mended."""
        settings = self._settings
        default = _SUBMISSION_PORT if settings.user and settings.tls == "starttls" else None
        port = settings.port or default or _PORTS[settings.tls]
        where = f"the mail server {settings.server}, port {port},"
        context = self._context()
        password = read_secret(settings.password_file) if settings.password_file else ""
        server: smtplib.SMTP | None = None
        try:
            if settings.tls == "tls":
                server = smtplib.SMTP_SSL(
                    settings.server, port, timeout=settings.timeout, context=context
                )
            else:
                server = smtplib.SMTP(settings.server, port, timeout=settings.timeout)
            server.ehlo_or_helo_if_needed()
            if settings.tls == "starttls":
                server.starttls(context=context)
                server.ehlo()
            if settings.user:
                server.login(settings.user, password)
        except (smtplib.SMTPException, OSError, ValueError) as error:
            if server is not None:
                server.close()
            msg = f"{where} {_words(error, settings.timeout)}"
            raise NotifyFailed(msg) from None  # the error may have the password in it
        return server

    def _send(self, server: smtplib.SMTP, notice: Notice, address: str) -> None:
        """Send one letter.

        Raises:
            NotifyFailed: it was not taken, lastingly where the server says so of this address.
        """
        if not _ADDRESS.fullmatch(address):
            msg = f"{one_line(address)!r} is no mail address"
            raise NotifyFailed(msg, is_lasting=True)
        message = self._message(notice, address)
        sender = self._settings.sender
        try:
            server.sendmail(sender, [address], message.as_bytes(policy=_FORM))
        except smtplib.SMTPRecipientsRefused as error:
            code, words = error.recipients[address]
            msg = f"the mail server refused {address}: {code} {_decoded(words)}"
            raise NotifyFailed(msg, is_lasting=code not in _FOR_NOW) from error
        except smtplib.SMTPDataError as error:
            msg = f"the mail server {_words(error, self._settings.timeout)}"
            raise NotifyFailed(msg, is_lasting=error.smtp_code not in _FOR_NOW) from error
        except (smtplib.SMTPException, OSError) as error:
            msg = f"the mail server {_words(error, self._settings.timeout)}"
            raise NotifyFailed(msg) from error

    def _message(self, notice: Notice, address: str) -> EmailMessage:
        settings = self._settings
        user = next((user for user in notice.to if self._address(user) == address), "")
        subject, text = self._wording.words(notice, user)
        message = EmailMessage(_FORM)
        message["From"] = settings.sender
        message["To"] = address
        message["Subject"] = subject
        message["Date"] = formatdate(notice.time)
        # The same for the same news: who gets it twice, since an answer was lost, can see that.
        digest = hashlib.sha256(f"{notice.key}\0{notice.time}\0{address}".encode()).hexdigest()[:32]
        domain = settings.sender.partition("@")[2] or "localhost"
        message["Message-ID"] = f"<{digest}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answering machine answers it
        message.set_content(text)
        return message


def _words(error: BaseException, timeout_seconds: int) -> str:
    """Return what went wrong between us and the server, to follow its name."""
    if isinstance(error, smtplib.SMTPServerDisconnected) and error.__context__ is not None:
        error = error.__context__  # smtplib says so of a timeout too
    match error:
        case TimeoutError():
            words = f"gives no answer in {timeout_seconds} s"
        case ssl.SSLCertVerificationError():
            words = f"has a certificate that is not trusted: {error.verify_message}"
        case smtplib.SMTPNotSupportedError():
            words = "does not offer what `tls` and `user` ask for (STARTTLS, AUTH)"
        case smtplib.SMTPAuthenticationError():
            words = f"refused the user or the password: {error.smtp_code}"
        case smtplib.SMTPResponseException():
            words = f"answered {error.smtp_code} {_decoded(error.smtp_error)}"
        case smtplib.SMTPServerDisconnected():
            words = "hung up"
        case UnicodeError():
            words = "cannot be given a user or a password that is not ASCII"
        case OSError(strerror=str(why)):
            words = f"cannot be reached: {why}"
        case _:
            words = f"cannot be used: {type(error).__name__}"
    return words


def _decoded(words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return one_line(text)
