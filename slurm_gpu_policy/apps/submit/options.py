"""The options of ``gpu-submit``, as one table.

``passed`` options go to sbatch as they are, under the same long name. The others are read by
``request.py``. Names and letters are sbatch's own wherever sbatch has the option.
"""

from __future__ import annotations

from typing import NamedTuple

import click


class Option(NamedTuple):
    """One option: its long name, sbatch's letter, help, and how it is given."""

    name: str
    help: str
    letter: str = ""
    metavar: str = ""
    passed: bool = False
    """Whether sbatch gets it unchanged."""
    flag: bool = False
    many: bool = False
    """Whether it may be repeated."""
    choices: tuple[str, ...] = ()
    setting: bool = True
    """Whether a settings file or the environment may set it."""


REQUEST_OPTIONS = (
    Option("gpus", "GPUs of the whole job: 4 or h100:4.", "G", "[TYPE:]N"),
    Option("gpus-per-node", "GPUs on each node: 4 or h100:4.", "", "[TYPE:]N"),
    Option("gres", "Generic resources per node, in sbatch's form: gpu:h100:4.", "", "LIST"),
    Option("gpu-type", "GPU types you want, best first: h100 or h100,a100.", "", "TYPE[,TYPE]"),
    Option("workload", "Class of work; it chooses much (gpu-policy workloads).", "", "CLASS"),
    Option("template", "Script template (see gpu-policy templates).", "", "NAME"),
    Option("param", "Value of a template's parameter.", "", "NAME=VALUE", many=True),
    Option("env", "Variable to set in the job, byte for byte.", "", "NAME=VALUE", many=True),
    Option("max-cost", "Most it may cost, in the site's currency.", "", "AMOUNT"),
    Option("fallback", "Where to run if no GPU fits.", choices=("cpu",)),
    Option("retries", "How often gpu-policyd may start it again if it fails.", "", "N"),
    Option("idle-ok", "How long GPUs may be idle (noted; nothing acts on it yet).", "", "DURATION"),
    Option("account", "Account to charge.", "A", "NAME"),
    Option("partition", "Partition, or several with commas.", "p", "NAME"),
    Option("qos", "Quality of service.", "q", "NAME"),
    Option("time", "Time limit: 4h, 1d12h, or as sbatch has it.", "t", "TIME"),
    Option("job-name", "Name of the job.", "J", "NAME"),
    Option("nodes", "Number of nodes, or a range.", "N", "N[-M]"),
    Option("ntasks", "Number of tasks.", "n", "N"),
    Option("cpus-per-task", "CPUs of each task.", "c", "N"),
    Option("mem", "Memory per node: 64G.", "", "SIZE"),
    Option("array", "Array of tasks: 0-9, 1,3,5 or 0-99%4.", "a", "LIST"),
    Option("reservation", "Reservation to run in.", "", "NAME"),
    Option("comment", "Your own comment on the job.", "", "TEXT"),
    Option("constraint", "Node features it needs.", "C", "LIST", passed=True),
    Option("dependency", "Jobs it waits for: afterok:123.", "d", "LIST", passed=True),
    Option("output", "File for its output.", "o", "PATH", passed=True),
    Option("error", "File for its error output.", "e", "PATH", passed=True),
    Option("nodelist", "Nodes it must have.", "w", "LIST", passed=True),
    Option("exclude", "Nodes it must not have.", "x", "LIST", passed=True),
    Option("chdir", "Working directory.", "D", "PATH", passed=True),
    Option("hold", "Submit it held.", "H", passed=True, flag=True),
    Option("deadline", "Remove it if it cannot end by then.", "", "TIME", passed=True),
    Option("begin", "Start it no earlier.", "b", "TIME", passed=True),
    Option("export", "Environment to pass on: ALL, NONE or names.", "", "LIST", passed=True),
    Option("mail-type", "When to send mail: END,FAIL.", "", "LIST", passed=True),
    Option("mail-user", "Who gets the mail.", "", "ADDRESS", passed=True),
    Option("ntasks-per-node", "Tasks on each node.", "", "N", passed=True),
    Option("mem-per-gpu", "Memory for each GPU.", "", "SIZE", passed=True),
    Option("mem-per-cpu", "Memory for each CPU.", "", "SIZE", passed=True),
    Option("cpus-per-gpu", "CPUs for each GPU.", "", "N", passed=True),
    Option("signal", "Signal to send before the time limit: B:USR1@120.", "", "SPEC", passed=True),
    Option("requeue", "Let Slurm start it again.", passed=True, flag=True),
    Option("no-requeue", "Never let Slurm start it again.", passed=True, flag=True),
    Option("exclusive", "Share its nodes with nobody.", passed=True, flag=True),
    Option("nice", "Lower its priority by this much.", "", "N", passed=True),
    Option("open-mode", "How to open output files.", choices=("append", "truncate"), passed=True),
    Option("sbatch-arg", "Any other option of sbatch: --sbatch-arg=--switches=1.", "", "ARG",
           many=True),
)  # fmt: skip

RUN_OPTIONS = (
    Option("dry-run", "Print the script and submit nothing.", flag=True),
    Option("explain", "Show the whole decision and its reasons.", flag=True),
    Option("wait", "Wait for the end; exit with the job's own code.", "W", flag=True),
    Option("watch", "Show the job until it ends.", flag=True),
    Option("follow", "With --watch: also show the end of its output.", flag=True),
    Option("parsable", "Print the job id alone.", flag=True),
    Option("json", "Print one JSON object for each job.", flag=True),
    Option("jobs", "File with one job a line: COMMAND, or OPTIONS -- COMMAND.", "", "FILE",
           setting=False),
    Option("policy", "Policy file to use instead of the site's.", "", "FILE", setting=False),
)  # fmt: skip


def parameter(option: Option) -> str:
    """Return the name click gives an option's value."""
    return option.name.replace("-", "_")


def click_options(table: tuple[Option, ...]) -> list[click.Parameter]:
    """Return click's options for a table."""
    made: list[click.Parameter] = []
    for option in table:
        names = [f"--{option.name}", parameter(option)]
        if option.letter:
            names.insert(0, f"-{option.letter}")
        kind = click.Choice(option.choices) if option.choices else None
        made.append(
            click.Option(
                names,
                help=option.help,
                metavar=option.metavar or None,
                type=kind,
                is_flag=option.flag or None,  # False would make the value optional
                multiple=option.many,
                allow_from_autoenv=option.setting,
            )
        )
    return made
