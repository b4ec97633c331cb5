# shellcheck shell=bash
# The pyslurm cluster's world: a Debian forky chroot with Slurm 26.05 and, in a virtual
# environment, pyslurm 25.11.2 built against it. Two to three minutes, 1.4 GB.

SUITE=forky
WANTED_SLURM=26.05
PYSLURM=pyslurm==25.11.2
VENV=/opt/slurm-gpu-policy/venv
CHROOT_PACKAGES=(
    slurmctld slurmd slurmdbd slurm-client munge mariadb-server
    libslurm-dev python3-dev python3-venv gcc libc6-dev ca-certificates
)
BUILD_MODULES=(setuptools wheel Cython packaging)
# What the package and its tests import.
TEST_MODULES=(click jinja2 pydantic PyYAML rich prometheus-client pytest hypothesis)

# The stamp is written last and holds the recipe's hash: a build that was interrupted
# has none, one by an older recipe has another, and both are built again.
STAMP=opt/slurm-gpu-policy/built
recipe_hash() {
    {
        printf '%s\n' "$SUITE" "$PYSLURM" "$VENV" "${CHROOT_PACKAGES[@]}" "${BUILD_MODULES[@]}" "${TEST_MODULES[@]}"
        declare -f make_base fill_base copy_certificates make_venv copy_pip_settings    # without their comments
        cat -- "$PROVISION"/overlay/slurm/*.h
    } | sha256sum | cut -d' ' -f1
}
chroot_is_built() { [[ $(head -n 1 "$ROOT/$STAMP" 2>/dev/null) == "$(recipe_hash)" ]]; }

build_chroot() {
    chroot_is_built && return 0
    need_own_conf
    if [[ -e $ROOT ]]; then
        say "the chroot $ROOT is unfinished or made by another recipe; building it again"
        stop_all
        remove_chroot
    fi
    install_packages debootstrap
    mkdir -p -- "$STATE/log"
    build_step "Debian $SUITE (debootstrap)" make_base
    build_step "its packages: ${CHROOT_PACKAGES[*]}" fill_base
    local version
    version=$(slurm_version)
    [[ $version == "$WANTED_SLURM".* ]] ||
        warn "the chroot has Slurm $version; $PYSLURM is known to work with $WANTED_SLURM through our overlay, others are untried"
    build_step "$PYSLURM and what the tests import" make_venv
    { recipe_hash; printf '%s\n' "$version"; } >"$ROOT/$STAMP"
    # Not by `import pyslurm`, which needs a slurm.conf, and there is none before `up`.
    say "the chroot is ready: Slurm $version, $(in_world python -V), pyslurm $(in_world python -c \
        'from importlib.metadata import version; print(version("pyslurm"))'), in $ROOT"
}

# build_step WHAT FUNCTION : one line when it goes well, the log's end when not.
build_step() {
    local log=$STATE/log/build-$2.out start=$SECONDS
    say "building $1"
    ( set -e; "$2" ) >"$log" 2>&1 || { show_log "$log"; die "building $1 failed; the whole log is $log"; }
    say "  took $(( SECONDS - start )) s"
}

# The mirror that this machine's apt uses for Debian's main archive: not the security
# archive, and no third party's.
debian_mirror() {
    # shellcheck disable=SC2016  # apt's own words, not the shell's
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' |
        awk -F'|' '$1 == "Debian" && $2 == "Debian" && $3 == "main" { print $4; exit }'
}

make_base() {
    local mirror scripts=/usr/share/debootstrap/scripts script
    mirror=$(debian_mirror)
    if [[ -z $mirror ]]; then
        apt-get -q update
        mirror=$(debian_mirror)
    fi
    [[ -n $mirror ]] || { printf 'no Debian archive in the configuration of apt\n'; return 1; }
    # An older debootstrap does not know the suite; its script for sid makes it as well.
    script=$scripts/$SUITE
    [[ -e $script ]] || script=$scripts/sid
    mkdir -p -- "$ROOT"
    chmod 755 -- "$ROOT"
    unshare --mount --propagation private -- \
        debootstrap --variant=minbase "$SUITE" "$ROOT" "$mirror" "$script"
}

fill_base() {
    cp -L -- /etc/resolv.conf /etc/hosts "$ROOT/etc/"
    printf '#!/bin/sh\nexit 101\n' >"$ROOT/usr/sbin/policy-rc.d"     # no service starts in here
    chmod 755 "$ROOT/usr/sbin/policy-rc.d"
    printf '%s\n' 'Acquire::Check-Valid-Until "false";' 'APT::Install-Recommends "false";' \
        >"$ROOT/etc/apt/apt.conf.d/90slurm-gpu-policy"
    copy_certificates
    in_world env DEBIAN_FRONTEND=noninteractive apt-get -q update
    in_world env DEBIAN_FRONTEND=noninteractive apt-get -q -y install -- "${CHROOT_PACKAGES[@]}"
    in_world update-ca-certificates
    in_world apt-get clean
}

# Whom this machine trusts, the chroot trusts too; behind a proxy that signs for
# others, nothing can be fetched otherwise.
copy_certificates() {
    local file
    mkdir -p -- "$ROOT/usr/local/share/ca-certificates" "$ROOT/etc/ssl/certs"
    # For the first apt-get, before the package that makes this file is there.
    [[ ! -r /etc/ssl/certs/ca-certificates.crt ]] || cp -L -- /etc/ssl/certs/ca-certificates.crt "$ROOT/etc/ssl/certs/"
    for file in /usr/local/share/ca-certificates/*.crt; do
        [[ ! -e $file ]] || cp -L -- "$file" "$ROOT/usr/local/share/ca-certificates/"
    done
}

make_venv() {
    local overlay=/opt/slurm-gpu-policy/overlay
    mkdir -p -- "$ROOT/opt/slurm-gpu-policy"
    cp -R -- "$PROVISION/overlay" "$ROOT/opt/slurm-gpu-policy/"
    printf '[build_ext]\nparallel = %s\n' "$(nproc)" >"$ROOT/opt/slurm-gpu-policy/build.cfg"
    copy_pip_settings
    in_world python3 -m venv "$VENV"
    in_world "$VENV/bin/pip" install -q "${BUILD_MODULES[@]}" "${TEST_MODULES[@]}"
    # -O1 -g0: half the compiler's time; nobody debugs the generated C.
    in_world env SLURM_LIB_DIR="/usr/lib/$(in_world gcc -print-multiarch)" SLURM_INCLUDE_DIR="$overlay" \
        CFLAGS='-O1 -g0' PYSLURM_BUILD_JOBS="$(nproc)" DIST_EXTRA_CONFIG=/opt/slurm-gpu-policy/build.cfg \
        "$VENV/bin/pip" install -q --no-build-isolation --no-deps --no-binary pyslurm "$PYSLURM"
}

# pip's own settings, so that it fetches from where this machine's pip does. PIP_*
# variables pass through by themselves. Of local folders that either names, and that are
# not in the chroot, pip says that they are missing and goes on.
copy_pip_settings() {
    local file
    for file in /etc/pip.conf "$HOME/.config/pip/pip.conf"; do
        [[ -r $file ]] || continue
        mkdir -p -- "$(dirname "$ROOT$file")"
        cp -L -- "$file" "$ROOT$file"
    done
}

# enter_world COMMAND... : become the command.
enter_world() {
    if [[ $KIND == native ]]; then
        exec "$@"
    fi
    (( EUID == 0 )) || die "only root can enter the chroot; to run as somebody else in there:" \
        "exec pyslurm -- setpriv --reuid u1 --regid u1 --init-groups COMMAND"
    chroot_is_built || die "the chroot $ROOT is not built: '$0 packages pyslurm' builds it"
    exec unshare --mount --propagation private -- "$PROVISION/enter.sh" "$ROOT" "$STATE" "$CHECKOUT" "$@"
}

# Nothing is mounted below ROOT in this namespace (enter.sh says why); if somebody
# mounted something by hand it is not ours to delete through.
remove_chroot() {
    local mounted
    mounted=$(awk -v root="$(readlink -f "$ROOT")/" 'index($5 "/", root) == 1 { print $5 }' /proc/self/mountinfo)
    [[ -z $mounted ]] || die "something is mounted below $ROOT; unmount it first:" "$mounted"
    rm -r --one-file-system -- "$ROOT"
    say "the chroot $ROOT is gone"
}
