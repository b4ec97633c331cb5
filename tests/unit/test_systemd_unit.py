"""gpu-policyd's systemd unit: right by systemd's own judgement, and in step with the defaults.

No systemd runs where these tests run; tests/e2e/test_confinement.py confines the program by hand.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from slurm_gpu_policy import resources
from slurm_gpu_policy.config.controller import Controller

UNIT = Path(resources.folder("slurm_conf")) / "systemd" / "gpu-policyd.service"
ROOT = Path(__file__).parents[2]


def settings() -> dict[str, list[str]]:
    """Each setting's values, in order; a setting may be given more than once."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[;":
            name, sign, value = line.partition("=")
            assert sign, f"not understood: {line}"
            found.setdefault(name, []).append(value)
    return found


def test_what_the_service_manager_and_the_program_say_to_each_other_fits():
    unit = settings()
    assert unit["Type"] == ["notify"]  # notify-reload is not known before systemd 253
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert unit["NotifyAccess"] == ["main"]
    # A tick, and a backed-off one, between two signs of life.
    assert int(unit["WatchdogSec"][0]) >= 3 * Controller().tick


def test_its_folders_are_those_of_the_default_configuration():
    unit, controller = settings(), Controller()
    assert controller.database.startswith(f"sqlite:////var/lib/{unit['StateDirectory'][0]}/")
    assert controller.socket.startswith(f"/run/{unit['RuntimeDirectory'][0]}/")
    mode = int(unit["RuntimeDirectoryMode"][0], 8)
    assert mode & 0o005 == 0o005, "users could not reach the socket"


def test_it_runs_as_slurms_user_from_where_a_site_installs_it():
    unit = settings()
    slurm_conf = Path(resources.folder("slurm_conf"), "slurm.conf").read_text()
    slurm_user = re.search(r"^SlurmUser=(\w+)", slurm_conf, re.MULTILINE)
    assert unit["User"] == unit["Group"] == [slurm_user[1]]
    site = re.search(r"^site=(.+)$", (ROOT / "tools/site-venv").read_text(), re.MULTILINE)
    assert unit["ExecStart"] == [f"{site[1]}/bin/gpu-policyd"]


def test_a_user_at_the_socket_is_seen_as_who_they_are():
    assert settings()["PrivateUsers"] == ["no"]


def test_it_may_listen_for_other_machines_and_ask_munged_and_postgresql():
    unit = settings()
    families = set(unit["RestrictAddressFamilies"][0].split())
    assert families == {"AF_UNIX", "AF_INET", "AF_INET6"}
    assert not {"SocketBindDeny", "IPAddressDeny", "PrivateNetwork"} & unit.keys()


def test_what_no_restart_helps_is_not_restarted():
    from slurm_gpu_policy.terminal.border import WRONG_POLICY_FILE, WRONG_USE  # noqa: PLC0415

    assert settings()["RestartPreventExitStatus"] == [f"{WRONG_USE} {WRONG_POLICY_FILE}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
    ],
)
def test_it_may_do_little(name, value):
    assert settings()[name] == [value]


@pytest.fixture
def judged(tmp_path):
    """The unit with a program that exists, for systemd to judge it."""
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("SLURM_GPU_POLICY_REQUIRE_CLUSTER") == "1":
            pytest.fail("systemd-analyze is not installed (Debian package systemd)")
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"(?m)^ExecStart=.*", "ExecStart=/bin/true", UNIT.read_text()))
    return unit


def test_systemd_understands_every_line(judged):
    done = subprocess.run(
        ["systemd-analyze", "verify", judged], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_finds_it_little_exposed(judged):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", judged],
        capture_output=True,
        text=True,
        check=False,
    )
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert float(level[1]) < 2, done.stdout + done.stderr
