"""sbatch's options: their names, which take a value, and which exclude one another.

Read off sbatch 22.05.8 and 26.05 by asking each name (``sbatch --NAME``); the union of both,
so that a script written for either is understood.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHORT: dict[str, str] = {
    "a": "array",
    "A": "account",
    "b": "begin",
    "B": "extra-node-info",
    "c": "cpus-per-task",
    "C": "constraint",
    "d": "dependency",
    "D": "chdir",
    "e": "error",
    "F": "nodefile",
    "G": "gpus",
    "h": "help",
    "H": "hold",
    "i": "input",
    "J": "job-name",
    "k": "no-kill",
    "L": "licenses",
    "m": "distribution",
    "M": "clusters",
    "n": "ntasks",
    "N": "nodes",
    "o": "output",
    "O": "overcommit",
    "p": "partition",
    "q": "qos",
    "Q": "quiet",
    "s": "oversubscribe",
    "S": "core-spec",
    "t": "time",
    "v": "verbose",
    "V": "version",
    "w": "nodelist",
    "W": "wait",
    "x": "exclude",
}
"""Short names and what they are short for."""

ALIASES: dict[str, str] = {"cluster": "clusters", "tasks": "ntasks"}
"""Second names of options."""

FLAGS = _names(
    """
    consolidate-segments contiguous help hold ignore-pbs no-requeue overcommit oversubscribe
    parsable quiet reboot spread-job spread-segments stepmgr test-only usage use-min-nodes
    verbose version wait
    """
)
"""Options without a value."""

OPTIONAL = _names("exclusive get-user-env nice no-kill oom-kill-step propagate requeue resv-ports")
"""Options whose value, if any, is attached (``--nice=5``, never ``--nice 5``)."""

VALUED = _names(
    """
    account acctg-freq array batch bb bbf begin chdir clusters cluster-constraint comment
    constraint container container-id container-type core-spec cores-per-socket cpu-freq
    cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution error exclude export
    export-file extra extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket
    gpus-per-task gres gres-flags hint input job-name kill-on-invalid-dep licenses mail-type
    mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nodefile nodelist
    nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode
    output partition power prefer priority profile qos reservation resources segment signal
    sockets-per-node switches thread-spec threads-per-core time time-min tmp tres-bind
    tres-per-task uid wait-all-nodes wckey wrap
    """
)
"""Options that need a value."""

LONG = FLAGS | OPTIONAL | VALUED
BATCH_ONLY = _names(
    """
    array error export-file get-user-env ignore-pbs input no-requeue open-mode output parsable
    requeue test-only wait wrap
    """
)
"""Options of batch jobs only: srun and salloc refuse them or mean another thing."""
NAMES = LONG | frozenset(ALIASES)

GPU_FORMS = ("gres", "gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket")
"""The ways to ask for GPUs."""

PER_GPU = frozenset({"cpus-per-gpu", "mem-per-gpu", "gpu-bind", "gpu-freq", "ntasks-per-gpu"})
"""Options that are refused, or mean nothing, where no GPU is asked for."""

FAMILIES: tuple[frozenset[str], ...] = (
    frozenset(GPU_FORMS),
    frozenset({"mem", "mem-per-cpu", "mem-per-gpu"}),
    frozenset({"requeue", "no-requeue"}),
    frozenset({"exclusive", "oversubscribe"}),
    frozenset({"core-spec", "thread-spec"}),
)
"""Options of which a job should have one. Two of the memory family are fatal to sbatch, also
where one is in the script and the other on the command line (22.05.8)."""


def family(name: str) -> frozenset[str]:
    """Return the names that exclude *name*, itself included."""
    for members in FAMILIES:
        if name in members:
            return members
    return frozenset({name})


def long_name(name: str) -> str | None:
    """Return the full name of a long option, which may be cut short as getopt_long allows.

    ``None`` where no or more than one option is meant.
    """
    if name in LONG:
        return name
    if name in ALIASES:
        return ALIASES[name]
    found = {ALIASES.get(each, each) for each in NAMES if each.startswith(name)}
    return found.pop() if name and len(found) == 1 else None
