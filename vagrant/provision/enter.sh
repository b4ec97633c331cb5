#!/usr/bin/env bash
# enter.sh ROOT STATE CHECKOUT COMMAND... : run COMMAND in the chroot ROOT.
#
# Called inside a mount namespace of its own (`unshare --mount`), so the mounts made
# here exist for this command and its children only: the machine's own namespace has
# none to forget, and deleting the chroot can never run through one.
set -euo pipefail

root=$1 state=$2 checkout=$3
shift 3

# The state has the same path in both worlds, so that one can look at it from either.
mkdir -p -- "$state" "$root$state" "$root$checkout"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount --bind -- "$state" "$root$state"
# The checkout likewise, for the programs that are tried in here; read-only, because
# a file written through it would belong to another Python.
mount --bind -- "$checkout" "$root$checkout"
mount -o remount,bind,ro -- "$root$checkout"

# The caller's folder, where it exists in there too.
directory=/
[[ -d $root$PWD ]] && directory=$PWD

unset LD_LIBRARY_PATH LD_PRELOAD PYTHONPATH PYTHONHOME VIRTUAL_ENV SLURM_CONF
export PATH=/opt/slurm-gpu-policy/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LANG=C.UTF-8 LC_ALL=C.UTF-8 PYTHONPYCACHEPREFIX=/var/cache/python
exec chroot "$root" /usr/bin/env --chdir="$directory" -- "$@"
