#!/usr/bin/env bash
# The shell scripts and the Vagrantfile: what a linter can say of them.
set -euo pipefail
PROVISION=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
. "$PROVISION/words.sh"
. "$PROVISION/packages.sh"

need_program shellcheck
cd "$PROVISION/../.."

shellcheck vagrant/cluster vagrant/provision/*.sh
mapfile -t tools < <(grep -lE '^#!.*\bbash' tools/* tests/*/* 2>/dev/null || true)
(( ${#tools[@]} == 0 )) || shellcheck --severity=warning "${tools[@]}"
vagrant/provision/validate.sh
