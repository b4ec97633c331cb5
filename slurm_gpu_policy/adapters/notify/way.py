"""What all ways to tell people have in common."""

from __future__ import annotations

import os
import ssl
import stat
from typing import TYPE_CHECKING, Final, Protocol

from slurm_gpu_policy.errors import NotifyFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.model.notice import Notice

_LONGEST_SECRET_BYTES: Final = 16 * 1024


class Way(Protocol):
    """One way to tell people. Used by one thread at a time."""

    name: str

    def addresses(self, notice: Notice) -> tuple[str, ...]:
        """Return to whom it goes this way, each once; a way without addresses says ``("",)``."""
        ...

    def deliver(self, letters: Sequence[tuple[Notice, str]]) -> Iterator[NotifyFailed | None]:
        """Send each notice to its address, and yield why that failed, or ``None``, one by one.

        Never raises NotifyFailed. Waits no longer for an answer than the way's timeout.
        """
        ...

    def problems(self) -> tuple[str, ...]:
        """Return what is wrong with its files, in words; nothing is sent."""
        ...


def send_now(way: Way, notice: Notice) -> Iterator[tuple[str, NotifyFailed | None]]:
    """Send *notice* one way at once; yield each address, and why it failed, or ``None``."""
    addresses = way.addresses(notice)
    yield from zip(addresses, way.deliver([(notice, each) for each in addresses]), strict=True)


def read_secret(path: str) -> str:
    """Return the one line of a file that holds a secret.

    Raises:
        NotifyFailed: it cannot be read, or has not exactly one line; the text has no part of it.
    """
    try:
        # Neither a pipe nor a device may keep us waiting.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                msg = f"{path} is no ordinary file"
                raise NotifyFailed(msg)
            lines = file.read(_LONGEST_SECRET_BYTES).decode("utf-8").strip().splitlines()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise NotifyFailed(msg) from error
    except UnicodeDecodeError:
        msg = f"{path} is not UTF-8 text"
        raise NotifyFailed(msg) from None
    if len(lines) != 1:
        msg = f"{path} is empty" if not lines else f"{path} holds more than one line"
        raise NotifyFailed(msg)
    return lines[0]


def secret_problems(path: str) -> tuple[str, ...]:
    """Return what is wrong with a file that holds a secret."""
    try:
        read_secret(path)
        mode = os.stat(path).st_mode  # noqa: PTH116
    except NotifyFailed as error:
        return (str(error),)
    except OSError as error:
        return (f"{path} cannot be read: {error.strerror}",)
    if mode & stat.S_IRWXO:
        return (f"{path} holds a secret and can be read by everyone: chmod 600 {path}",)
    return ()


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the rules for TLS: the certificate must be right, and for that name.

    Raises:
        NotifyFailed: *ca_file* cannot be read or holds no certificates.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = getattr(error, "strerror", None) or "holds no certificates"
        msg = f"the certificates in {ca_file} cannot be used: {why}"
        raise NotifyFailed(msg) from error


def one_line(text: str, most: int = 200) -> str:
    """Return *text* on one line of at most *most* characters, without unprintable ones.

    Names are other people's text: an end of a line in one must not begin a header.
    """
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def paragraphs(text: str, most: int = 20_000) -> str:
    """Return *text* without unprintable characters, but with its line ends; at most *most* long."""
    lines = text.replace("\r\n", "\n").split("\n")
    plain = "\n".join(
        "".join(char if char.isprintable() else " " for char in line).rstrip() for line in lines
    )
    return plain if len(plain) <= most else plain[: most - 1] + "…"
