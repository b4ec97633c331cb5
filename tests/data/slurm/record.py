"""Record what a real cluster prints, for the parsers' tests: record.py FOLDER (as root).

Needs the local cluster (make cluster) and leaves no job behind. What differs from machine to
machine is replaced. Run it again when a new release of Slurm is to be understood.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import time

from slurm_gpu_policy.adapters.slurm import (
    parse_accounting,
    parse_accounts,
    parse_jobs,
    parse_priority,
    parse_usage,
)
from slurm_gpu_policy.adapters.slurm.run import reading_environment

MARK = "0123456789ab"
DELIMITER = "\x1f" + MARK
HOSTILE = "a|b \x1f\x1e c\n   UserId=root(0)\né=✓"
JOBS = [
    ["--gres=gpu:h100:2", "--comment=it's |x|", "-J", HOSTILE],
    ["--gres=gpu:h100:1", "-N2"],
    ["-p", "cpu", "--array=0-9:3%2"],
    ["-H", "--gpus=h100:3", "-n2"],
    ["-H", "--gpus-per-node=2", "-N2"],
    ["-H", "--gpus-per-task=h100:1", "-n2"],
    ["-H", "--array=1,3,5-9%2", "--gres=gpu:1", "--nice=7"],
    ["-p", "gpu,interactive", "--gres=gpu:h100:8", "-N2", "-t", "2-0"],
    ["-H", "-p", "cpu", "--deadline=now+3hours"],
    ["-H", "-p", "cpu", ":", "-p", "gpu", "--gres=gpu:h100:1"],
]
SACCTMGR = ["sacctmgr", "-n", "-P", "show"]
REPLACED = [
    (re.compile(r"OS=Linux [^\n]*?(?= \S+=)"), "OS=Linux 6.1.0 #1 SMP "),
    (re.compile(r"(NodeHostName|AllocNode:Sid)=[^\s:]+"), r"\1=localhost"),
]


def say(*argv):
    done = subprocess.run(argv, capture_output=True, env=reading_environment(), check=True)
    text = done.stdout.decode("utf-8", "surrogateescape")
    for pattern, other in REPLACED:
        text = pattern.sub(other, text)
    return text


def _format(table):
    return f"format={parse_accounts.format_of(table)}"


def main(folder):
    """Write one file for each question."""
    ids = []
    for options in JOBS:
        own = ["sbatch", "--parsable", "--uid=u1", "--gid=u1", "-D", "/tmp", "-o", "/dev/null"]
        script = ["/dev/stdin"] if ":" in options else ["--wrap", "sleep 100"]
        done = subprocess.run(
            [*own, *options, *script], input=b"#!/bin/sh\nsleep 100\n", capture_output=True,
            check=True,
        )  # fmt: skip
        ids.append(done.stdout.split(b";")[0].decode().strip())
    time.sleep(8)
    node = ["scontrol", "-a", "-o", "-d", "show", "node"]
    answers = {
        "nodes": say(*node),
        "partitions": say("scontrol", "-a", "-o", "show", "partition"),
        "jobs": say(
            "squeue", "-h", "-a", "-t", "all", "-j", ",".join(ids), "-O",
            parse_jobs.squeue_format(MARK, parse_jobs.DETAIL_FREE_FIELDS),
        ),
        "detail": "".join(say("scontrol", "-a", "-d", "show", "job", one) for one in ids),
        "priorities": say("sprio", "-h", "-o", parse_priority.FORMAT),
        "associations": say(*SACCTMGR, "assoc", _format(parse_accounts.ASSOCIATION_FIELDS)),
        "users": say(*SACCTMGR, "user", _format(parse_accounts.DEFAULT_FIELDS)),
        "qos": say(*SACCTMGR, "qos", _format(parse_accounts.QOS_FIELDS)),
        "shares": say(
            "sshare", "-a", "-m", "-h", "-P", "-o",
            parse_accounts.format_of(parse_accounts.SHARE_FIELDS),
        ),
        "usage": say(*parse_usage.ARGV),
    }  # fmt: skip
    subprocess.run(["scancel", *ids], check=True)
    time.sleep(4)
    answers["accounting"] = say(
        "sacct", "-n", "-X", "-D", "-a", "-p", f"--delimiter={DELIMITER}", "-o",
        parse_accounting.FORMAT, "-j", ",".join(ids),
    )  # fmt: skip
    for name, text in answers.items():
        path = pathlib.Path(folder) / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


if __name__ == "__main__":
    main(sys.argv[1])
