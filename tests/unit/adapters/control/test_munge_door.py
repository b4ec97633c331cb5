"""The controller over the network: what goes through, and what is refused, by a real munged."""

from __future__ import annotations

import json
import os
import pwd
import select
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from slurm_gpu_policy.adapters.control.doors import MungeDoor
from slurm_gpu_policy.adapters.control.munge import Munge
from slurm_gpu_policy.adapters.control.protocol import LONGEST_REQUEST
from slurm_gpu_policy.adapters.control.remote_client import RemoteClient
from slurm_gpu_policy.adapters.control.sealing import (
    LONGEST_SEALED_REQUEST,
    PROTOCOL,
    Realm,
    seal_answer,
    seal_request,
    unseal_answer,
)
from slurm_gpu_policy.adapters.control.server import ControlServer
from slurm_gpu_policy.adapters.identity import caller_of
from slurm_gpu_policy.adapters.slurm.run import run
from slurm_gpu_policy.errors import ControllerUnavailable, NotAllowed, RequestError, SlurmTimeout
from tests.munged import PrivateMunged

ME = os.geteuid()
needs_root = pytest.mark.skipif(ME != 0, reason="needs root, to be another user")
REQUEST = b'{"request": "x"}\n'


@pytest.fixture(scope="module")
def munged():
    with PrivateMunged() as up:
        yield up


@pytest.fixture
def realm(munged):
    return Realm("c1", frozenset({0, ME}), munged.munge)


@pytest.fixture
def listening(handler, defects):
    """Makes servers; each is a door with its port."""
    with ExitStack() as stack:

        def listen(realm, patience=20.0):
            door = MungeDoor("127.0.0.1:0", lambda: realm)
            server = ControlServer(
                door, handler, caller_of, defects.append, patience_seconds=patience
            )
            server.start()
            stack.callback(server.stop)
            stack.callback(handler.gate.set)
            return door

        yield listen


@pytest.fixture
def door(listening, realm):
    return listening(realm)


@pytest.fixture
def client(door, realm):
    return RemoteClient(f"127.0.0.1:{door.port}", lambda: realm, answer_seconds=20)


class Wire:
    """A connection of somebody without manners."""

    def __init__(self, door):
        self.line = socket.create_connection(("127.0.0.1", door.port), timeout=20)
        self.file = self.line.makefile("rb")

    def __enter__(self):
        self.greeting = json.loads(self.file.readline())
        return self

    def __exit__(self, *_):
        self.file.close()
        self.line.close()

    def sealed(self, realm, request=REQUEST, **head):
        """Return a request as our own client seals it, or with another head."""
        if not head:
            challenge = self.greeting["challenge"]
            return seal_request(realm, request, challenge, "n", self.greeting["user_id"])
        whole = {
            "protocol": PROTOCOL,
            "is": "request",
            "cluster": realm.cluster,
            "challenge": self.greeting["challenge"],
            "nonce": "n",
        } | head
        text = json.dumps({key: value for key, value in whole.items() if value is not None})
        return realm.munge.encode(text.encode() + b"\n" + request, ME)

    def says(self, data):
        """Send a line and return the answer, which is not sealed."""
        with suppress(OSError):  # the server has heard enough
            self.line.sendall(data + b"\n")
        return json.loads(self.file.readline())


def refusal(answer):
    assert answer["ok"] is False
    return f"{answer['error']}: {answer['message']}"


# --- what goes through ---------------------------------------------------------------------------


def test_a_request_arrives_with_who_asks_and_its_answer_comes_back(client, handler):
    user = pwd.getpwuid(ME).pw_name
    request = {"request": "approve", "user": "somebody", "reason": "naïve ☃ \n\x1b[31m"}
    answer = client.ask("approve", user="somebody", reason="naïve ☃ \n\x1b[31m")
    assert answer == {"user": user, "request": request}
    ((caller, arrived),) = handler.asked
    assert caller == caller_of(ME)
    assert arrived == request


def test_a_large_answer_comes_whole(client, handler):
    handler.result = {"entries": ["x" * 1000] * 5000}
    assert client.ask("audit") == handler.result


def test_the_longest_request_comes_whole(client, handler):
    reason = "x" * (LONGEST_REQUEST - 40)
    client.ask("approve", reason=reason)
    assert handler.asked[0][1]["reason"] == reason
    with pytest.raises(RequestError, match="65536 are allowed"):
        client.ask("approve", reason="x" * LONGEST_REQUEST)


@pytest.mark.parametrize("error", [NotAllowed("operators may"), SlurmTimeout("no answer")])
def test_an_error_of_ours_is_raised_again_at_the_client(client, handler, defects, error):
    handler.error = error
    with pytest.raises(type(error), match=str(error)):
        client.ask("approve")
    assert not defects


def test_a_defect_is_for_the_log_and_hidden_from_the_client(client, handler, defects):
    handler.error = KeyError("a secret of ours")
    with pytest.raises(Exception, match="gpu-policyd failed at this") as caught:
        client.ask("approve")
    assert "secret" not in str(caught.value)
    assert defects == [handler.error]


def test_many_clients_at_once_are_all_answered(client):
    answers = []

    def ask(number):
        answers.extend(client.ask("x", number=number, turn=turn)["request"] for turn in range(5))

    threads = [threading.Thread(target=ask, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(answer["number"], answer["turn"]) for answer in answers}) == 50


def test_nothing_of_a_request_or_its_answer_can_be_read_on_the_way(door, realm, handler):
    handler.result = {"secret": "of the answer"}
    with Wire(door) as wire:
        sealed = wire.sealed(realm, b'{"request": "x", "secret": "of the request"}\n')
        wire.line.sendall(sealed + b"\n")
        answer = wire.file.read()
    assert handler.asked
    assert sealed.startswith(b"MUNGE:")
    assert answer.startswith(b"MUNGE:")
    assert b"secret" not in sealed + answer
    assert json.loads(unseal_answer(realm, answer, "n", ME))["result"] == handler.result


@pytest.mark.root
@needs_root
def test_who_asks_is_whose_credential_it_is_and_the_answer_is_for_them_alone(
    door, realm, munged, handler
):
    with Wire(door) as wire:
        head = {"protocol": PROTOCOL, "is": "request", "cluster": "c1", "nonce": "n"}
        head["challenge"] = wire.greeting["challenge"]
        payload = json.dumps(head).encode() + b'\n{"request": "who", "user": "root"}\n'
        wire.line.sendall(munged.made(payload, user="nobody") + b"\n")
        answer = wire.file.read().strip()
    assert handler.asked[0][0].user == "nobody"
    with pytest.raises(NotAllowed, match="for another user to read"):
        realm.munge.decode(answer)


# --- credentials that are refused ----------------------------------------------------------------


def test_a_replayed_credential_is_refused(door, realm, handler):
    with Wire(door) as wire:
        sealed = wire.sealed(realm)
        wire.line.sendall(sealed + b"\n")
        assert wire.file.read().startswith(b"MUNGE:")
    with Wire(door) as wire:
        assert "NotAllowed: the credential is refused: it was replayed" in refusal(
            wire.says(sealed)
        )
    assert len(handler.asked) == 1


def test_a_replayed_credential_is_refused_also_by_a_munged_that_forgot_it(
    door, realm, munged, handler
):
    with Wire(door) as wire:
        sealed = wire.sealed(realm)
        wire.line.sendall(sealed + b"\n")
        wire.file.read()
    munged.stop()
    munged.start()
    with Wire(door) as wire:
        assert "it was made for another connection" in refusal(wire.says(sealed))
    assert len(handler.asked) == 1


def test_a_credential_that_never_arrived_serves_nobody_else(door, realm, handler):
    with Wire(door) as caught, Wire(door) as thief:
        assert "another connection" in refusal(thief.says(caught.sealed(realm)))
    assert not handler.asked


def test_an_expired_credential_is_refused(door, realm, munged, handler):
    with Wire(door) as wire:
        head = {"protocol": PROTOCOL, "is": "request", "cluster": "c1", "nonce": "n"}
        head["challenge"] = wire.greeting["challenge"]
        sealed = munged.made(json.dumps(head).encode() + b"\n" + REQUEST, "--ttl=1")
        time.sleep(2.2)
        assert "it has expired" in refusal(wire.says(sealed))
    assert not handler.asked


@pytest.mark.parametrize("place", [12, 40, 90, 200, -8])
def test_a_forged_credential_is_refused(door, realm, handler, place):
    with Wire(door) as wire:
        sealed = bytearray(wire.sealed(realm))
        sealed[place] = ord("B" if sealed[place] == ord("A") else "A")
        assert "it is forged or broken" in refusal(wire.says(bytes(sealed)))
    assert not handler.asked


def test_a_credential_of_another_key_is_refused(door, realm, handler):
    with PrivateMunged() as other, Wire(door) as wire:
        elsewhere = Realm("c1", frozenset({ME}), other.munge)
        assert "it is forged or broken" in refusal(wire.says(wire.sealed(elsewhere)))
    assert not handler.asked


def test_a_credential_for_another_reader_is_refused(door, realm, handler):
    with Wire(door) as wire:
        sealed = seal_request(realm, REQUEST, wire.greeting["challenge"], "n", ME + 1)
        assert "it was made for another user to read" in refusal(wire.says(sealed))
    assert not handler.asked


@pytest.mark.parametrize("length", [1, 6, 30, 100, -1])
def test_a_truncated_credential_is_refused(door, realm, handler, length):
    with Wire(door) as wire:
        assert "refused: it is" in refusal(wire.says(wire.sealed(realm)[:length]))
    assert not handler.asked


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"protocol": "slurm-gpu-policy/2"}, "another service, or for another release"),
        ({"protocol": None}, "another service"),
        ({"protocol": 1}, "another service"),
        ({"is": "answer"}, "another purpose"),
        ({"cluster": "c2"}, "the gpu-policyd of another cluster"),
        ({"cluster": None}, "the gpu-policyd of another cluster"),
        ({"challenge": "0" * 32}, "another connection"),
        ({"challenge": None}, "another connection"),
        ({"nonce": None}, "it has no nonce"),
        ({"nonce": 7}, "it has no nonce"),
    ],
)
def test_a_credential_that_was_made_for_something_else_is_refused(
    door, realm, handler, head, words
):
    with Wire(door) as wire:
        assert words in refusal(wire.says(wire.sealed(realm, **head)))
    assert not handler.asked


@pytest.mark.parametrize("payload", [b"", b"x", b"[]\n", b"{", REQUEST, b"[" * 90_000])
def test_a_credential_with_something_else_in_it_is_refused(door, munged, handler, payload):
    with Wire(door) as wire:
        assert "made for another service" in refusal(wire.says(munged.made(payload, "--zip=zlib")))
    assert not handler.asked


@pytest.mark.parametrize("size", [LONGEST_SEALED_REQUEST + 10, 10_000_000])
def test_a_line_without_end_is_not_read_to_its_end(door, handler, size):
    with Wire(door) as wire:
        assert "65536 bytes" in refusal(wire.says(b"M" * size))
    assert not handler.asked


def test_a_request_that_unfolds_beyond_the_limit_is_refused(door, realm, munged, handler):
    with Wire(door) as wire:
        head = {"protocol": PROTOCOL, "is": "request", "cluster": "c1", "nonce": "n"}
        head["challenge"] = wire.greeting["challenge"]
        request = b'{"request": "' + b"x" * 600_000 + b'"}'
        sealed = munged.made(json.dumps(head).encode() + b"\n" + request, "--zip=zlib")
        assert len(sealed) < LONGEST_SEALED_REQUEST
        assert "RequestError: the request has more than 65536 bytes" in refusal(wire.says(sealed))
    assert not handler.asked


@pytest.mark.parametrize(
    "data", [b"", b"\0\0", b"\xff\xfe", REQUEST.strip(), b"GET / HTTP/1.1", b"MUNGE:", b"MUNGE::"]
)
def test_what_is_no_credential_is_answered_and_never_handled(door, handler, defects, data):
    with Wire(door) as wire:
        assert "none of MUNGE's" in refusal(wire.says(data))
    assert not handler.asked
    assert not defects


# --- crowds --------------------------------------------------------------------------------------


def test_one_machine_cannot_have_all_connections(door):
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(Wire(door))
        with Wire(door) as late:
            assert "too many requests at once (those from 127.0.0.1)" in refusal(late.greeting)


def test_a_client_that_finds_no_room_is_told_so(door, client):
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(Wire(door))
        with pytest.raises(ControllerUnavailable, match="too many requests at once"):
            client.ask("approve")


def test_one_user_cannot_have_all_of_a_machines_connections(door, realm, handler):
    handler.gate.clear()
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(door)) for _ in range(40)]
        for wire in wires:
            wire.line.sendall(wire.sealed(realm) + b"\n")
        deadline = time.monotonic() + 20
        answered = []
        while len(answered) < 8 and time.monotonic() < deadline:
            answered, _, _ = select.select([wire.line for wire in wires], [], [], 0.1)
        refused = [json.loads(wire.file.readline()) for wire in wires if wire.line in answered]
        assert len(refused) == 8
        assert all("too many requests at once (yours)" in refusal(one) for one in refused)
        handler.gate.set()


def test_one_who_says_nothing_is_sent_away(listening, realm, handler):
    with Wire(listening(realm, patience=0.3)) as wire:
        assert "did not come in 0.3 s" in refusal(json.loads(wire.file.readline()))


# --- munged away ---------------------------------------------------------------------------------


def test_without_munged_at_the_controller_the_client_is_told_so(
    listening, realm, handler, tmp_path
):
    deaf = Realm("c1", realm.server_ids, Munge(run, str(tmp_path / "none")))
    door = listening(deaf)
    client = RemoteClient(f"127.0.0.1:{door.port}", lambda: realm)
    with pytest.raises(
        ControllerUnavailable, match="gpu-policyd cannot tell who asks: munged cannot be"
    ):
        client.ask("approve")
    assert not handler.asked


def test_without_munged_here_nothing_is_asked(door, realm, handler, tmp_path):
    deaf = Realm("c1", realm.server_ids, Munge(run, str(tmp_path / "none")))
    client = RemoteClient(f"127.0.0.1:{door.port}", lambda: deaf)
    with pytest.raises(ControllerUnavailable, match="on this machine munged cannot be asked"):
        client.ask("approve")
    assert not handler.asked


def test_an_answer_that_cannot_be_sealed_leaves_it_open_what_was_done(listening, realm, handler):
    class Leaving:
        """A munged that goes away between the request and its answer."""

        decode = realm.munge.decode

        def encode(self, payload, reader):
            msg = "munged cannot be asked: it went"
            raise ControllerUnavailable(msg)

    door = listening(Realm("c1", realm.server_ids, Leaving()))
    client = RemoteClient(f"127.0.0.1:{door.port}", lambda: realm)
    with pytest.raises(ControllerUnavailable, match=r"is not known; look \(gpu-policy audit\)"):
        client.ask("approve")
    assert handler.asked


def test_an_answer_that_cannot_be_opened_leaves_it_open_what_was_done(door, realm, handler):
    class Leaving:
        """A munged that goes away after the request."""

        encode = realm.munge.encode

        def decode(self, credential):
            msg = "munged cannot be asked: it went"
            raise ControllerUnavailable(msg)

    here = Realm("c1", realm.server_ids, Leaving())
    with pytest.raises(ControllerUnavailable, match=r"it went.*took effect is not known"):
        RemoteClient(f"127.0.0.1:{door.port}", lambda: here).ask("approve")
    assert handler.asked


# --- whom a client believes ----------------------------------------------------------------------


@pytest.fixture
def impostor(realm):
    """Listens, greets, hears a request, and says what a test wants."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = []

        def play(answer, **greeting):
            def serve():
                line, _ = listening.accept()
                with line:
                    whole = {"protocol": PROTOCOL, "user_id": ME, "challenge": "c"} | greeting
                    line.sendall(json.dumps(whole).encode() + b"\n")
                    heard = line.makefile("rb").readline()
                    if heard:
                        line.sendall(answer(heard.strip()))

            threads.append(threading.Thread(target=serve))
            threads[-1].start()
            port = listening.getsockname()[1]
            return RemoteClient(f"127.0.0.1:{port}", lambda: realm, answer_seconds=10)

        yield play
        for thread in threads:
            thread.join()


def nonce_of(realm, heard):
    return json.loads(realm.munge.decode(heard)[1].partition(b"\n")[0])["nonce"]


GOOD = b'{"ok": true, "result": {"done": 1}}\n'


def test_an_impostor_who_knows_it_all_is_believed(impostor, realm):
    # What the tests below leave out is what makes the difference.
    client = impostor(lambda heard: seal_answer(realm, GOOD, nonce_of(realm, heard), ME))
    assert client.ask("x") == {"done": 1}


def test_whoever_is_neither_root_nor_slurms_user_is_told_nothing(impostor):
    heard_of = []
    client = impostor(heard_of.append, user_id=3_999_999)
    with pytest.raises(ControllerUnavailable, match=r"3999999, neither root nor SlurmUser of.*c1"):
        client.ask("x")
    assert heard_of == []


@pytest.mark.parametrize("user_id", [None, "0", True, 0.0, [0]])
def test_a_greeting_that_is_none_is_refused(impostor, user_id):
    client = impostor(lambda _: GOOD, user_id=user_id)
    with pytest.raises(ControllerUnavailable):
        client.ask("x")


def test_an_answer_without_a_credential_is_not_believed(impostor):
    with pytest.raises(ControllerUnavailable, match="nobody vouches"):
        impostor(lambda _: GOOD).ask("x")
    refusing = b'{"ok": false, "error": "NotAllowed", "message": "you may not"}\n'
    with pytest.raises(ControllerUnavailable, match="nobody vouches for these words: you may not"):
        impostor(lambda _: refusing).ask("x")


def test_an_answer_to_another_request_is_not_believed(impostor, realm):
    client = impostor(lambda _: seal_answer(realm, GOOD, "0" * 32, ME))
    with pytest.raises(ControllerUnavailable, match=r"made for another request.*is not known"):
        client.ask("x")


def test_a_request_that_is_sent_back_is_no_answer(impostor):
    with pytest.raises(ControllerUnavailable, match="for another purpose"):
        impostor(lambda heard: heard + b"\n").ask("x")


def test_an_answer_of_another_cluster_is_not_believed(impostor, realm):
    other = Realm("c2", realm.server_ids, realm.munge)
    client = impostor(lambda heard: seal_answer(other, GOOD, nonce_of(realm, heard), ME))
    with pytest.raises(ControllerUnavailable, match="of another cluster"):
        client.ask("x")


@pytest.mark.root
@needs_root
def test_an_answer_of_another_user_is_not_believed(impostor, realm, munged):
    def forge(heard):
        head = {"protocol": PROTOCOL, "is": "answer", "cluster": "c1", "piece": 0, "pieces": 1}
        head["nonce"] = nonce_of(realm, heard)
        return munged.made(json.dumps(head).encode() + b"\n" + GOOD, user="nobody") + b"\n"

    with pytest.raises(ControllerUnavailable, match="not gpu-policyd's"):
        impostor(forge).ask("x")


@pytest.mark.parametrize("spoil", [lambda lines: lines[:-1], lambda lines: lines[::-1]])
def test_an_answer_with_pieces_missing_or_exchanged_is_not_believed(impostor, realm, spoil):
    long = json.dumps({"ok": True, "result": {"x": "y" * 1_200_000}}).encode() + b"\n"

    def answer(heard):
        lines = seal_answer(realm, long, nonce_of(realm, heard), ME).splitlines(keepends=True)
        assert len(lines) == 3
        return b"".join(spoil(lines))

    with pytest.raises(ControllerUnavailable, match="another place in the answer"):
        impostor(answer).ask("x")


def test_another_service_is_no_controller(realm):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = RemoteClient(f"127.0.0.1:{listening.getsockname()[1]}", lambda: realm)

        def serve():
            line, _ = listening.accept()
            with line:
                line.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ControllerUnavailable, match="what nobody can read"):
            client.ask("x")
        thread.join()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "at 127.0.0.1:1: nobody listens there; is it running"),
        ("no-such-host.invalid:1", "no-such-host.invalid is not known"),
    ],
)
def test_nobody_there_is_said_with_the_address(realm, address, words):
    with pytest.raises(ControllerUnavailable, match=words):
        RemoteClient(address, lambda: realm).ask("x")


# --- start and stop ------------------------------------------------------------------------------


def test_an_address_somebody_else_listens_at_is_said_to_be_taken(door, listening, realm):
    with pytest.raises(ControllerUnavailable, match=r"listen at 127.0.0.1:\d+: Address already"):
        ControlServer(MungeDoor(f"127.0.0.1:{door.port}", lambda: realm), None, None, None).start()


def test_an_address_that_is_not_this_machines_is_said_to_be_none(realm):
    with pytest.raises(ControllerUnavailable, match=r"listen at 192\.0\.2\.1:9812: "):
        MungeDoor("192.0.2.1:9812", lambda: realm).open()


def test_all_addresses_of_both_kinds_are_listened_at(realm):
    door = MungeDoor("[::]:0", lambda: realm)
    with door.open(), socket.create_connection(("127.0.0.1", door.port), timeout=20):
        pass


def test_after_a_stop_it_can_start_at_once_at_the_same_address(handler, realm):
    port = 0
    for _ in range(2):
        door = MungeDoor(f"127.0.0.1:{port}", lambda: realm)
        server = ControlServer(door, handler, caller_of, lambda _: None)
        server.start()
        port = door.port
        assert RemoteClient(f"127.0.0.1:{port}", lambda: realm).ask("x")
        server.stop()
