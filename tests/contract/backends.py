"""The worlds the contract suite runs in: each hands out a SlurmPort and moves time."""

from __future__ import annotations

import itertools
import os
import pathlib
import pickle
import pwd
import shutil
import subprocess
import sys
import time

from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.adapters.slurm.commands import CommandSlurm
from slurm_gpu_policy.errors import JobNotFound
from slurm_gpu_policy.model.submission import Submission
from tests.fakes.clock import FakeClock
from tests.fakes.slurm import FakeSlurm

SLEEPER = "#!/bin/sh\nsleep 300\n"
_tokens = itertools.count(1)


def cluster_answers():
    """Return whether a Slurm controller answers here."""
    if shutil.which("scontrol") is None:
        return False
    ping = subprocess.run(["scontrol", "ping"], capture_output=True, check=False, timeout=30)
    return b"is UP" in ping.stdout


class Backend:
    """A cluster under test. Jobs go in for user u1, and all are cancelled at the end."""

    name = ""
    is_real = True

    def __init__(self, slurm):
        self.slurm = slurm
        self.ids = []

    def submission(self, *options, script=SLEEPER, user="u1", args=(), **named):
        """Return a submission of *options* with a name, a folder and a comment of its own."""
        token = f"{os.getpid():x}n{next(_tokens)}t{time.monotonic_ns():x}"
        given = dict(options) | {key.replace("_", "-"): value for key, value in named.items()}
        standard = {
            "job-name": "contract",
            "comment": f"gpu-submit(token={token})",
            "chdir": "/tmp",
            "output": "/dev/null",
            "time": "10",
        }
        return Submission(
            script=script,
            options=tuple((standard | given).items()),
            token=token,
            script_args=tuple(args),
            submit_as=user,
        )

    def submit(self, *options, **more):
        """Queue a job and return its id."""
        job_id = self.slurm.submit(self.submission(*options, **more))
        self.ids.append(job_id)
        return job_id

    def wait(self, job_id, is_so, seconds=40):
        """Return the job's record once ``is_so(record)``; fail after *seconds*."""
        for _ in range(int(seconds / 0.25)):
            found = self.slurm.jobs([str(job_id)])
            if found and is_so(found[0]):
                return found[0]
            self.sleep(0.25)
        msg = f"job {job_id} did not come so far in {seconds} s: {found}"
        raise AssertionError(msg)

    def running(self, job_id):
        """Wait until the job runs."""
        return self.wait(job_id, lambda job: job.state.value == "RUNNING")

    def over(self, job_id):
        """Wait until the job has ended."""
        return self.wait(job_id, lambda job: job.state.is_over)

    def sleep(self, seconds):
        """Let time pass."""
        time.sleep(seconds)

    def tidy(self):
        """Cancel what was submitted."""
        for job_id in self.ids:
            try:
                self.slurm.cancel(str(job_id))
            except JobNotFound:
                continue


class FakeBackend(Backend):
    """The fake, where waiting moves its clock."""

    name = "fake"
    is_real = False

    def __init__(self):
        self.clock = FakeClock()
        super().__init__(FakeSlurm(clock=self.clock, user="root"))

    def sleep(self, seconds):
        self.clock.advance(max(1, seconds))

    def as_user(self, user, call):
        """Return ``call(slurm)`` as *user* sees it."""
        before, self.slurm.user = self.slurm.user, user
        try:
            return call(self.slurm)
        finally:
            self.slurm.user = before

    def unreachable(self, method, *args):
        """Return what *method* does while no controller answers."""
        self.slurm.unavailable()
        return getattr(self.slurm, method)(*args)


class RealBackend(Backend):
    """A real cluster, as root."""

    def as_user(self, user, call):
        """Return ``call(slurm)`` in a process of *user*."""
        person = pwd.getpwnam(user)

        def become():
            os.initgroups(user, person.pw_gid)
            os.setgid(person.pw_gid)
            os.setuid(person.pw_uid)
            os.environ.update(HOME=person.pw_dir, USER=user, LOGNAME=user)
            os.chdir("/tmp")

        return in_child(lambda: call(self.slurm), become)

    def unreachable(self, method, *args):
        """Return what *method* does in a process whose Slurm configuration leads nowhere.

        A new process, not a fork: the library reads its configuration once.
        """
        code = "from tests.contract.backends import answer_parent; answer_parent()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=pickle.dumps((type(self), method, args)),
            capture_output=True,
            check=False,
            env=os.environ | {"SLURM_CONF": _conf_to_nowhere(), "PYTHONPATH": ":".join(sys.path)},
        )
        assert done.stdout, done.stderr.decode()
        return _unpickled(done.stdout)


class CommandBackend(RealBackend):
    """The commands of whichever Slurm is installed here."""

    name = "commands"

    def __init__(self):
        super().__init__(CommandSlurm(SystemClock()))


class PyslurmBackend(RealBackend):
    """pyslurm, where it is installed."""

    name = "pyslurm"

    def __init__(self):
        from slurm_gpu_policy.adapters.slurm.pyslurm_adapter import (  # noqa: PLC0415
            PyslurmSlurm,
        )

        super().__init__(PyslurmSlurm(SystemClock()))


def answer_parent():
    """Do what the parent process wrote on standard input, and write the answer."""
    kind, method, args = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    try:
        answer = (True, getattr(kind().slurm, method)(*args))
    except Exception as error:  # noqa: BLE001 - it is raised again outside
        answer = (False, error)
    sys.stdout.buffer.write(_pickled(answer))


def _conf_to_nowhere():
    """Return a Slurm configuration that names a port where nobody listens."""
    path = pathlib.Path(f"/tmp/contract-{os.getpid()}.conf")
    path.write_text(
        "ClusterName=nowhere\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=9\n"
        "AuthType=auth/munge\nCredType=cred/munge\nMessageTimeout=5\n"
        "SlurmctldTimeout=10\nNodeName=none\nPartitionName=p Nodes=none\n"
    )
    return str(path)


def in_child(call, prepare):
    """Return ``call()``, or raise what it raises, in a forked process after ``prepare()``."""
    ours, theirs = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        try:
            prepare()
            answer = (True, call())
        except BaseException as error:  # noqa: BLE001 - it is raised again outside
            answer = (False, error)
        with os.fdopen(theirs, "wb") as pipe:
            pipe.write(_pickled(answer))
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        msg = "the child process died without an answer"
        raise AssertionError(msg)
    return _unpickled(data)


def _unpickled(data):
    is_answer, value = pickle.loads(data)  # noqa: S301 - from our own child
    if is_answer:
        return value
    raise value


def _pickled(answer):
    try:
        return pickle.dumps(answer)
    except Exception:  # noqa: BLE001 - mapping proxies and such; their text will do
        return pickle.dumps(
            (answer[0], repr(answer[1]) if answer[0] else AssertionError(repr(answer[1])))
        )
