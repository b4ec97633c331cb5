#!/usr/bin/env bash
# The shell scripts and the Vagrantfile: what a linter can say of them.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."

if ! command -v shellcheck >/dev/null; then
    (( EUID == 0 )) || { printf 'lint: error: shellcheck is not installed, and only root could\n' >&2; exit 1; }
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends shellcheck >/dev/null
fi

shellcheck vagrant/cluster vagrant/provision/*.sh
mapfile -t tools < <(grep -lE '^#!.*\bbash' tools/* tests/*/* 2>/dev/null || true)
(( ${#tools[@]} == 0 )) || shellcheck --severity=warning "${tools[@]}"
vagrant/provision/validate.sh
