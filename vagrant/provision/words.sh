# shellcheck shell=bash
# The words every step speaks in: messages, waiting for an answer, and finding
# again what we started. Sourced, never run.

say()  { printf '%s\n' "cluster: $*"; }
warn() { printf '%s\n' "cluster: $*" >&2; }
die()  { printf '%s\n' "cluster: error: $*" >&2; exit 1; }

need_root() {
    (( EUID == 0 )) || die "this must run as root (you are $(id -un)): it starts slurmd," \
        "makes users and writes $CONF. Try: sudo $0 $*"
}

# Does systemd run the daemons? On a Vagrant machine, which is one node as its units
# have it. A local cluster is several nodes on one machine, with or without an init
# system: those are started by hand.
by_systemd() { [[ $KIND == vagrant && -d /run/systemd/system ]]; }

# wait_for SECONDS WHAT LOG COMMAND... : poll until COMMAND succeeds. A daemon is
# ready when it answers, so nothing here sleeps for a guessed time. When it does
# not come, the end of its log is the best message there is.
wait_for() {
    local seconds=$1 what=$2 log=$3 deadline
    shift 3
    deadline=$(( SECONDS + seconds ))
    until "$@" >/dev/null 2>&1; do
        if (( SECONDS >= deadline )); then
            warn "$what did not answer within $seconds s; it was asked: $*"
            show_log "$log"
            exit 1
        fi
        sleep 0.1
    done
}

show_log() {
    [[ -s $1 ]] || { warn "its log $1 is empty or missing"; return 0; }
    warn "the end of $1:"
    tail -n 20 -- "$1" | sed 's/^/    /' >&2
}

# --- what we started ------------------------------------------------------------
# Every daemon carries CLUSTER_MARK=<state>:<name> in its environment. The mark
# survives daemonising, changes of user and slurmctld's re-exec on `scontrol
# reconfigure`, and a reused pid cannot have it; a pid file promises none of these.

mark_of() { printf 'CLUSTER_MARK=%s:%s' "$STATE" "$1"; }

# pids_of NAME [EXE] : the live processes started under NAME, optionally only
# those whose executable is called EXE. Zombies have an empty environment and so
# drop out. Nothing found is an empty line list, not an error.
pids_of() {
    local mark file pid exe
    mark=$(mark_of "$1")
    while IFS= read -r file; do
        pid=${file#/proc/}
        pid=${pid%/environ}
        exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || continue
        exe=${exe##*/}
        exe=${exe%%-wlm*}           # Debian's slurmd is an alternative named slurmd-wlm
        exe=${exe% (deleted)}       # after an upgrade of the package
        [[ -z ${2-} || $exe == "$2" ]] || continue
        case $exe in  # our daemons only, never a command run beside them
            munged|mariadbd|slurmdbd|slurmctld|slurmd) printf '%s\n' "$pid" ;;
        esac
    done < <(grep -lsxzF -- "$mark" /proc/[0-9]*/environ || true)
}

is_running() { [[ -n $(pids_of "$1" "${2-}") ]]; }

# launch [--fork] NAME USER COMMAND... : start a daemon detached, as USER, marked. It
# gets a session of its own, no descriptor of ours and none of our environment, so it
# outlives the calling shell. --fork is for one that does not detach by itself.
launch() {
    local fork=--wait name user log
    [[ $1 != --fork ]] || { fork=--fork; shift; }
    name=$1 user=$2 log=$STATE/log/$1.out
    shift 2
    if by_systemd; then
        case $name in
            munged|mariadbd) name=${name%d} ;;      # the units' names
            slurmd-*) name=slurmd ;;
        esac
        systemctl --quiet enable "$name.service"
        systemctl restart "$name.service"
        return
    fi
    # The lock (9) must not be inherited: a daemon would hold it for ever.
    in_world setsid "$fork" setpriv --reuid "$user" --regid "$user" --init-groups \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        "$(mark_of "$name")" SLURM_CONF="$CONF/slurm.conf" GPU_POLICY_LIMITS="$LIMITS" "$@" \
        </dev/null >>"$log" 2>&1 9>&- || {
            warn "$name refused to start"
            show_log "$log"
            exit 1
        }
}

all_gone() { local pid; for pid in "$@"; do [[ ! -d /proc/$pid ]] || is_zombie "$pid" || return 1; done; }
is_zombie() { [[ $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) == Z* ]]; }

# signal NAME SIGNAL : to what runs under NAME.
signal() {
    local pids
    mapfile -t pids < <(pids_of "$1")
    (( ${#pids[@]} == 0 )) || kill -s "$2" "${pids[@]}" 2>/dev/null || true
}

# end NAME [SIGNAL [SECONDS]] : stop what runs under NAME; by force, if it is still there
# after SECONDS.
end() {
    local name=$1 signal=${2-TERM} seconds=${3-20} pids deadline
    mapfile -t pids < <(pids_of "$name")
    (( ${#pids[@]} )) || return 0
    signal "$name" "$signal"
    deadline=$(( SECONDS + seconds ))
    until all_gone "${pids[@]}"; do
        if (( SECONDS >= deadline )); then
            warn "$name (${pids[*]}) still ran $seconds s after SIG$signal; killing it"
            signal "$name" KILL
            break
        fi
        sleep 0.05
    done
}
