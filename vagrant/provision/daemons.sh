# shellcheck shell=bash
# The daemons, started by hand and each waited for until it answers. Every start_
# function is harmless where its daemon answers already.

make_folders() {
    local slurm mysql
    slurm=$(in_world id -u slurm):$(in_world id -g slurm)
    mysql=$(in_world id -u mysql):$(in_world id -g mysql)
    mkdir -p -- "$STATE"/{log,run,spool/slurmctld,mysql,gpu} "${NODES[@]/#/$STATE/spool/slurmd-}"
    chmod 755 -- "$STATE" "$STATE"/{log,run,spool,gpu}
    chown "$slurm" -- "$STATE"/{log,run,spool/slurmctld}
    chown "$mysql" -- "$STATE/mysql"
    chmod 700 -- "$STATE/spool/slurmctld" "$STATE/mysql"
    # Shared by slurm, mysql and root, and not sticky: each may replace its own file.
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
sql() { in_world mariadb --no-defaults --socket="$SOCKET" --user=root --batch --skip-column-names "$@"; }

start_mariadb() {
    sql -e 'select 1' >/dev/null 2>&1 && return 0
    if [[ ! -e $STATE/mysql/installed ]]; then
        # A folder without the mark was left half-made by an interrupted run.
        find "$STATE/mysql" -mindepth 1 -delete
        in_world mariadb-install-db --no-defaults --user=mysql --datadir="$STATE/mysql" \
            --auth-root-authentication-method=socket --skip-test-db >"$STATE/log/mariadb-install.out" 2>&1 ||
            { show_log "$STATE/log/mariadb-install.out"; die "MariaDB could not make its tables"; }
        touch -- "$STATE/mysql/installed"
    fi
    # innodb_snapshot_isolation: slurmdbd refuses MariaDB 11.8's new default. The
    # `loose-` lets older servers, which lack the variable, pass over it.
    launch --fork mariadbd mysql mariadbd --no-defaults --datadir="$STATE/mysql" --socket="$SOCKET" \
        --pid-file="$STATE/run/mariadbd.pid" --skip-networking --loose-innodb-snapshot-isolation=OFF \
        --innodb-buffer-pool-size=256M --innodb-lock-wait-timeout=900 \
        --innodb-flush-log-at-trx-commit=2
    wait_for 30 mariadbd "$STATE/log/mariadbd.out" sql -e 'select 1'
    # The database is made here, not by slurmdbd: when its first connection fails for
    # want of one, libmariadb 3.4.10 forgets its own limits and fails for good ("number
    # of columns in result (=1) ... exceeds ... (=0)").
    sql -e "create database if not exists slurm_acct_db;
            create user if not exists slurm@localhost identified via unix_socket;
            grant all on slurm_acct_db.* to slurm@localhost;"
}

# --- Slurm ------------------------------------------------------------------------
dbd_answers() { slurm sacctmgr -n list cluster; }

start_slurmdbd() {
    if ! is_running slurmdbd; then
        launch slurmdbd slurm env MYSQL_UNIX_PORT="$SOCKET" slurmdbd
    fi
    wait_for 30 slurmdbd "$STATE/log/slurmdbd.log" dbd_answers
}

ctld_answers() { slurm scontrol ping | grep -q 'is UP'; }

start_slurmctld() {
    if ! is_running slurmctld; then
        launch slurmctld slurm slurmctld
    fi
    wait_for 30 slurmctld "$STATE/log/slurmctld.log" ctld_answers
}

start_slurmds() {
    local node
    for node in "${NODES[@]}"; do
        is_running "slurmd-$node" slurmd || launch "slurmd-$node" root slurmd -N "$node"
    done
    for node in "${NODES[@]}"; do
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

# end_steps : the steps of our slurmds and all that they run. A step's processes
# have their own environment, so they are found by descent.
end_steps() {
    local node pids=()
    for node in "${NODES[@]}"; do
        mapfile -t -O "${#pids[@]}" pids < <(pids_of "slurmd-$node" slurmstepd)
    done
    (( ${#pids[@]} )) || return 0
    mapfile -t pids < <(descent "${pids[@]}")
    kill -s KILL "${pids[@]}" 2>/dev/null || true
}

# descent PID... : these and all their descendants.
descent() {
    local stat
    for stat in /proc/[0-9]*/stat; do
        # "pid (name) state ppid ...": the name may hold blanks and brackets.
        sed -n 's/^\([0-9]*\) .*) [A-Za-z] \([0-9]*\) .*/\1 \2/p' "$stat" 2>/dev/null || true
    done | awk -v roots="$*" '
        { parent[$1] = $2 }
        END {
            n = split(roots, r, " "); for (i = 1; i <= n; i++) wanted[r[i]] = 1
            do { grown = 0
                 for (p in parent) if (!(p in wanted) && (parent[p] in wanted)) { wanted[p] = 1; grown = 1 }
            } while (grown)
            for (p in wanted) print p
        }'
}

stop_all() {
    local node
    end slurmctld                       # first, so that it records no node as failed
    for node in "${NODES[@]}"; do
        mapfile -t pids < <(pids_of "slurmd-$node" slurmd)
        (( ${#pids[@]} == 0 )) || kill -s TERM "${pids[@]}" 2>/dev/null || true
    done
    end_steps
    for node in "${NODES[@]}"; do end "slurmd-$node"; done
    end slurmdbd
    end mariadbd
    end munged
}
