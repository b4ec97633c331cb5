"""Credentials of MUNGE, by its own two programs: who wrote something, and who may read it.

munged seals a payload so that any munged with the same key can say which user of its machine had
it sealed, once (a second time it calls it replayed), and for five minutes; nobody without the key
can read or change it. The programs rather than libmunge in this process: they take a millisecond,
they can be given up when munged hangs, and no foreign code runs in the controller.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from slurm_gpu_policy.errors import (
    ControllerUnavailable,
    NotAllowed,
    SlurmAbsent,
    SlurmError,
    SlurmTimeout,
)

if TYPE_CHECKING:
    from typing import NoReturn

_SECONDS: Final = 10.0
"""munged answers in a millisecond; its programs themselves try again for two seconds."""
_FORM: Final = re.compile(rb"MUNGE:[A-Za-z0-9+/=]+:")
_EXPIRED, _REWOUND, _REPLAYED, _FOREIGN = 15, 16, 17, 18
"""Of munge.h, ``munge_err_t``; from 8 to 14 the credential is broken in one way or another."""
_BROKEN: Final = range(8, 15)
_WHY: Final = {
    _EXPIRED: "it has expired: it is too old, or the clocks of the two machines differ (NTP)",
    _REWOUND: "it was made in the future: the clocks of the two machines differ (NTP)",
    _REPLAYED: "it was replayed: it has been used before",
    _FOREIGN: "it was made for another user to read",
}


class Answer(Protocol):
    """What a program said; bytes that are no UTF-8 come as surrogate escapes."""

    code: int
    stdout: str
    stderr: str


class Run(Protocol):
    """Runs a program to its end; raises :class:`SlurmError` where that cannot be."""

    def __call__(self, argv: list[str], *, stdin: bytes, timeout: float) -> Answer:
        """Return what it said."""


class Munge:
    """Asks the munged on *socket*, or where none is given on MUNGE's own."""

    def __init__(self, run: Run, socket: str = "") -> None:
        self._run = run
        self._where = [f"--socket={socket}"] if socket else []

    def encode(self, payload: bytes, reader: int) -> bytes:
        """Return a credential that only the user id *reader* can open, where MUNGE's key is.

        Raises:
            ControllerUnavailable: munged cannot be asked.
        """
        made = self._ask(["munge", f"--restrict-uid={reader}"], payload)
        credential = made.stdout.strip().encode("ascii", "replace")
        if made.code != 0 or not _FORM.fullmatch(credential):
            self._fail(made)
        return credential

    def decode(self, credential: bytes) -> tuple[int, bytes]:
        """Return the user id of whoever made a credential, and its payload.

        Raises:
            NotAllowed: it is forged, broken, expired, replayed or for another reader.
            ControllerUnavailable: munged cannot be asked.
        """
        if not _FORM.fullmatch(credential):
            msg = "the credential is refused: it is broken, or none of MUNGE's"
            raise NotAllowed(msg)
        said = self._ask(["unmunge", "--numeric", "--keys=STATUS,UID"], credential)
        head, _, payload = said.stdout.partition("\n\n")
        found = dict(re.findall(r"^([A-Z]+):\s+(\d+)$", head, re.MULTILINE | re.ASCII))
        # An exit code can get lost; that the credential is good must be said in words.
        code = int(found.get("STATUS", said.code))
        if code in _WHY or code in _BROKEN:
            why = _WHY.get(code, f"it is forged or broken ({_words(said)})")
            msg = f"the credential is refused: {why}"
            raise NotAllowed(msg)
        if code != 0 or said.code != 0 or found.keys() != {"STATUS", "UID"}:
            self._fail(said)
        return int(found["UID"]), payload.encode("utf-8", "surrogateescape")

    def _ask(self, argv: list[str], stdin: bytes) -> Answer:
        try:
            return self._run([*argv, *self._where], stdin=stdin, timeout=_SECONDS)
        except SlurmAbsent as error:
            msg = f"munged cannot be asked: its program {argv[0]} is not on the PATH: install MUNGE"
            raise ControllerUnavailable(msg) from error
        except SlurmTimeout as error:
            msg = f"munged cannot be asked: it does not answer (in {_SECONDS:.0f} s)"
            raise ControllerUnavailable(msg) from error
        except SlurmError as error:
            msg = f"munged cannot be asked: {error}"
            raise ControllerUnavailable(msg) from error

    def _fail(self, said: Answer) -> NoReturn:
        msg = f"munged cannot be asked: {_words(said)}"
        raise ControllerUnavailable(msg)


def _words(said: Answer) -> str:
    words = " ".join(said.stderr.split())
    words = re.sub(r"^(?:un)?munge: (?:Error: )?", "", words)
    return words or f"its program ended with code {said.code}"
