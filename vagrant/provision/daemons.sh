# shellcheck shell=bash
# The daemons: started, and each waited for until it answers. Every start_ function is
# harmless where its daemon answers already. launch (words.sh) decides by whom they are
# started: by hand, or by systemd on a machine that has it for itself.

make_folders() {
    local slurm
    slurm=$(in_world id -u slurm):$(in_world id -g slurm)
    mkdir -p -- "$STATE"/{log,run,spool/slurmctld,gpu} "${NODES[@]/#/$STATE/spool/slurmd-}"
    chmod 755 -- "$STATE" "$STATE"/{log,run,spool,gpu}
    chown "$slurm" -- "$STATE"/{log,run,spool/slurmctld}
    chmod 700 -- "$STATE/spool/slurmctld"
    # munge, mysql, slurm and root each put their pid files and sockets here.
    chmod 1777 -- "$STATE/run"
    mkdir -p -- "$ROOT/etc/slurm-gpu-policy"
}

# --- munged -----------------------------------------------------------------------
munge_answers() { in_world sh -c 'munge -n | unmunge'; }

start_munge() {
    local munge
    munge_answers >/dev/null 2>&1 && return 0       # somebody's, and good enough
    munge=$(in_world id -u munge):$(in_world id -g munge)
    mkdir -p -- "$ROOT/run/munge" "$ROOT/var/log/munge" "$ROOT/var/lib/munge" "$ROOT/etc/munge"
    chown "$munge" -- "$ROOT/run/munge" "$ROOT/var/log/munge" "$ROOT/var/lib/munge" "$ROOT/etc/munge"
    chmod 755 -- "$ROOT/run/munge"
    if [[ ! -s $ROOT/etc/munge/munge.key ]]; then
        (umask 077 && head -c 1024 /dev/urandom >"$ROOT/etc/munge/munge.key")
        chown "$munge" -- "$ROOT/etc/munge/munge.key"
    fi
    # --force: a socket left by a munged that was killed is not an obstacle.
    launch munged munge munged --force
    wait_for 10 munged "$ROOT/var/log/munge/munged.log" munge_answers
}

# --- MariaDB: always our own, without the network ---------------------------------
SOCKET=$STATE/run/mysql.sock
! by_systemd || SOCKET=/run/mysqld/mysqld.sock
sql() { in_world mariadb --no-defaults --socket="$SOCKET" --user=root --batch --skip-column-names "$@"; }

start_mariadb() {
    is_running mariadbd || sql -e 'select 1' >/dev/null 2>&1 || launch_mariadb
    wait_for 30 mariadbd "$STATE/log/mariadbd.out" sql -e 'select 1'
    # The database is made here, not by slurmdbd: when its first connection fails for
    # want of one, libmariadb 3.4.10 forgets its own limits and fails for good ("number
    # of columns in result (=1) ... exceeds ... (=0)").
    sql -e "create database if not exists slurm_acct_db;
            create user if not exists slurm@localhost identified via unix_socket;
            grant all on slurm_acct_db.* to slurm@localhost;"
}

# In an empty folder: one without the mark was left half-made by an interrupted run.
make_tables() {
    rm -rf -- "$STATE/mysql"
    mkdir -m 700 -- "$STATE/mysql"
    chown "$(in_world id -u mysql):$(in_world id -g mysql)" -- "$STATE/mysql"
    in_world mariadb-install-db --no-defaults --user=mysql --datadir="$STATE/mysql" \
        --auth-root-authentication-method=socket --skip-test-db >"$STATE/log/mariadb-install.out" 2>&1
}

launch_mariadb() {
    if ! by_systemd && [[ ! -e $STATE/mysql/installed ]]; then
        # Its server has once failed to start on a busy machine, so it has a second try.
        make_tables || make_tables || {
            grep -i error "$STATE/log/mariadb-install.out" >&2 || show_log "$STATE/log/mariadb-install.out"
            die "MariaDB could not make its tables"
        }
        touch -- "$STATE/mysql/installed"
    fi
    # innodb_snapshot_isolation: slurmdbd refuses MariaDB 11.8's new default. The
    # `loose-` lets older servers, which lack the variable, pass over it.
    launch --fork mariadbd mysql mariadbd --no-defaults --datadir="$STATE/mysql" --socket="$SOCKET" \
        --pid-file="$STATE/run/mariadbd.pid" --skip-networking --loose-innodb-snapshot-isolation=OFF \
        --innodb-buffer-pool-size=256M --innodb-lock-wait-timeout=900 \
        --innodb-flush-log-at-trx-commit=2
}

# --- Slurm ------------------------------------------------------------------------
dbd_answers() { slurm sacctmgr -n list cluster; }

start_slurmdbd() {
    if ! is_running slurmdbd; then
        launch slurmdbd slurm env MYSQL_UNIX_PORT="$SOCKET" slurmdbd
    fi
    wait_for 30 slurmdbd "$STATE/log/slurmdbd.log" dbd_answers
}

ctld_answers() { [[ $(slurm scontrol ping) == *"is UP"* ]]; }

start_slurmctld() {
    if ! is_running slurmctld; then
        launch slurmctld slurm slurmctld
    fi
    wait_for 30 slurmctld "$STATE/log/slurmctld.log" ctld_answers
}

start_slurmds() {
    local node
    for node in "$@"; do
        is_running "slurmd-$node" slurmd || launch "slurmd-$node" root slurmd -N "$node"
    done
    for node in "$@"; do
        wait_for 30 "slurmd of $node" "$STATE/log/slurmd-$node.log" node_ready "$node"
    done
}

# A node that was drained or down when its slurmd died is told to come back; one
# that is merely new answers by itself.
node_ready() {
    local state
    state=$(slurm sinfo -h -N -n "$1" -o %T | head -n 1)
    case $state in
        idle|mixed|allocated|completing) return 0 ;;
        down|drained|draining|"down*"|"drained*") slurm scontrol update nodename="$1" state=resume || true ;;
    esac
    return 1
}

# end_steps : the steps of our slurmds and all that they run. slurmstepd writes its title
# over its environment, and with it the mark, but it stays in the folder where slurmd
# went to: that of its log.
end_steps() {
    local link pids=()
    while IFS= read -r link; do
        link=${link%/exe}
        [[ ! $link/cwd -ef $STATE/log ]] || pids+=("${link#/proc/}")
    done < <(find /proc/[0-9]*/exe -maxdepth 0 -lname '*/slurmstepd*' 2>/dev/null)
    (( ${#pids[@]} )) || return 0
    mapfile -t pids < <(with_their_own "${pids[@]}")
    kill -s KILL "${pids[@]}" 2>/dev/null || true
}

# with_their_own PID... : these, their descendants, and what they left in the background
# (which has lost its parent, but not its session).
with_their_own() {
    local stat
    for stat in /proc/[0-9]*/stat; do
        # "pid (name) state parent group session ...": a name may hold blanks and brackets.
        sed -n 's/^\([0-9]*\) .*) [A-Za-z] \([0-9]*\) [0-9]* \([0-9]*\) .*/\1 \2 \3/p' "$stat" 2>/dev/null || true
    done | awk -v roots="$*" '
        { parent[$1] = $2; session[$1] = $3 }
        END {
            n = split(roots, r, " ")
            for (i = 1; i <= n; i++) { wanted[r[i]] = 1; sessions[session[r[i]]] = 1 }
            do { grown = 0
                 for (p in parent) if (!(p in wanted) && ((parent[p] in wanted) || (session[p] in sessions))) {
                     wanted[p] = 1; grown = 1
                 }
            } while (grown)
            for (p in wanted) print p
        }'
}

# Running jobs go back to the queue, as after a node's failure. Otherwise slurmctld would
# take them for running for minutes after the next start. One that may not be requeued,
# or does not end at once, is left to that.
requeue_jobs() {
    local jobs deadline=$(( SECONDS + 3 ))
    ctld_answers 2>/dev/null || return 0
    jobs=$(slurm squeue -h -t running,suspended -o %A | paste -sd,)
    [[ -n $jobs ]] || return 0
    slurm scontrol requeue "$jobs" >/dev/null 2>&1 || true
    until [[ -z $(slurm squeue -h -t completing -o %A) ]] || (( SECONDS >= deadline )); do sleep 0.1; done
}

stop_all() {
    local node
    requeue_jobs
    end slurmctld                       # first, so that it records no node as failed
    # A slurmd does not end before the steps that it is ending, so both at once; and it
    # may go on waiting for one that is gone, without anything to lose.
    for node in "${NODES[@]}"; do signal "slurmd-$node" TERM; done
    end_steps
    for node in "${NODES[@]}"; do end "slurmd-$node" TERM 3; done
    end_steps                           # one that was started in between
    end slurmdbd
    end mariadbd
    end munged
}
