"""What users ran, added up twice: from sacct's own text by awk, and from the ledger's entries."""

from __future__ import annotations

import sqlite3

SACCT = (
    "sacct -n -D -X -a -P -S now-2hours -E now+1days -o User,Submit,Start,ElapsedRaw,State,AllocTRES"
)
# Of a resized job Slurm 22.05 counts the time before in both records: its second one starts before
# it was submitted.
ADD_UP = r"""
{
    gpus = 0
    if (match($6, /gres\/gpu=[0-9]+/)) gpus = substr($6, RSTART + 9, RLENGTH - 9)
    seconds = $4
    if ($3 ~ /^[0-9]+$/ && $3 < $2) seconds -= $2 - $3
    sum[$1] += gpus * seconds
    runs[$1]++
    split($5, state, " ")
    states[state[1]]++
}
END {
    for (user in sum) print "user", user, sum[user], runs[user]
    for (name in states) print "state", name, states[name]
}
"""


def by_sacct(cluster):
    """Return GPU-seconds by user, and how many records there are by state."""
    script = f"{SACCT} | awk -F'|' '{ADD_UP}'"
    said = cluster.run("sh", "-c", script, env={"SLURM_TIME_FORMAT": "%s"}).stdout
    words = [line.split() for line in said.splitlines()]
    sums = {user: int(seconds) for kind, user, seconds, *_ in words if kind == "user"}
    return sums, {name: int(count) for kind, name, count, *_ in words if kind == "state"}


def by_ledger(database):
    """Return GPU-seconds by user, from the entries on the cluster's own funds."""
    with sqlite3.connect(database, timeout=30) as connection:
        rows = connection.execute(
            "SELECT c.user_name, SUM(CASE WHEN e.kind = 'charge' THEN e.gpu_seconds "
            "WHEN e.rule = 'B-011' THEN -e.gpu_seconds ELSE 0 END) "
            "FROM entries e JOIN funds f ON f.fund_id = e.fund_id "
            "JOIN claims c ON c.claim_id = e.claim_id "
            "WHERE f.account = '' AND f.user_name = '' AND e.kind IN ('charge', 'refund') "
            "GROUP BY 1"
        ).fetchall()
    return {user: int(seconds) for user, seconds in rows}
