# shellcheck shell=bash
# Debian packages, installed without letting any of them start its daemon.

NATIVE_PACKAGES=(
    slurmctld slurmd slurmdbd slurm-client slurmrestd
    slurm-wlm-basic-plugins slurm-wlm-mysql-plugin libslurm-dev
    munge mariadb-server
    lua5.1                                      # tests of job_submit.lua; slurmctld has its own
)
LOGIN_PACKAGES=(slurm-client slurm-wlm-basic-plugins munge python3-venv)
GPU_PACKAGES=(slurmd slurm-client slurm-wlm-basic-plugins munge)
# For the tests alone: clocks to be stepped, a database server, promtool, systemd-analyze. None is
# left running.
# shellcheck disable=SC2034  # for tools/test
TEST_PACKAGES=(faketime postgresql prometheus systemd)

missing_packages() {
    local package
    for package in "$@"; do
        [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || printf '%s\n' "$package"
    done
}

POLICY=/usr/sbin/policy-rc.d
POLICY_SAVED=$POLICY.before-slurm-gpu-policy

# Debian's maintainer scripts start a service as they install it, unless
# policy-rc.d says no. The site's own file, if any, comes back afterwards, also
# when an earlier run was killed half-way.
forbid_service_starts() {
    [[ ! -e $POLICY || -e $POLICY_SAVED ]] || mv -- "$POLICY" "$POLICY_SAVED"
    trap allow_service_starts EXIT
    printf '#!/bin/sh\n# for the time of an installation by vagrant/cluster\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}
allow_service_starts() {
    rm -f -- "$POLICY"
    [[ ! -e $POLICY_SAVED ]] || mv -- "$POLICY_SAVED" "$POLICY"
    trap - EXIT
}

# install_packages PACKAGE... : what is missing of them; quick when nothing is.
install_packages() {
    local missing log
    mapfile -t missing < <(missing_packages "$@")
    (( ${#missing[@]} )) || return 0
    say "installing ${missing[*]}"
    log=$(mktemp)
    forbid_service_starts
    if ! apt_install "${missing[@]}" >"$log" 2>&1; then
        # Lists that are absent or older than the mirror's pool.
        apt-get -q update >>"$log" 2>&1 || true
        apt_install "${missing[@]}" >>"$log" 2>&1 || { show_log "$log"; die "apt-get could not install ${missing[*]}"; }
    fi
    allow_service_starts
    rm -f -- "$log"
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends -- "$@"
}

# need_program NAME : of the package of the same name.
need_program() {
    ! command -v "$1" >/dev/null || return 0
    (( EUID == 0 )) || die "$1 is not installed, and only root could: apt-get install $1"
    install_packages "$1"
}
