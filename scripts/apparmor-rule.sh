#!/bin/bash
# The one rule that a backup needs under AppArmor: QEMU makes the socket of a backup job below /var/tmp.
#
#   apparmor-rule.sh missing   exit 0 when AppArmor is on and no rule allows the socket
#   apparmor-rule.sh add       adds the rule, if it is missing
#   apparmor-rule.sh remove    removes the file that "add" made
#
# A VM takes up the rule when it is started: one that was running before keeps its old profile until then.
# Profiles that name virtnbdbackup, by hand or by its package, are left alone: the rule is the same.
set -euo pipefail

readonly ETC=${APPARMOR_DIR:-/etc/apparmor.d}
readonly ENABLED=${APPARMOR_ENABLED:-/sys/module/apparmor/parameters/enabled}
readonly ABSTRACTION=$ETC/abstractions/libvirt-qemu
readonly RULE='/var/tmp/virtnbdbackup.* rwk,'

# Newer libvirt reads a folder; older packages of Debian and Ubuntu read one local file.
rule_file() {
	if grep -q 'abstractions/libvirt-qemu\.d>' "$ABSTRACTION"; then
		echo "$ABSTRACTION.d/vmbackup"
	else
		echo "$ETC/local/abstractions/libvirt-qemu"
	fi
}

is_missing() {
	[[ $(cat "$ENABLED" 2>/dev/null) == Y && -e $ABSTRACTION ]] || return 1
	! grep -rqs '^[^#]*virtnbdbackup' "$ABSTRACTION" "$ABSTRACTION.d" "$ETC/local/abstractions/libvirt-qemu"
}

add() {
	local file
	is_missing || return 0
	file=$(rule_file)
	mkdir -p "$(dirname "$file")"
	printf '# Added by vmbackup: the socket of a backup job.\n%s\n' "$RULE" >>"$file"
	printf 'apparmor-rule: added to %s: %s\n' "$file" "$RULE"
}

remove() {
	local file
	[[ -e $ABSTRACTION ]] || return 0
	file=$(rule_file)
	[[ -e $file ]] || return 0
	sed -i '/^# Added by vmbackup: the socket/,+1d' "$file"
	if [[ ! -s $file ]]; then rm "$file"; fi
	printf 'apparmor-rule: removed from %s\n' "$file"
}

case ${1-} in
missing) is_missing ;;
add | remove) "$1" ;;
*)
	echo "usage: apparmor-rule.sh missing|add|remove" >&2
	exit 2
	;;
esac
