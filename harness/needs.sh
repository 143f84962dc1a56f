#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The harness is Python: make sure of python3, then let needs.py see to the other packages.
set -eu
if ! command -v python3 >/dev/null; then
	if [ -n "${NO_INSTALL:-}" ]; then
		echo "missing package: python3 (and what it would list)"
		exit 1
	fi
	sudo=
	[ "$(id -u)" -eq 0 ] || sudo=sudo
	$sudo apt-get -qq update
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends python3
fi
exec python3 "$(dirname "$0")/needs.py" "$@"
