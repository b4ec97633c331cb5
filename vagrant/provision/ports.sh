# shellcheck shell=bash
# Is a port free, and if not, whose is it? From /proc alone: ss and lsof need not
# be installed.

# listener_inode PORT : the socket's inode if anything listens there (IPv4 or 6).
listener_inode() {
    local hex
    printf -v hex '%04X' "$1"
    awk -v port=":$hex\$" '$2 ~ port && $4 == "0A" { print $10; exit }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# owner_of INODE : pids that hold the socket, in the time it takes to read /proc.
owner_of() {
    find /proc/[0-9]*/fd -lname "socket:\\[$1\\]" 2>/dev/null | cut -d/ -f3 | sort -un
}

# need_port PORT NAME : die unless PORT is free or held by our own NAME.
need_port() {
    local port=$1 name=$2 inode owners pid who=
    inode=$(listener_inode "$port")
    [[ -n $inode ]] || return 0
    mapfile -t owners < <(owner_of "$inode")
    for pid in "${owners[@]}"; do
        grep -sqxzF -- "$(mark_of "$name")" "/proc/$pid/environ" && return 0
        who+="${who:+, }pid $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c1-80 | sed 's/ *$//'))"
    done
    die "port $port, which $name of the $KIND cluster needs, is taken by ${who:-a process that cannot be seen from here}." \
        "Stop it, or choose another with CLUSTER_CTLD_PORT, CLUSTER_DBD_PORT or CLUSTER_SLURMD_PORT."
}

# need_ports : all that a start would bind, before anything is started.
need_ports() {
    local i
    need_port "$CTLD_PORT" slurmctld
    need_port "$DBD_PORT" slurmdbd
    for i in "${!NODES[@]}"; do
        need_port "$(slurmd_port "$i")" "slurmd-${NODES[i]}"
    done
}
