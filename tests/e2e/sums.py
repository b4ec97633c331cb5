"""What users ran, added up twice: from sacct's own text by awk, and from the ledger's entries."""

from __future__ import annotations

from sqlalchemy import create_engine, text

FIELDS = "User,Submit,Start,ElapsedRaw,State,AllocTRES"
SACCT = f"sacct -n -D -X -a -P -S now-2hours -E now+1days -o {FIELDS}"
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
# A charge that is corrected is given back under rule B-011; other refunds leave GPU-seconds alone.
CHARGED = """
SELECT c.user_name, SUM(CASE WHEN e.kind = 'charge' THEN e.gpu_seconds ELSE -e.gpu_seconds END)
FROM entries e
JOIN funds f ON f.fund_id = e.fund_id
JOIN claims c ON c.claim_id = e.claim_id
WHERE f.account = '' AND f.user_name = ''
AND (e.kind = 'charge' OR (e.kind = 'refund' AND e.rule = 'B-011'))
GROUP BY c.user_name
"""


def by_sacct(cluster):
    """Return GPU-seconds by user, and how many records there are by state."""
    script = f"{SACCT} | awk -F'|' '{ADD_UP}'"
    said = cluster.run("sh", "-c", script, env={"SLURM_TIME_FORMAT": "%s"}).stdout
    words = [line.split() for line in said.splitlines()]
    sums = {user: int(seconds) for kind, user, seconds, *_ in words if kind == "user"}
    return sums, {name: int(count) for kind, name, count, *_ in words if kind == "state"}


def by_ledger(address):
    """Return GPU-seconds by user, from the entries on the cluster's own funds."""
    engine = create_engine(address)
    try:
        with engine.connect() as connection:
            rows = connection.execute(text(CHARGED)).fetchall()
    finally:
        engine.dispose()
    return {user: int(seconds) for user, seconds in rows}


def differences(cluster, address):
    """Return by user what the ledger and sacct have, where these are not the same."""
    theirs, _ = by_sacct(cluster)
    ours = by_ledger(address)
    both = {user: (ours.get(user, 0), theirs.get(user, 0)) for user in theirs.keys() | ours.keys()}
    return {user: sums for user, sums in both.items() if sums[0] != sums[1]}
