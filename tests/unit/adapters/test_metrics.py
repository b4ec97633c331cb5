"""The metrics page, as Prometheus reads it."""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slurm_gpu_policy.adapters.metrics import Metrics
from slurm_gpu_policy.errors import PolicyLayerError
from slurm_gpu_policy.model.action import Action, AuditEntry
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.notice import Delivery, Notice
from slurm_gpu_policy.model.tick import TickReport
from slurm_gpu_policy.version import __version__
from tests.fakes.clock import FakeClock

PREFIX = "slurm_gpu_policy_controller_"
NOW = 1_800_000_000
REPORT = TickReport(time=NOW, duration_seconds=1.5, leading=True)


@pytest.fixture
def clock():
    return FakeClock(NOW)


@pytest.fixture
def metrics(clock):
    return Metrics(clock)


@pytest.fixture
def port(metrics):
    yield metrics.start("127.0.0.1:0")
    metrics.stop()


def page(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return answer.read().decode()


def samples(port):
    """Every sample of ours by its name and its labels, in the order of their names."""
    return {
        (sample.name.removeprefix(PREFIX), *dict(sorted(sample.labels.items())).values()): (
            sample.value
        )
        for family in text_string_to_metric_families(page(port))
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    }


def make_entry(verb="site_factor", rule="P-601", outcome="done"):
    action = Action(verb, JobId(7), "7", rule, "because", "site 0", "site 1", site_factor=1)
    return AuditEntry(1, NOW, "gpu-policyd@head", action, "enforce", outcome)


def test_before_the_first_tick_nothing_is_claimed(port):
    found = samples(port)
    assert found["info", __version__] == 1
    assert found["last_successful_tick_timestamp_seconds",] == 0
    assert found["leading",] == 0
    for name in ("pending_jobs", "snapshot_age_seconds", "audit_entries_unfinished"):
        assert math.isnan(found[name,])


def test_a_tick_is_counted(metrics, port, clock):
    actions = (make_entry(), make_entry(), make_entry("hold", "V-901", "refused"))
    metrics.ticked(
        replace(
            REPORT,
            actions=actions,
            slurm_calls=11,
            pending_jobs=40,
            snapshot_time=NOW - 1,
            unfinished_entries=2,
        )
    )
    clock.advance(9)
    found = samples(port)
    assert found["tick_duration_seconds_count",] == 1
    assert found["tick_duration_seconds_sum",] == 1.5
    assert found["tick_duration_seconds_bucket", "1.0"] == 0
    assert found["tick_duration_seconds_bucket", "2.0"] == 1
    assert found["last_successful_tick_timestamp_seconds",] == NOW
    assert found["snapshot_age_seconds",] == 10
    assert found["actions_total", "done", "P-601", "site_factor"] == 2
    assert found["actions_total", "refused", "V-901", "hold"] == 1
    assert found["slurm_calls_total",] == 11
    assert (found["leading",], found["dry_run",]) == (1, 0)
    assert found["pending_jobs",] == 40
    assert found["audit_entries_unfinished",] == 2


def test_a_failed_tick_leaves_the_last_success_and_the_snapshots_age_grows(metrics, port, clock):
    metrics.ticked(replace(REPORT, snapshot_time=NOW, pending_jobs=3))
    clock.advance(60)
    metrics.ticked(replace(REPORT, time=NOW + 60, errors=("SlurmUnavailable",)))
    found = samples(port)
    assert found["last_successful_tick_timestamp_seconds",] == NOW
    assert found["snapshot_age_seconds",] == 60
    assert found["errors_total", "SlurmUnavailable"] == 1
    assert math.isnan(found["pending_jobs",])


def test_a_standby_says_that_it_does_not_lead(metrics, port):
    metrics.ticked(replace(REPORT, pending_jobs=3))
    metrics.ticked(replace(REPORT, leading=False))
    found = samples(port)
    assert found["leading",] == 0
    assert found["tick_duration_seconds_count",] == 1
    assert math.isnan(found["pending_jobs",])


def test_a_wrong_policy_file_is_a_metric_and_the_last_good_ones_time_stays(metrics, port):
    metrics.policy_loaded(NOW, ())
    assert samples(port)["policy_file_ok",] == 1
    metrics.policy_loaded(NOW + 60, ("line 3: wrong",))
    found = samples(port)
    assert found["policy_file_ok",] == 0
    assert found["policy_file_last_reload_timestamp_seconds",] == NOW


def test_a_clock_that_was_set_back_makes_no_snapshot_younger_than_new(metrics, port, clock):
    metrics.ticked(replace(REPORT, snapshot_time=NOW))
    clock.advance(-3600)
    assert samples(port)["snapshot_age_seconds",] == 0


def test_only_counters_end_in_total(metrics, port):
    metrics.ticked(replace(REPORT, actions=(make_entry(),), errors=("SlurmTimeout",)))
    assert "_created" not in page(port)
    for family in text_string_to_metric_families(page(port)):
        is_total = {sample.name.endswith("_total") for sample in family.samples}
        if family.name.startswith(PREFIX):
            assert (True in is_total) == (family.type == "counter"), family
            assert family.documentation


def test_every_metric_is_documented(metrics):
    page = (Path(__file__).parents[3] / "docs/controller.md").read_text()
    documented = set(re.findall(r"`(\w+)(?:\{[\w,]+\})?`", page))
    made = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
    }
    ours = {name.removeprefix(PREFIX) for name in made if name.startswith(PREFIX)}
    assert ours
    assert ours <= documented


def test_promtool_finds_nothing_wrong_with_the_page(metrics, port):
    if shutil.which("promtool") is None:
        if os.environ.get("SLURM_GPU_POLICY_REQUIRE_CLUSTER") == "1":
            pytest.fail("promtool is not installed (Debian package prometheus)")
        pytest.skip("promtool is not installed (Debian package prometheus)")
    metrics.ticked(replace(REPORT, actions=(make_entry(),), errors=("SlurmTimeout",)))
    metrics.policy_loaded(NOW, ())
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page(port),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == ""


def test_two_controllers_in_one_process_do_not_share_their_metrics(clock):
    one, two = Metrics(clock), Metrics(clock)
    one.ticked(replace(REPORT, slurm_calls=5))
    assert two.registry.get_sample_value(f"{PREFIX}slurm_calls_total") == 0


# --- serving -------------------------------------------------------------------------------------


def test_metrics_are_served_on_the_configured_address_alone(port):
    page(port)
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.2:{port}/metrics", timeout=20)


def test_an_ipv6_address_is_served(metrics):
    if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):  # noqa: PTH110
        pytest.skip("this machine has no IPv6")
    try:
        port = metrics.start("[::1]:0")
    except PolicyLayerError:
        pytest.skip("this machine has no IPv6 loopback address")
    with urllib.request.urlopen(f"http://[::1]:{port}/metrics", timeout=20) as answer:
        assert PREFIX in answer.read().decode()
    metrics.stop()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:99999", "127.0.0.1:x", "203.0.113.1:0", "", "9811", ":9811"]
)
def test_an_address_that_cannot_be_served_on_is_named(metrics, address):
    with pytest.raises(PolicyLayerError, match=f"on '{address}': "):
        metrics.start(address)


def test_a_port_that_is_taken_is_named(metrics, port, clock):
    with pytest.raises(PolicyLayerError, match=f"on '127.0.0.1:{port}': .*in use"):
        Metrics(clock).start(f"127.0.0.1:{port}")


def test_after_it_was_stopped_nobody_listens(clock):
    metrics = Metrics(clock)
    port = metrics.start("127.0.0.1:0")
    metrics.stop()
    with pytest.raises(urllib.error.URLError, match="refused"):
        page(port)
    metrics.stop()  # once more is no error


def test_clients_that_say_nothing_cannot_use_up_threads(metrics, port):
    lines = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(30)]
    for line in lines[8:]:
        assert line.recv(100) == b""  # turned away
    for line in lines:
        line.close()
    for _ in range(200):
        try:
            assert PREFIX in page(port)
        except OSError:
            continue
        break
    else:
        pytest.fail("it does not answer any more")


def test_what_is_no_http_disturbs_nobody(port, capfd):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(b"\x00\xff garbage\r\n\r\n")
        line.recv(1000)
    assert PREFIX in page(port)
    assert capfd.readouterr().err == ""


def test_notices_are_counted_by_way_and_by_what_became_of_them(metrics, port):
    notice = Notice(("u1",), "s", "t", "B-010", "info", "k", NOW)
    for way, fate in (("mail", "sent"), ("mail", "sent"), ("webhook", "given_up")):
        metrics.delivered(Delivery(way, fate, notice, "u1@example.org"))
    text = page(port)
    assert 'slurm_gpu_policy_notices_total{outcome="sent",way="mail"} 2.0' in text
    assert 'slurm_gpu_policy_notices_total{outcome="given_up",way="webhook"} 1.0' in text
    assert "u1@example.org" not in text
