#!/usr/bin/env bash
# Is the Vagrantfile right? No provider is needed, and no machine is started.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

if ! command -v vagrant >/dev/null; then
    (( EUID == 0 )) || { printf 'validate: error: vagrant is not installed, and only root could\n' >&2; exit 1; }
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends vagrant >/dev/null
fi

# A home of its own: what a user's vagrant has learnt must not matter here.
home=$(mktemp -d)
trap 'rm -rf -- "$home"' EXIT
VAGRANT_HOME=$home/home VAGRANT_DOTFILE_PATH=$home/machines VAGRANT_CHECKPOINT_DISABLE=1 \
    vagrant validate --ignore-provider
