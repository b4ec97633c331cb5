"""Real Slurm clusters of a test's own, beside the shared ones, to change, stop and break.

    with PrivateCluster("plan", settings=["PriorityMaxAge=600"]) as cluster:
        cluster.run("sacctmgr", "-i", "add", "account", "lab")
        cluster.run("sbatch", "--wrap=true", user="u1", cwd="/tmp")
        cluster.do("restart-controller")

One is up in 3 s (a new database included) and has the accounts and people of `make cluster`.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import socket
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NO_CACHE = "/dev/null/cache"
"""A folder that nobody can make, not even root."""
CHROOT_PYTHON = ("env", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1", "python")


class PrivateCluster:
    """A cluster of two simulated 8-H100 nodes and a CPU node.

    *kind* is ``native`` (the machine's own Slurm) or ``pyslurm`` (the chroot's later one).
    *settings* are further lines of slurm.conf, which win over what stands there.
    """

    def __init__(self, name, *, kind="native", settings=()):
        name += os.environ.get("PYTEST_XDIST_WORKER", "")  # each worker may have one of that name
        self.kind = kind
        self.name = f"t{name}"
        self.state = Path(f"/var/lib/slurm-gpu-policy/test-{name}-{kind}")
        self.conf_folder = f"/etc/slurm-test-{name}"
        self.conf = f"{self.conf_folder}/slurm.conf"
        self.limits = self.state / "limits.lua"
        self.settings = list(settings)
        ctld, dbd, slurmd = _free_ports()
        self._knobs = {
            "CLUSTER_STATE": str(self.state),
            "CLUSTER_CONF": self.conf_folder,
            "CLUSTER_NAME": self.name,
            "CLUSTER_CTLD_PORT": str(ctld),
            "CLUSTER_DBD_PORT": str(dbd),
            "CLUSTER_SLURMD_PORT": str(slurmd),
            "CLUSTER_LIMITS": str(self.limits),
        }

    def __enter__(self):
        if self.state.exists():  # left by a run that was killed
            self._forget()
        try:
            self.do("up")
        except BaseException:
            self._forget()
            raise
        return self

    def __exit__(self, *_):
        self._forget()

    def _forget(self):
        # Its ports are in its own configuration, so any will do here.
        self.do("reset", check=False)
        shutil.rmtree(self.state, ignore_errors=True)

    def do(self, command, *args, check=True):
        """Run ``vagrant/cluster COMMAND`` on this cluster, such as ``restart-controller``."""
        done = subprocess.run(
            [ROOT / "vagrant/cluster", command, self.kind, *args],
            env=os.environ | self._knobs | {"CLUSTER_SETTINGS": "\n".join(self.settings)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    @property
    def environment(self):
        """What a program of this machine needs to talk to a native cluster."""
        return {"SLURM_CONF": self.conf}

    def argv(self, *argv, user="root", env=None, cwd="/"):
        """Return the command that runs *argv* as *user* where this cluster's clients live."""
        person = pwd.getpwnam(user)  # u1 to u4 have the same numbers in the chroot
        words = [f"SLURM_CONF={self.conf}", f"HOME={person.pw_dir}", f"USER={user}"]
        words += [f"{key}={value}" for key, value in (env or {}).items()]
        become = ["setpriv", "--reuid", user, "--regid", str(person.pw_gid), "--init-groups"]
        whole = [*(become if user != "root" else ()), "env", f"--chdir={cwd}", *words, *argv]
        if self.kind == "native":
            return whole
        return [str(ROOT / "vagrant/cluster"), "exec", self.kind, "--", *whole]

    def run(self, *argv, user="root", env=None, cwd="/", check=True, timeout=120, stdin=""):
        """Run a program as *user* in this cluster's world; the answer has text."""
        done = subprocess.run(
            self.argv(*argv, user=user, env=env, cwd=cwd),
            env=os.environ | self._knobs,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def ours(self, *args, user="root", **kwargs):
        """Run a module of ours (``slurm_gpu_policy.apps.policy``, then its arguments)."""
        if self.kind == "native":
            python = ("env", f"PYTHONPATH={ROOT}", f"{ROOT}/.venv/bin/python")
            if user != "root":
                python = (f"{programs()}/python",)
        else:
            code = ROOT if user == "root" else self._code_for_everybody()
            python = ("env", f"PYTHONPATH={code}", *CHROOT_PYTHON[2:])
        return self.run(*python, "-m", *args, user=user, **kwargs)

    def _code_for_everybody(self):
        """Return a folder with our code where the checkout may be in root's home."""
        folder = self.state / "code"
        for name in ("slurm_gpu_policy", "templates", "slurm_conf"):
            if not (folder / name).exists():
                shutil.copytree(ROOT / name, folder / name)
        return folder

    def sbatch(self, *args, user="u1", cwd="/tmp", **kwargs):
        """Submit by sbatch and return the job id."""
        return self.run("sbatch", "--parsable", *args, user=user, cwd=cwd, **kwargs).stdout.strip()


@cache
def programs():
    """Return a folder with our programs, and a Python that has them, for every user to run."""
    given = os.environ.get("SLURM_GPU_POLICY_PROGRAMS")
    if given:
        return given
    done = subprocess.run([ROOT / "tools/site-venv"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _free_ports():
    """Return ports for slurmctld, slurmdbd, and the first of three in a row for the slurmds."""
    draw = random.SystemRandom()
    while True:
        base = draw.randrange(20000, 32000)
        if all(_is_free(port) for port in range(base, base + 5)):
            return base, base + 1, base + 2


def _is_free(port):
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def require_cluster(kind="native"):
    """Skip, or in CI fail, where no cluster of this kind can be raised."""
    why = ""
    if os.geteuid() != 0:
        why = "needs root, to raise a cluster of its own"
    elif kind == "native" and shutil.which("slurmctld") is None:
        why = "Slurm is not installed (make cluster)"
    elif kind == "pyslurm" and not (ROOT / ".cluster/pyslurm/usr/sbin/slurmctld").exists():
        why = "the chroot is not built (make cluster-pyslurm)"
    if why and os.environ.get("SLURM_GPU_POLICY_REQUIRE_CLUSTER") == "1":
        pytest.fail(why)
    if why:
        pytest.skip(why)
