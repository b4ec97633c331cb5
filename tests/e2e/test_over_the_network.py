"""gpu-policyd over the network, asked by real users; and others who listen in, replay and forge."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import tempfile
import threading
from pathlib import Path

import pytest
import yaml

from tests.clusters import programs
from tests.e2e.daemons import Controller, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.root]

CONF = os.environ.get("SLURM_CONF", "/etc/slurm/slurm.conf")


class Site:
    """A controller that listens on the network, and what its users and their enemies need."""

    def __init__(self, folder, runs_as):
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        private = folder / "private"  # another machine's, as far as users can tell
        private.mkdir()
        private.chmod(0o700)
        shutil.chown(private, runs_as, runs_as)
        policy = {
            "operators": ["u3"],
            "controller": {
                "database": f"sqlite:///{private}/policy.db",
                "socket": str(private / "sock"),
                "listen": f"127.0.0.1:{self.port}",
                "metrics": "",
            },
        }
        file = folder / "policy.yaml"
        file.write_text(yaml.safe_dump(policy))
        python = [f"{programs()}/python", "-m", "slurm_gpu_policy.apps.controller"]
        become = ["setpriv", f"--reuid={runs_as}", f"--regid={runs_as}", "--init-groups"]
        self.controller = Controller(
            [*become, *python, "--config", str(file), "--tick", "600"],
            os.environ | {"SLURM_CONF": CONF, "XDG_CACHE_HOME": str(private / "cache")},
            folder / "log",
        )
        eventually(lambda: self.controller.events("leads"), seconds=60)

    def client(self, port=None, conf=CONF):
        """Return the environment of a user on a login node."""
        port = port or self.port
        file = self.folder / f"client-{port}.yaml"
        there = {"socket": "/run/not-here/sock", "reach": f"localhost:{port}"}
        file.write_text(yaml.safe_dump({"controller": there}))
        return {"GPU_POLICY_FILE": str(file), "SLURM_CONF": str(conf)}


@pytest.fixture(scope="module", params=["root", "slurm"])
def site(request, cluster):
    """One run as root and one as SlurmUser; it observes, so that it changes nothing by itself."""
    folder = Path(tempfile.mkdtemp(prefix="network-", dir="/var/lib"))
    folder.chmod(0o755)
    try:
        made = Site(folder, request.param)
        yield made
        made.controller.kill()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def users(people):
    """u1 to u4; only this test's own job is cancelled, for the cluster is everybody's."""
    return people


@pytest.fixture
def job(users):
    """A job of u1's that waits, held by its user."""
    options = ("-H", "-t", "5", "-o", "/dev/null", "--wrap=true")
    made = users["u1"].run("sbatch", "--parsable", *options, cwd="/tmp").stdout.strip()
    yield made
    users["u1"].run("scancel", made)


class Tap:
    """Passes on what goes between u1 and the controller, and keeps a copy of each way."""

    def __init__(self, port, *, passes_on=True):
        self._port = port
        self._passes_on = passes_on
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.greeting = self.request = self.answer = b""

    def __enter__(self):
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join()
        self._listening.close()

    def _serve(self):
        client, _ = self._listening.accept()
        controller = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        with client, controller, controller.makefile("rb") as said, client.makefile("rb") as asked:
            self.greeting = said.readline()
            client.sendall(self.greeting)
            self.request = asked.readline()
            if self._passes_on:
                controller.sendall(self.request)
                self.answer = said.read()
                client.sendall(self.answer)


SAY = """
import json, socket, subprocess, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30) as line:
    heard = line.makefile("rb")
    greeting = json.loads(heard.readline())
    line.sendall(eval(sys.argv[2]) + b"\\n")
    answer = heard.read()
if answer.startswith(b"MUNGE:"):
    opening = ["unmunge", "-m", "/dev/null"]
    answer = subprocess.run(opening, input=answer, capture_output=True).stdout
print(answer.decode())
"""
SEAL = """subprocess.run(
    ["munge"], input=json.dumps({head} | {{"challenge": greeting["challenge"]}}).encode()
    + b"\\n" + {body!r}, capture_output=True).stdout.strip()"""


def says(user, site, what):
    """Let *user* say the value of an expression; return the last line of the answer."""
    done = user.run("/usr/bin/python3", "-c", SAY, str(site.port), what)
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_users_on_another_machine_are_asked_and_known(site, users, job):
    said = users["u1"].run("gpu-policy", "status", "--json", env=site.client()).stdout
    assert json.loads(said)["leading"] is True
    for name in ("u1", "u2"):
        refused = users[name].run(
            "gpu-policy", "set-priority", job, "critical", env=site.client(), check=False
        )
        assert (refused.returncode, f"{name} may not set" in refused.stderr) == (1, True)
    assert "critical" in users["u3"].run(
        "gpu-policy", "set-priority", job, "critical", env=site.client()
    ).stdout  # fmt: skip
    audit = ("gpu-policy", "audit", "--job", job, "--json")
    for name, sees in (("u1", ["u3"]), ("u2", []), ("u3", ["u3"])):
        log = json.loads(users[name].run(*audit, env=site.client()).stdout)
        assert [entry["actor"] for entry in log] == sees


def test_doctor_says_how_the_controller_is_reached(site, users):
    out = users["u1"].run("gpu-policy", "doctor", "--json", env=site.client(), check=False).stdout
    (found,) = [one for one in json.loads(out) if one["subject"] == "gpu-policyd"]
    assert found["level"] == "ok"
    assert f"answers at localhost:{site.port}, and leads" in found["message"]


def test_what_is_taken_from_the_wire_is_of_no_use_to_anybody_else(site, users, job):
    with Tap(site.port) as tap:
        refused = users["u1"].run(
            "gpu-policy", "set-priority", job, "low", env=site.client(tap.port), check=False
        )
    assert "u1 may not set" in refused.stderr
    request, answer = tap.request.strip(), tap.answer.strip()
    assert request.startswith(b"MUNGE:")
    assert answer.startswith(b"MUNGE:")
    for credential in (request, answer):
        opened = users["u2"].run("unmunge", check=False, input=credential.decode())
        assert opened.returncode in {17, 18}  # replayed, or for another reader
        assert "set-priority" not in opened.stdout
    replayed = says(users["u2"], site, repr(request))
    assert (replayed["ok"], replayed["error"]) == (False, "NotAllowed")
    assert "it was replayed" in replayed["message"]


def test_a_request_that_is_caught_before_it_arrives_is_of_no_use_either(site, users, job):
    with Tap(site.port, passes_on=False) as tap:
        lost = users["u3"].run(
            "gpu-policy", "set-priority", job, "low", env=site.client(tap.port), check=False
        )
    assert (lost.returncode, "is not known" in lost.stderr) == (4, True)
    stolen = says(users["u2"], site, repr(tap.request.strip()))
    assert "it was made for another connection" in stolen["message"]
    log = users["u3"].run("gpu-policy", "audit", "--job", job, "--json", env=site.client()).stdout
    assert json.loads(log) == []


def test_a_forged_request_is_refused(site, users):
    with Tap(site.port, passes_on=False) as tap:
        users["u1"].run("gpu-policy", "status", env=site.client(tap.port), check=False)
    forged = bytearray(tap.request.strip())
    place = len(forged) // 2
    forged[place] = ord("B" if forged[place] == ord("A") else "A")
    assert "it is forged or broken" in says(users["u2"], site, repr(bytes(forged)))["message"]


def test_who_says_to_be_root_in_a_request_is_who_they_are(site, users, job):
    head = {
        "protocol": "slurm-gpu-policy/1",
        "is": "request",
        "cluster": "native",
        "nonce": "n",
        "user": "root",
        "user_id": 0,
    }
    wanted = {"request": "set_priority", "job": job, "class": "low", "user": "root", "user_id": 0}
    body = json.dumps(wanted).encode() + b"\n"
    answer = says(users["u2"], site, SEAL.format(head=head, body=body))
    assert (answer["error"], "u2 may not set" in answer["message"]) == ("NotAllowed", True)


IMPOSTOR = """
import json, socket, subprocess, sys
with socket.create_server(("127.0.0.1", 0)) as listening:
    print(listening.getsockname()[1], flush=True)
    line, _ = listening.accept()
    greeting = {"protocol": "slurm-gpu-policy/1", "user_id": int(sys.argv[1]), "challenge": "c"}
    line.sendall(json.dumps(greeting).encode() + b"\\n")
    heard = line.makefile("rb").readline()
    opened = subprocess.run(["unmunge"], input=heard, capture_output=True)
    print(len(heard), opened.returncode, flush=True)
    line.sendall(b'{"ok": true, "result": {"entries": []}}\\n')
"""


@pytest.mark.parametrize("claim", ["root", "u2"])
def test_a_user_who_listens_in_the_controllers_place_learns_nothing_and_is_not_believed(
    site, users, claim
):
    impostor = users["u2"].start(
        "/usr/bin/python3", "-c", IMPOSTOR, str(pwd.getpwnam(claim).pw_uid)
    )
    env = site.client(int(impostor.stdout.readline()))
    done = users["u1"].run("gpu-policy", "audit", env=env, check=False)
    assert done.returncode == 4
    size, code = map(int, impostor.stdout.readline().split())
    if claim == "root":
        assert size > 0
        assert code == 18  # for another reader
        assert "nobody vouches" in done.stderr
    else:
        assert size == 0
        assert "neither root nor SlurmUser" in done.stderr


def test_without_munged_it_is_exit_code_4(site, users, tmp_path):
    conf = site.folder / "slurm.conf"
    conf.write_text("ClusterName=native\nSlurmUser=slurm\nAuthInfo=socket=/run/not-here/munge\n")
    done = users["u1"].run("gpu-policy", "status", env=site.client(conf=conf), check=False)
    assert (done.returncode, "on this machine munged cannot be asked" in done.stderr) == (4, True)
    assert "/run/not-here/munge" in done.stderr


def test_a_request_for_another_cluster_is_refused(site, users):
    conf = site.folder / "slurm.conf"
    conf.write_text("ClusterName=elsewhere\nSlurmUser=slurm\n")
    done = users["u1"].run("gpu-policy", "status", env=site.client(conf=conf), check=False)
    assert (done.returncode, "the gpu-policyd of another cluster" in done.stderr) == (4, True)


def test_the_end_is_in_the_log_with_its_signal_and_nobody_answers_any_more(cluster, users):
    folder = Path(tempfile.mkdtemp(prefix="network-", dir="/var/lib"))
    folder.chmod(0o755)
    made = Site(folder, "root")
    try:
        assert made.controller.end() == 0
        assert [one["signal"] for one in made.controller.events("stops")] == ["SIGTERM"]
        done = users["u1"].run("gpu-policy", "status", env=made.client(), check=False)
        assert (done.returncode, "nobody listens there" in done.stderr) == (4, True)
    finally:
        made.controller.kill()
        shutil.rmtree(folder)
