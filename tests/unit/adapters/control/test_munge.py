"""What MUNGE's programs say, of a munged of our own."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from slurm_gpu_policy.adapters.control.munge import Munge
from slurm_gpu_policy.adapters.slurm.run import run
from slurm_gpu_policy.errors import ControllerUnavailable, NotAllowed, SlurmTimeout
from tests.munged import PrivateMunged

ME = os.geteuid()
needs_root = pytest.mark.skipif(ME != 0, reason="needs root, to be another user")


@pytest.fixture(scope="module")
def munged():
    with PrivateMunged() as up:
        yield up


@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"\n\nSTATUS: 0\nUID: 0\n\n", bytes(range(256)), b"x" * 700_000]
)
def test_what_was_sealed_comes_out_as_it_was_with_who_sealed_it(munged, payload):
    assert munged.munge.decode(munged.munge.encode(payload, ME)) == (ME, payload)


def test_a_credential_is_good_once(munged):
    credential = munged.munge.encode(b"x", ME)
    munged.munge.decode(credential)
    with pytest.raises(NotAllowed, match="it was replayed"):
        munged.munge.decode(credential)


def test_a_credential_expires(munged):
    credential = munged.made(b"x", "--ttl=1")
    time.sleep(2.2)
    with pytest.raises(NotAllowed, match=r"it has expired.*clocks"):
        munged.munge.decode(credential)


def test_a_credential_for_another_reader_is_refused(munged):
    with pytest.raises(NotAllowed, match="for another user to read"):
        munged.munge.decode(munged.munge.encode(b"x", ME + 1))


def test_a_credential_of_another_key_is_refused(munged):
    with PrivateMunged() as other, pytest.raises(NotAllowed, match="forged or broken"):
        munged.munge.decode(other.munge.encode(b"x", ME))


@pytest.mark.parametrize("place", [10, 30, 60, 100, 150, -10])
def test_a_changed_credential_is_refused(munged, place):
    credential = bytearray(munged.munge.encode(b"payload " * 20, ME))
    credential[place] = ord("B" if credential[place] == ord("A") else "A")
    with pytest.raises(NotAllowed, match="forged or broken"):
        munged.munge.decode(bytes(credential))


@pytest.mark.parametrize("length", [0, 5, 7, 8, 20, 60, -2])
def test_a_piece_of_a_credential_is_refused(munged, length):
    credential = munged.munge.encode(b"x", ME)[:length]
    for one in (credential, credential + b":"):
        with pytest.raises(NotAllowed, match=r"refused: it is (broken|forged)"):
            munged.munge.decode(one)


@pytest.mark.parametrize("text", [b"--help", b"MUNGE:\n:", b"MUNGE:A:MUNGE:A:", b"MUNGE:\xff:"])
def test_what_is_no_credential_never_reaches_munged(text):
    def never(*_, **__):
        pytest.fail("a program was started")

    with pytest.raises(NotAllowed, match="none of MUNGE's"):
        Munge(never).decode(text)


@pytest.mark.root
@needs_root
def test_another_user_is_known_and_has_to_be_the_reader(munged):
    credential = munged.made(b"x", user="nobody")
    assert munged.munge.decode(credential)[0] not in {0, ME}
    sealed = munged.munge.encode(b"secret", ME)
    done = subprocess.run(
        munged.argv("unmunge", user="nobody"), input=sealed, capture_output=True, check=False
    )
    assert (done.returncode, b"secret" in done.stdout) == (18, False)


def test_no_munged_is_said_to_be_none(tmp_path):
    munge = Munge(run, str(tmp_path / "none"))
    for ask in (lambda: munge.encode(b"x", ME), lambda: munge.decode(b"MUNGE:AwQDAA==:")):
        with pytest.raises(
            ControllerUnavailable, match=r"munged cannot be asked: Failed to access"
        ):
            ask()


def test_no_munge_is_said_to_be_none(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ControllerUnavailable, match="its program munge is not on the PATH"):
        Munge(run).encode(b"x", ME)


def test_a_munged_that_hangs_is_given_up():
    def late(argv, *, stdin, timeout):
        msg = f"{argv[0]} did not end"
        raise SlurmTimeout(msg)

    with pytest.raises(ControllerUnavailable, match=r"does not answer \(in 10 s\)"):
        Munge(late).decode(b"MUNGE:AAAA:")


class Said:
    def __init__(self, code, stdout, stderr=""):
        self.code, self.stdout, self.stderr = code, stdout, stderr


@pytest.mark.parametrize(
    "said",
    [
        Said(0, "STATUS:          17\nUID:             0\n\nx"),  # the code got lost
        Said(17, ""),
    ],
)
def test_a_lost_exit_code_makes_no_credential_good(said):
    with pytest.raises(NotAllowed, match="replayed"):
        Munge(lambda *_, **__: said).decode(b"MUNGE:AAAA:")


@pytest.mark.parametrize(
    "said",
    [
        Said(0, ""),
        Said(0, "UID:             0\n\nx"),
        Said(0, "STATUS:          0\n\nUID:             0\n\n"),
        Said(1, "STATUS:          0\nUID:             0\n\nx"),
        Said(0, "STATUS:          Success\nUID:             0\n\nx"),
    ],
)
def test_words_that_are_not_munges_make_no_credential_good(said):
    with pytest.raises(ControllerUnavailable):
        Munge(lambda *_, **__: said).decode(b"MUNGE:AAAA:")
