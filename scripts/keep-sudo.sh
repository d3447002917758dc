#!/bin/bash
# Runs a command that takes long, and keeps sudo from asking for the password again after it.
#
#   keep-sudo.sh COMMAND [ARGUMENT…]
#
# Asks once, before. Does nothing more than run the command as root, without sudo, or where sudo needs no password.
set -euo pipefail

if [[ $EUID -ne 0 ]] && command -v sudo >/dev/null && ! sudo -n true 2>/dev/null; then
	printf 'What follows needs root for libvirt, once %s is done.\n' "$1"
	sudo -v
	while sleep 50 && kill -0 "$$" 2>/dev/null; do sudo -n -v || exit; done &
	keeper=$!
	trap 'kill "$keeper" 2>/dev/null || true' EXIT
fi
"$@"
