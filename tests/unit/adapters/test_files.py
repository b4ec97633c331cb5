"""Files at once or not at all, and what apply remembers."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time

import pytest

from slurm_gpu_policy.adapters.files.applied import AppliedFile
from slurm_gpu_policy.adapters.files.local import LocalFiles
from slurm_gpu_policy.errors import NotAllowed, PolicyLayerError
from slurm_gpu_policy.model.plan import Made
from tests.contract.backends import in_child

MADE = Made(frozenset({("account", "lab"), ("user", "lab", "u1")}), {"lab": "50"})


def test_what_is_saved_is_loaded(tmp_path):
    applied = AppliedFile(str(tmp_path))
    assert applied.load("hpc") == Made()
    applied.save("hpc", MADE)
    assert applied.load("hpc") == MADE
    assert applied.load("other") == Made()
    assert (tmp_path / "applied-hpc.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 2, "cluster": "hpc", "objects": [], "closed": {}}',
     '{"version": 1, "cluster": "other", "objects": [], "closed": {}}',
     '{"version": 1, "cluster": "hpc", "objects": 3, "closed": {}}',
     '{"version": 1, "cluster": "hpc", "objects": [3], "closed": {}}'],
)  # fmt: skip
def test_a_damaged_file_is_an_error_and_not_an_empty_memory(tmp_path, text):
    (tmp_path / "applied-hpc.json").write_text(text)
    with pytest.raises(PolicyLayerError, match="damaged"):
        AppliedFile(str(tmp_path)).load("hpc")


@pytest.mark.parametrize("name", ["", "../x", "a/b"])
def test_a_clusters_name_leads_nowhere_else(tmp_path, name):
    with pytest.raises(PolicyLayerError, match="cannot be part"):
        AppliedFile(str(tmp_path)).load(name)


def test_one_apply_waits_for_the_other(tmp_path):
    waited = []
    first, second = AppliedFile(str(tmp_path)), AppliedFile(str(tmp_path), lambda: waited.append(1))
    order = []

    def work():
        with second.alone():
            order.append("second")

    thread = threading.Thread(target=work)
    with first.alone():
        thread.start()
        deadline = time.monotonic() + 20
        while not waited and time.monotonic() < deadline:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert (waited, order) == ([1], ["first", "second"])


def test_a_program_that_a_killed_apply_left_behind_is_waited_for(tmp_path):
    with AppliedFile(str(tmp_path)).alone():
        left = subprocess.Popen(["sleep", "60"], close_fds=False)
    waited = []

    def stop():
        waited.append(1)
        left.kill()

    with AppliedFile(str(tmp_path), stop).alone():
        assert waited == [1]
    left.wait()


def test_a_folder_that_cannot_be_written_says_for_whom_apply_is(tmp_path):
    def become_nobody():
        if os.geteuid() == 0:  # to root nothing is forbidden
            os.chdir("/")
            os.setuid(65534)

    def try_it():
        with AppliedFile("/usr").alone():
            pass

    with pytest.raises(NotAllowed, match="root or SlurmUser"):
        in_child(try_it, become_nobody)


def test_a_folder_that_cannot_be_made_says_why_and_blames_no_rights(tmp_path):
    (tmp_path / "file").write_text("")
    applied = AppliedFile(str(tmp_path / "file" / "folder"))
    with pytest.raises(NotAllowed, match=r"written: Not a directory$"), applied.alone():
        pass
    with pytest.raises(NotAllowed, match=r"written: Not a directory$"):
        applied.save("hpc", MADE)


def test_a_file_is_replaced_through_its_link_and_for_all_to_read(tmp_path):
    real, link = tmp_path / "real.lua", tmp_path / "link.lua"
    real.write_text("old")
    link.symlink_to(real)
    files = LocalFiles()
    files.write(str(link), "new \udcff\n")
    assert link.is_symlink()
    assert files.read(str(real)) == "new \udcff\n"
    assert real.stat().st_mode & 0o777 == 0o644
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link.lua", "real.lua"]


def test_a_file_that_is_not_there_is_none_and_one_that_cannot_be_read_an_error(tmp_path):
    assert LocalFiles().read(str(tmp_path / "none")) is None
    with pytest.raises(PolicyLayerError, match="cannot be read"):
        LocalFiles().read(str(tmp_path))
    with pytest.raises(PolicyLayerError, match="cannot be written"):
        LocalFiles().write(str(tmp_path / "no" / "such"), "x")


def test_the_form_on_disk_is_stable(tmp_path):
    AppliedFile(str(tmp_path)).save("hpc", MADE)
    assert json.loads((tmp_path / "applied-hpc.json").read_text()) == {
        "version": 1,
        "cluster": "hpc",
        "objects": [["account", "lab"], ["user", "lab", "u1"]],
        "closed": {"lab": "50"},
    }
