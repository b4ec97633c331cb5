"""A site that its users can reach: its policy file and its controller's socket are open to them."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from tests.clusters import CHROOT_PYTHON, NO_CACHE, ROOT
from tests.e2e.daemons import Site

POLICY = "slurm_gpu_policy.apps.policy"
SUBMIT = "slurm_gpu_policy.apps.submit"


class OpenSite(Site):
    """Runs gpu-submit and gpu-policy as the users u1 to u4."""

    @property
    def users_environment(self):
        return {"GPU_POLICY_FILE": str(self.file), "XDG_CACHE_HOME": NO_CACHE}

    def ask(self, *args, user="u1", program=POLICY, **kwargs):
        """Run a program of ours as *user*; the answer has text."""
        return self.cluster.ours(
            program, *args, user=user, env=self.users_environment, cwd="/tmp", **kwargs
        )

    def tick_there(self, *votes):
        """Do one tick where the cluster's clients live, without a database; return its actions."""
        python = CHROOT_PYTHON
        if self.cluster.kind == "native":
            python = ("env", f"PYTHONPATH={ROOT}", sys.executable)
        argv = (*python, "-m", "tests.e2e.one_tick", *votes)
        return json.loads(self.cluster.run(*argv, env=self.users_environment).stdout)

    def submit(self, *args, user="u1"):
        """Submit by gpu-submit and return the job id."""
        return self.ask("--parsable", *args, user=user, program=SUBMIT).stdout.strip()

    def field(self, job, name):
        """Return one field of ``scontrol show job``."""
        shown = self.cluster.run("scontrol", "-o", "show", "job", job).stdout
        return re.search(rf"\b{name}=(\S*)", shown)[1]

    def wait(self, job, *states, seconds=90):
        """Wait until a job is in one of *states*."""
        deadline = time.monotonic() + seconds
        while self.field(job, "JobState") not in states:
            shown = self.cluster.run("scontrol", "show", "job", job).stdout
            assert time.monotonic() < deadline, shown
            time.sleep(0.3)


@contextmanager
def open_site(cluster, **policy):
    """Make a site in a folder that everybody may enter; its controllers end with it."""
    # A cluster's state is the one folder that its chroot, if it has one, shares with us.
    folder = Path(tempfile.mkdtemp(prefix="site-", dir=cluster.state))
    folder.chmod(0o755)
    site = OpenSite(cluster, folder, **policy)
    try:
        yield site
    finally:
        site.tidy()
        shutil.rmtree(folder, ignore_errors=True)
