#!/usr/bin/env bash
# Is the Vagrantfile right? No provider is needed, and no machine is started.
set -euo pipefail
PROVISION=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
. "$PROVISION/words.sh"
. "$PROVISION/packages.sh"

need_program vagrant
cd "$PROVISION/.."

# A home of its own: what a user's vagrant has learnt must not matter here.
home=$(mktemp -d)
trap 'rm -rf -- "$home"' EXIT
VAGRANT_HOME=$home/home VAGRANT_DOTFILE_PATH=$home/machines VAGRANT_CHECKPOINT_DISABLE=1 \
    vagrant validate --ignore-provider
