#!/usr/bin/env bash
# The shell scripts and the Vagrantfile: what a linter can say of them.
set -euo pipefail
PROVISION=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
. "$PROVISION/words.sh"
. "$PROVISION/packages.sh"

need_program shellcheck
cd "$PROVISION/../.."

shellcheck vagrant/cluster vagrant/provision/*.sh
# By their first line: a test may hold a script further down.
mapfile -t tools < <(find tools tests bench -type f -exec awk 'FNR == 1 && /^#!.*bash/ { print FILENAME } { nextfile }' {} +)
(( ${#tools[@]} == 0 )) || shellcheck --severity=warning "${tools[@]}"
vagrant/provision/validate.sh
