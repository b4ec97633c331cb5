"""A munged of a test's own: its key, its socket, its memory of what it has seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from slurm_gpu_policy.adapters.control.munge import Munge
from slurm_gpu_policy.adapters.slurm.run import run


class PrivateMunged:
    """Runs while the block does. Every user of the machine may ask it."""

    def __enter__(self):
        if shutil.which("munged") is None:
            why = "munged is not installed (Debian package munge)"
            if os.environ.get("SLURM_GPU_POLICY_REQUIRE_CLUSTER") == "1":
                pytest.fail(why)
            pytest.skip(why)
        self.folder = Path(tempfile.mkdtemp(prefix="munged-"))
        self.folder.chmod(0o755)
        self.socket = str(self.folder / "socket")
        key = self.folder / "key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        self.munge = Munge(run, self.socket)
        self._process = None
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder)

    def start(self):
        # --force: folders that anybody may write into, such as /tmp, are not to its taste.
        self._process = subprocess.Popen(
            [
                "munged", "--foreground", "--force", f"--socket={self.socket}",
                f"--key-file={self.folder}/key", f"--pid-file={self.folder}/pid",
                f"--log-file={self.folder}/log", f"--seed-file={self.folder}/seed",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while subprocess.run(self.argv("munge", "-n"), capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self):
        self._process.terminate()
        self._process.wait()

    def argv(self, *argv, user=None):
        """Return the command of one of MUNGE's programs, as *user* if one is given."""
        become = ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"] if user else []
        return [*become, *argv, f"--socket={self.socket}"]

    def made(self, payload, *options, user=None):
        """Return a credential that was made by hand."""
        done = subprocess.run(
            self.argv("munge", *options, user=user), input=payload, capture_output=True, check=True
        )
        return done.stdout.strip()
