"""What pyslurm is told, and its defects: each is worked around here without a cluster."""

from __future__ import annotations

import os
import sys
import types

import pytest

from slurm_gpu_policy.adapters.slurm import pyslurm_adapter
from slurm_gpu_policy.adapters.slurm.commands import CommandSlurm
from slurm_gpu_policy.adapters.slurm.diagnose import diagnose
from slurm_gpu_policy.adapters.slurm.pyslurm_adapter import PyslurmSlurm
from slurm_gpu_policy.adapters.slurm.pyslurm_submission import Inexpressible, description
from slurm_gpu_policy.errors import JobNotFound, SlurmRefused, SlurmTimeout, SlurmUnavailable
from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.model.snapshot import Snapshot
from slurm_gpu_policy.model.submission import Submission
from tests.fakes.clock import FakeClock

NOT_SET = 2**32 - 2


def job(*options, script="#!/bin/sh\n", **more):
    return Submission(script=script, options=options, token="t", **more)


def said(*options, environment=None, **more):
    return description(job(*options, **more), environment or {"HOME": "/h"})


@pytest.mark.parametrize(
    ("option", "value", "attribute", "written"),
    [
        ("gres", "gpu:h100:2", "gres_per_node", {"gpu:h100": 2}),
        ("gres", "gpu:1g.10gb:2", "gres_per_node", {"gpu:1g.10gb": 2}),
        ("gres", "gpu", "gres_per_node", {"gpu": 1}),
        ("gpus", "h100:8", "gpus", {"gpu:h100": 8}),
        ("gpus", "3", "gpus", {"gpu": 3}),
        ("gpus-per-node", "h100:2", "gres_per_node", {"gpu:h100": 2}),
        ("time", "1:30", "time_limit", 2),
        ("time", "2-0", "time_limit", 2880),
        ("mem", "9000", "memory_per_node", "9000M"),
        ("mem", "64G", "memory_per_node", "65536M"),
        ("nice", "0", "nice", "0"),
        ("nice", "-5", "nice", "-5"),
        ("signal", "B:USR1@60", "signal", "B:SIGUSR1@60"),
        ("signal", "10", "signal", "10"),
        ("nodes", "2-4", "nodes", "2-4"),
        ("mail-type", "END,FAIL", "mail_types", ["end", "fail"]),
        ("hold", None, "priority", 0),
        ("no-requeue", None, "is_requeueable", False),
        ("chdir", "/a/../b", "working_directory", "/b"),
    ],
)
def test_an_option_in_pyslurms_words(option, value, attribute, written):
    assert said((option, value))[attribute] == written


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("gpus-per-task", "h100:1"), ("begin", "now+1hour"), ("deadline", "16:00"), ("mem", "0"),
        ("export", "NONE"), ("export", "A=1"), ("gres", "shard:2"), ("gres", "gpu:1,license:2"),
        ("exclusive", None), ("exclusive", "user"), ("time", "unlimited"), ("time", "0"),
        ("ntasks-per-node", "2"), ("hint", "nomultithread"), ("nonsense", "1"), ("hold", "yes"),
        ("mail-type", "NONE"), ("mail-type", "TIME_LIMIT_90"), ("signal", "X:USR1"),
        ("nice", "x"), ("cpus-per-task", "0"), ("cpus-per-task", "99999"),
        ("job-name", "bytes \udcff"), ("nodes", "x"), ("gres", "gpu:h100:x"),
    ],
)  # fmt: skip
def test_what_pyslurm_cannot_say_goes_through_sbatch(option, value):
    with pytest.raises(Inexpressible):
        said((option, value))


@pytest.mark.parametrize(
    "more",
    [
        {"script_args": ("x",)},
        {"script": "no interpreter\n"},
        {"script": "#!/bin/sh\r\n"},
        {"script": "#!/bin/sh\0"},
        {"script": "#!/bin/sh\n# \udcff\n"},
        {"environment": {"SBATCH_ACCOUNT": "x"}},
        {"script_options": (("burst", "x"),)},
    ],
)
def test_what_only_sbatch_judges_goes_through_sbatch(more):
    with pytest.raises(Inexpressible):
        said(**more)


def test_two_options_for_one_attribute_go_through_sbatch():
    with pytest.raises(Inexpressible):
        said(("gres", "gpu:1"), ("gpus-per-node", "1"))


def test_the_scripts_own_options_count_and_ours_win():
    told = said(("nice", "5"), script_options=(("nice", "9"), ("qos", "high")))
    assert (told["nice"], told["qos"]) == ("5", "high")


def test_what_was_not_asked_for_stays_unset():
    told = said(("gpus", "h100:9"))
    assert told["nodes"] == f"1-{NOT_SET}"
    assert told["ntasks"] == NOT_SET
    assert told["cpus_per_task"] == 2**16 - 2
    assert told["min_cpus_per_node"] == 1


def test_cpus_are_counted_for_all_tasks():
    assert said(("nodes", "2"), ("cpus-per-task", "3"))["min_cpus_per_node"] == 6
    assert said(("ntasks", "4"), ("cpus-per-task", "3"))["min_cpus_per_node"] == 12


def test_no_profile_counts_as_given():
    told = said()["profile_types"]
    assert told
    assert list(told) == []


def test_the_environment_is_always_a_dictionary_with_sbatchs_own_variables(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o027)
    told = said(("job-name", "n"), ("cpus-per-task", "3"), ("gpus", "h100:2"))["environment"]
    assert os.umask(before) == 0o027
    assert told["HOME"] == "/h"
    assert told["SLURM_SUBMIT_DIR"] == str(tmp_path)
    assert told["SLURM_SUBMIT_HOST"]
    assert told["SLURM_JOB_NAME"] == "n"
    assert told["SLURM_UMASK"] == "0027"
    assert told["SLURM_CPUS_PER_TASK"] == "3"
    assert told["SLURM_TRES_PER_TASK"] == "cpu=3"
    assert told["SLURM_GPUS"] == "h100:2"
    assert int(told["SLURM_RLIMIT_NOFILE"]) > 0
    assert told["HYDRA_BOOTSTRAP"] == "slurm"


def test_a_users_own_launcher_is_left_alone():
    told = said(environment={"HYDRA_BOOTSTRAP": "ssh"})["environment"]
    assert told["HYDRA_BOOTSTRAP"] == "ssh"


# --- the adapter on a stub of the library ----------------------------------------------------


class RPCError(Exception):
    pass


class Stub(types.ModuleType):
    """As much of pyslurm as the adapter touches, with its defects where they are known."""

    def __init__(self):
        super().__init__("pyslurm")
        self.__version__ = "25.11.2"
        self.RPCError = RPCError
        self.told = []
        self.jobs = {7: self.record()}
        self.fail = None
        config = types.SimpleNamespace(cli_filter_plugins=[], launch_parameters=[])
        self.slurmctld = types.SimpleNamespace(
            Config=types.SimpleNamespace(load=lambda: config), config=config
        )
        self.Job = type("Job", (), {"load": staticmethod(self.load)})
        self.Job.__init__ = lambda job, number: setattr(job, "number", number)
        self.Job.modify = lambda job, change: self.do("modify", job.number, change.attributes)
        self.JobSubmitDescription = self.describe

    def slurm_api_version(self):
        return (26, 5, 5)

    def record(self, **more):
        return types.SimpleNamespace(
            **{"array_id": None, "heterogeneous_id": None}
            | {
                "cancel": lambda: self.do("cancel"),
                "hold": lambda mode=None: self.do("hold", mode),
                "release": lambda: self.do("release"),
                "requeue": lambda hold: self.do("requeue", hold),
                "notify": lambda text: self.do("notify", text),
                "modify": lambda change: self.do("modify", change.attributes),
                "send_signal": lambda name, steps: self.do("signal", name, steps),
            }
            | more
        )

    def describe(self, **attributes):
        return types.SimpleNamespace(
            attributes=attributes, submit=lambda: self.do("submit", attributes) or 99
        )

    def do(self, *what):
        self.told.append(what)
        if self.fail is not None:
            os.write(2, b"python: error: POLICY: not today\n")
            raise self.fail

    def load(self, number):
        if number not in self.jobs:
            msg = "Invalid job id specified"
            raise RPCError(msg)
        return self.jobs[number]


@pytest.fixture
def stub(monkeypatch):
    library = Stub()
    monkeypatch.setitem(sys.modules, "pyslurm", library)
    config = ClusterConfig(name="c", version="26.05.5")
    monkeypatch.setattr(
        CommandSlurm, "read", lambda *_args, **_more: Snapshot(time=0, config=config)
    )
    return library


@pytest.fixture
def by_command(monkeypatch):
    """Record what goes through the commands."""
    seen = []
    for name in ("submit", "cancel", "hold", "modify", "modify_many", "submit_many"):
        monkeypatch.setattr(
            CommandSlurm, name, lambda _self, *args, name=name, **_more: seen.append((name, *args))
        )
    return seen


def adapter(**more):
    return PyslurmSlurm(FakeClock(), **more)


def test_site_factor_and_nice_zero_are_texts_for_the_number_means_not_set(stub):
    adapter().modify("7", {"nice": "0", "site_factor": "0"})
    assert stub.told[-1] == ("modify", {"nice": "0", "site_factor": "0"})


def test_many_changes_are_one_scontrols_work_which_is_as_quick_and_holds_no_lock(stub, by_command):
    adapter().modify_many({7: {"site_factor": "0"}})
    assert by_command == [("modify_many", {7: {"site_factor": "0"}})]
    assert stub.told == []


def test_hold_is_never_called_in_user_mode_which_crashes(stub):
    adapter().hold("7")
    assert stub.told == [("hold", None)]


def test_cancelling_an_unknown_job_says_so_though_pyslurm_does_not(stub):
    with pytest.raises(JobNotFound):
        adapter().cancel("8")
    assert stub.told == []


def test_a_cancel_that_fails_on_a_stale_errno_is_asked_of_scancel(stub, by_command):
    stub.fail = RPCError("Some older trouble")
    adapter().cancel("7")
    assert by_command == [("cancel", "7")]


def test_signals_have_their_full_name_and_reach_the_batch_script(stub):
    adapter().cancel("7", signal="usr1")
    assert stub.told == [("signal", "SIGUSR1", "all")]


@pytest.mark.parametrize("more", [{"array_id": 7}, {"heterogeneous_id": 7}])
def test_arrays_and_het_jobs_are_steered_by_command(stub, by_command, more):
    stub.jobs[7] = stub.record(**more)
    adapter().hold("7")
    adapter().modify("7", {"comment": "x"})
    assert [what[0] for what in by_command] == ["hold", "modify"]
    assert stub.told == []


def test_tasks_of_arrays_are_steered_by_command(stub, by_command):
    adapter().cancel("7_3")
    adapter().hold("7_3")
    assert [what[0] for what in by_command] == ["cancel", "hold"]


def test_changes_that_pyslurm_cannot_make_go_through_scontrol(stub, by_command):
    for changes in ({"deadline": "16:00"}, {"comment": ""}, {"name": "\udcff"}, {"shoe": "43"}):
        adapter().modify("7", changes)
    assert len(by_command) == 4
    assert stub.told == []


def test_the_sites_message_is_caught_and_shown_with_slurms_words(stub, capfd):
    stub.fail = RPCError("Unspecified error")
    with pytest.raises(SlurmRefused, match="POLICY: not today\nUnspecified error"):
        adapter().submit(job())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Unable to contact slurm controller (connect failure)", SlurmUnavailable),
        ("Socket timed out on send/recv operation", SlurmTimeout),
    ],
)
def test_a_controller_that_is_away_is_unavailable(stub, text, kind):
    stub.fail = RPCError(text)
    with pytest.raises(kind):
        adapter().submit(job())


def test_many_submissions_stop_at_the_first_that_finds_no_controller(stub):
    stub.fail = RPCError("Unable to contact slurm controller (connect failure)")
    answers = adapter().submit_many([job()] * 5)
    assert [type(answer) for answer in answers] == [SlurmUnavailable] * 5
    assert len(stub.told) == 1


def test_attributes_pyslurm_chokes_on_go_through_sbatch(stub, by_command):
    stub.fail = TypeError("an integer is required")
    adapter().submit(job())
    assert by_command[0][0] == "submit"


def test_a_site_that_filters_in_sbatch_is_served_by_sbatch(stub, by_command):
    stub.slurmctld.config.cli_filter_plugins = ["lua"]
    adapter().submit(job())
    assert by_command[0][0] == "submit"
    assert stub.told == []


def test_a_release_that_does_not_fit_is_not_used(stub, by_command):
    stub.slurm_api_version = lambda: (25, 11, 2)
    adapter(always=False).submit_many([job()] * 50)
    assert by_command[0][0] == "submit_many"
    with pytest.raises(SlurmUnavailable, match=r"built for Slurm 25\.11, and this is 26\.05"):
        adapter().submit(job())


def test_the_doctor_says_why_a_pyslurm_that_is_installed_is_not_used(stub, monkeypatch):
    stub.slurm_api_version = lambda: (25, 11, 2)
    slurm = adapter(always=False)
    monkeypatch.setattr(CommandSlurm, "description", "commands of Slurm 26.05.5")
    report = diagnose(slurm, slurm.description, "pyslurm, one hopes", "u1", 0)
    mismatch = "was built for Slurm 25.11, and this is 26.05"
    assert mismatch in report.pyslurm_trouble
    assert mismatch in report.pyslurm
    assert report.why == f"the commands, because {report.pyslurm_trouble}"


def test_a_pyslurm_too_old_to_tell_its_release_is_not_used(stub, by_command, monkeypatch):
    monkeypatch.setattr(Stub, "slurm_api_version", property())
    adapter(always=False).submit_many([job()] * 50)
    assert by_command[0][0] == "submit_many"


def test_one_call_is_not_worth_the_import_and_many_are(stub, by_command):
    slurm = adapter(always=False)
    slurm.submit(job())
    assert [what[0] for what in by_command] == ["submit"]
    assert stub.told == []
    assert slurm.submit_many([job()] * pyslurm_adapter._WORTH_IT)[-1] == 99
    slurm.submit(job())
    assert len(stub.told) == pyslurm_adapter._WORTH_IT + 1


def test_standard_error_is_put_back(stub, capfd):
    adapter().submit(job())
    os.write(2, b"mine\n")
    assert capfd.readouterr().err == "mine\n"


def test_of_many_what_only_sbatch_can_say_goes_there_together(stub, monkeypatch):
    together = []

    def submit_many(self, submissions):
        together.append(len(submissions))
        return tuple(700 + place for place in range(len(submissions)))

    monkeypatch.setattr(CommandSlurm, "submit_many", submit_many)
    batch = [job(), job(("begin", "now+1hour")), job(), job(("begin", "now+1hour"))]
    answers = adapter().submit_many(batch)
    assert together == [2]
    assert (answers[1], answers[3]) == (700, 701)
    assert len(stub.told) == 2
