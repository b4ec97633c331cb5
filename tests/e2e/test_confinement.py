"""gpu-policyd works with as little as its systemd unit leaves it.

The unit's confinement is made by hand: a file system that is read-only but for the two folders,
no homes, an own /tmp, no capabilities, no new privileges, no memory that is made executable. Its
filter of system calls is not: only systemd makes that.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from slurm_gpu_policy import bootstrap, resources
from slurm_gpu_policy.errors import ControllerUnavailable
from tests.builders import make_policy
from tests.clusters import programs
from tests.e2e.daemons import Controller, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.root]

CONFINE = """
set -euo pipefail
state=$1; shift
mount --make-rprivate /
mount --bind "$state" "$state"
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
mount -t tmpfs -o ro tmpfs /home
mount -t tmpfs -o ro tmpfs /root
mount -o remount,bind,ro /
cd /
exec setpriv --reuid slurm --regid slurm --init-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all -- env -i PATH=/usr/bin:/bin LANG=C.UTF-8 "$@"
"""

# prctl(2): PR_SET_MDWE is 65, PR_MDWE_REFUSE_EXEC_GAIN 1.
REFUSE_EXECUTABLE_MEMORY = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0) != 0 and ctypes.get_errno() != 22:  # EINVAL: a kernel before 6.3
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"""

TRY_TO_WRITE = """
import os, sys
for folder in ("/etc", "/var/lib", "/usr", "/home", "/root", "/run"):
    try:
        open(os.path.join(folder, "gpu-policyd-was-here"), "w").close()
    except OSError:
        continue
    sys.exit(f"{folder} can be written")
"""


@pytest.fixture
def state():
    """The controller's folder, outside of /tmp, which is another one inside."""
    entry = pwd.getpwnam("slurm")
    folder = Path(tempfile.mkdtemp(prefix="gpu-policyd-", dir="/var/lib"))
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def confining(state):
    """Return the beginning of a command line that runs the rest of it confined."""
    return ["unshare", "--mount", "bash", "-c", CONFINE, "confine", state]


def confined(state, *argv):
    return subprocess.run(
        [*confining(state), *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def python():
    """The Python of the programs, without writing and executing the same memory."""
    return ["/usr/bin/python3", "-c", REFUSE_EXECUTABLE_MEMORY, f"{programs()}/python"]


def test_the_confinement_confines(cluster, state):
    done = confined(state, *python(), "-c", TRY_TO_WRITE)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_tick_needs_no_more_than_the_unit_gives(cluster, state):
    unit = (Path(resources.folder("slurm_conf")) / "systemd/gpu-policyd.service").read_text()
    for line in ("ProtectSystem=strict", "ProtectHome=yes", "MemoryDenyWriteExecute=yes"):
        assert line in unit.splitlines()
    policy = state / "policy.yaml"
    policy.write_text(
        f"controller:\n  database: sqlite:///{state}/policy.db\n"
        f"  socket: {state}/gpu-policyd.sock\n  metrics: ''\n"
    )
    module = "slurm_gpu_policy.apps.controller"
    done = confined(state, *python(), "-m", module, "--config", policy, "--once", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["errors"] == []
    database = state / "policy.db"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert database.owner() == "slurm"


def test_it_answers_other_machines_with_no_more_than_the_unit_gives(cluster, state):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    policy = state / "policy.yaml"
    policy.write_text(
        f"controller:\n  database: sqlite:///{state}/policy.db\n"
        f"  socket: {state}/gpu-policyd.sock\n  listen: {address}\n  metrics: ''\n"
    )
    argv = [*python(), "-m", "slurm_gpu_policy.apps.controller", "--config", policy]
    up = Controller([*confining(state), *argv], None, state / "log")
    try:
        eventually(lambda: up.events("leads"), seconds=60)
        login_node = make_policy(controller={"socket": "/run/not-here/sock", "reach": address})
        assert bootstrap.ask_controller(login_node, {"request": "status"})["leading"] is True
        assert up.end() == 0
    finally:
        up.kill()
    with pytest.raises(ControllerUnavailable, match="nobody listens there"):
        bootstrap.ask_controller(login_node, {"request": "status"})
