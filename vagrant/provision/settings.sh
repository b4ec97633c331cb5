# shellcheck shell=bash disable=SC2034  # read by the scripts that source this
# What differs between the two local clusters, and the knobs to move them.
# Sourced with KIND set.
#
#   CLUSTER_STATE        pid files, sockets, database, spool and logs
#   CLUSTER_CONF         the folder of slurm.conf (pyslurm: inside the chroot)
#   CLUSTER_NAME         Slurm's ClusterName
#   CLUSTER_CTLD_PORT    slurmctld
#   CLUSTER_DBD_PORT     slurmdbd
#   CLUSTER_SLURMD_PORT  the first of three slurmd ports
#   CLUSTER_LIMITS       the table that job_submit.lua reads
#   CLUSTER_SETTINGS     more lines for slurm.conf; they win over what stands there
#   CLUSTER_ROOT         pyslurm only: the chroot

#   CLUSTER_CONTROLLER   vagrant only: the controller's host name, and
#   CLUSTER_ADDRESS      its address

CHECKOUT=$(cd "$PROVISION/../.." && pwd)
ROOT=                                           # the chroot, where there is one
CONTROLLER=$(hostname -s)
ADDRESS=127.0.0.1                               # nothing of a local cluster needs a resolver
DBD_HOST=localhost
GPU_NODES=(gpu01 gpu02)
CPU_NODES=(cpu01)

case $KIND in
    native)
        ctld_port=6817 dbd_port=6819 slurmd_port=17001 ;;
    pyslurm)
        # In the checkout (and ignored by git), so that it comes and goes with it.
        ROOT=${CLUSTER_ROOT:-$CHECKOUT/.cluster/pyslurm}
        ctld_port=7817 dbd_port=7819 slurmd_port=7821 ;;
    vagrant)
        # Each node is a machine of its own (machine.sh), so all slurmds share a port.
        CONTROLLER=${CLUSTER_CONTROLLER:-controller}
        ADDRESS=${CLUSTER_ADDRESS:-$CONTROLLER}
        DBD_HOST=$CONTROLLER
        CPU_NODES=()
        ctld_port=6817 dbd_port=6819 slurmd_port=6818 ;;
esac

NODES=("${GPU_NODES[@]}" "${CPU_NODES[@]}")
STATE=${CLUSTER_STATE:-/var/lib/slurm-gpu-policy/cluster-$KIND}
CONF=${CLUSTER_CONF:-/etc/slurm}                # as the daemons see it
NAME=${CLUSTER_NAME:-$KIND}
LIMITS=${CLUSTER_LIMITS:-/etc/slurm-gpu-policy/limits.lua}
SETTINGS=${CLUSTER_SETTINGS-}
CTLD_PORT=${CLUSTER_CTLD_PORT:-$ctld_port}
DBD_PORT=${CLUSTER_DBD_PORT:-$dbd_port}
SLURMD_PORT=${CLUSTER_SLURMD_PORT:-$slurmd_port}

[[ $STATE == /* && $CONF == /* ]] || die "CLUSTER_STATE and CLUSTER_CONF must be absolute paths"
# Slurm cuts its configuration at blanks and '#', and has no way to quote a path.
[[ $STATE$CONF != *[[:space:]#]* ]] || die "CLUSTER_STATE and CLUSTER_CONF must not contain blanks or '#'"
for port in "$CTLD_PORT" "$DBD_PORT" "$SLURMD_PORT"; do
    if [[ ! $port =~ ^[0-9]{1,5}$ ]] || (( port < 1 || port > 65533 )); then
        die "'$port' is not a port number (or leaves no room for three)"
    fi
done
unset port ctld_port dbd_port slurmd_port

# slurmd_port INDEX : of the node with that place in NODES.
slurmd_port() { if [[ $KIND == vagrant ]]; then echo "$SLURMD_PORT"; else echo "$(( SLURMD_PORT + $1 ))"; fi; }

# in_world COMMAND... : run it where this cluster's daemons live: here, or in the
# chroot. Arguments reach the command untouched.
in_world() {
    if [[ -z $ROOT ]]; then
        "$@"
    else
        unshare --mount --propagation private -- \
            "$PROVISION/enter.sh" "$ROOT" "$STATE" "$CHECKOUT" "$@"
    fi
}

# slurm COMMAND... : a Slurm client of this cluster, whichever configuration the
# caller's own environment points to.
slurm() { in_world env SLURM_CONF="$CONF/slurm.conf" "$@"; }
