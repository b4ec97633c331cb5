"""Runs slurm_conf/job_submit.lua in a plain Lua interpreter: simulated, without slurmctld."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from slurm_gpu_policy.policy.limits_table import lua

SCRIPT = Path(__file__).parents[1] / "slurm_conf/job_submit.lua"
INTERPRETERS = [name for name in ("lua5.1", "lua5.3", "lua5.4", "luajit") if shutil.which(name)]
NO_VAL, INFINITE, NO_VAL16 = 4294967294, 4294967295, 65534

# The least that slurmctld gives the script (22.05.8 and 26.05.5, as logged by a script there).
UNSET = {
    "user_id": 6001, "user_name": "u1", "default_account": "nlp", "min_nodes": NO_VAL,
    "max_nodes": NO_VAL, "num_tasks": NO_VAL, "ntasks_per_node": NO_VAL16,
    "ntasks_per_tres": NO_VAL16, "sockets_per_node": NO_VAL16, "min_cpus": 1, "shared": NO_VAL16,
    "time_limit": NO_VAL, "priority": NO_VAL,
}  # fmt: skip
PARTITIONS = {
    name: {"max_share": 1, "default_time": 60, "max_time": 10080}
    for name in ("gpu", "interactive", "cpu", "mixed")
} | {"whole": {"max_share": 0, "default_time": NO_VAL, "max_time": INFINITE}}
RECORD = {
    "user_id": 6001, "user_name": "u1", "account": "nlp", "partition": "gpu", "time_limit": 60,
    "min_nodes": 1, "max_nodes": 0, "min_cpus": 1, "tres_per_node": "gres/gpu:h100:2",
    "tres_fmt_req_str": "cpu=1,mem=8000M,node=1,billing=16,gres/gpu=2,gres/gpu:h100=2",
}  # fmt: skip
_DRIVER = """
local function json(value)
   if type(value) == "table" then
      local items = {}
      for k, v in pairs(value) do items[#items + 1] = json(tostring(k)) .. ":" .. json(v) end
      return "{" .. table.concat(items, ",") .. "}"
   elseif type(value) == "number" then return string.format("%.0f", value)
   elseif type(value) == "string" then
      return '"' .. value:gsub('[%c"\\\\\\127-\\255]', function(c)
         return string.format("\\\\u%04x", c:byte()) end) .. '"'
   end
   return tostring(value)
end
local now, said, logged = 1000, {}, {}
os.time = function() return now end
slurm = { SUCCESS = 0 }
slurm.log_user = function(...) said[#said + 1] = string.format(...) end
slurm.log_info = function(...) logged[#logged + 1] = string.format(...) end
slurm.log_error = slurm.log_info
dofile(arg[1])
local open = io.open
for _, case in ipairs(dofile(arg[2])) do
   said, logged = {}, {}
   now = now + (case.later or 0)
   if case.table then
      local file = assert(open(os.getenv("GPU_POLICY_LIMITS"), "w"))
      file:write(case.table)
      file:close()
   elseif case.gone then os.remove(os.getenv("GPU_POLICY_LIMITS")) end
   io.open = case.unreadable and function() return nil, "Permission denied", 13 end or open
   local written = {}
   local job = setmetatable({}, { __index = case.job,
      __newindex = function(_, field, value) written[field] = value; case.job[field] = value end })
   local code
   if case.record then code = slurm_job_modify(job, case.record, case.partitions, case.uid)
   else code = slurm_job_submit(job, case.partitions, case.uid) end
   print(json { code = code, said = said, logged = logged, written = written })
end
"""


class Answer:
    """What the script said to one request: Slurm's code, words for the user, fields it set."""

    def __init__(self, line: str) -> None:
        raw = json.loads(line)
        self.code = raw["code"]
        self.refused = raw["code"] == 2050
        self.said = "\n".join(raw["said"].values())
        self.logged = "\n".join(raw["logged"].values())
        self.written = raw["written"]


def submission(uid=6001, *, later=0, table=None, gone=False, unreadable=False, **fields):
    """A case: one submission; ``later`` seconds after the last, perhaps with a new table."""
    case = {"job": UNSET | fields, "partitions": PARTITIONS, "uid": uid, "later": later}
    case["unreadable"] = unreadable
    return case | ({} if table is None else {"table": table}) | ({"gone": True} if gone else {})


def change(record, uid=6001, **fields):
    """A case: a change of a job."""
    return submission(uid, **{"min_cpus": NO_VAL} | fields) | {"record": RECORD | record}


def judge(folder: Path, text: str, cases, interpreter="lua5.1") -> list[Answer]:
    """Return the script's answers to *cases*, one after the other, with a table of this text."""
    if not shutil.which(interpreter):
        why = f"there is no {interpreter} here (apt-get install lua5.1)"
        if os.environ.get("SLURM_GPU_POLICY_REQUIRE_CLUSTER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    limits = folder / "limits.lua"
    limits.write_text(text)
    (folder / "driver.lua").write_text(_DRIVER)
    (folder / "cases.lua").write_text("return " + lua(list(cases)))
    done = subprocess.run(
        [interpreter, folder / "driver.lua", SCRIPT, folder / "cases.lua"],
        env={**os.environ, "GPU_POLICY_LIMITS": str(limits)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Answer(line) for line in done.stdout.splitlines()]
