#!/bin/bash
# Starts the libvirt daemons the test lab needs, and stops those it started itself.
#
#   lab-daemons.sh start   makes qemu:///system answer; does nothing when it already does
#   lab-daemons.sh stop    ends what an earlier "start" began, and nothing else
#   lab-daemons.sh restart kills the QEMU daemon as a crash would, and starts it again
#   lab-daemons.sh status  says what answers and what was started here
#
# Safe to call from several test processes at once: a lock file lets one of them do the work.
set -euo pipefail

readonly STATE_DIR=/run/vmbackup-lab
readonly STARTED="$STATE_DIR/started"
readonly LOCK="$STATE_DIR/lock"

say() { printf 'lab-daemons: %s\n' "$*"; }
die() {
	say "$*" >&2
	exit 1
}

answers() { timeout 20 virsh -q -c qemu:///system uri >/dev/null 2>&1; }
has_systemd() { [[ -d /run/systemd/system ]]; }

# A recorded process counts as ours only while its start time is the one recorded with it.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

record_process() {
	local name=$1 pid=$2
	printf 'process %s %s %s\n' "$name" "$pid" "$(start_time "$pid")" >>"$STARTED"
}

# Starts a daemon below a process that waits for what loses its parent, QEMU above all: libvirt takes a VM for running
# until somebody has waited for its process, and process 1 of a container does so late, or never.
launch() {
	# 157 is prctl, 36 is PR_SET_CHILD_SUBREAPER. The lock must not stay held by a daemon that inherits its descriptor.
	perl -e 'use POSIX;
		pipe(my $said, my $say) or die $!;
		if (fork) { close $say; my $code = <$said>; exit(defined $code ? $code : 1) }
		POSIX::setsid();
		syscall(157, 36, 1, 0, 0, 0);
		my $failed = system(@ARGV) != 0;
		print $say $failed ? 1 : 0; close $say;
		open STDIN, "<", "/dev/null"; open STDOUT, ">", "/dev/null"; open STDERR, ">", "/dev/null";
		1 while wait != -1;' "$1" -d 9>&-
}

start_daemon() {
	local name=$1 pid_file=/run/$1.pid pid=''
	# One that died may be in the list still, until somebody has waited for it.
	if pid=$(cat "$pid_file" 2>/dev/null) && [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$name" ]] &&
		! grep -qs '^State:.Z' "/proc/$pid/status"; then
		say "$name runs already"
		return
	fi
	launch "$name" || die "$name does not start; its messages are above"
	for _ in {1..100}; do
		if pid=$(cat "$pid_file" 2>/dev/null) && [[ -d /proc/$pid ]]; then
			record_process "$name" "$pid"
			say "started $name, process $pid"
			return
		fi
		sleep 0.1
	done
	die "$name was started but wrote no $pid_file within 10 s"
}

start_services() {
	local unit
	for unit in libvirtd.socket libvirtd.service virtqemud.socket virtqemud.service; do
		systemctl cat "$unit" >/dev/null 2>&1 || continue
		systemctl is-active --quiet "$unit" && continue
		if systemctl start "$unit"; then
			printf 'unit %s\n' "$unit" >>"$STARTED"
			say "started $unit"
		fi
		if answers; then return; fi
	done
}

start() {
	command -v virsh >/dev/null || die "virsh is missing; scripts/install-deps.sh lab installs it"
	if answers; then return; fi
	if [[ $EUID -ne 0 ]]; then die "qemu:///system does not answer and only root can start it"; fi
	mkdir -p "$STATE_DIR"
	exec 9>"$LOCK"
	flock -w 120 9 || die "another process holds $LOCK for more than 120 s"
	if answers; then return; fi
	if has_systemd; then
		start_services
	else
		command -v libvirtd >/dev/null || die "libvirtd is missing; scripts/install-deps.sh lab installs it"
		start_daemon virtlogd
		start_daemon libvirtd
	fi
	for _ in {1..100}; do
		if answers; then return; fi
		sleep 0.1
	done
	die "qemu:///system does not answer; see the journal or run: libvirtd -v"
}

stop_process() {
	local name=$1 pid=$2 began=$3
	if [[ -z $began || $(start_time "$pid") != "$began" ]]; then
		say "$name, process $pid, is gone already"
		return
	fi
	kill "$pid"
	for _ in {1..100}; do
		[[ $(start_time "$pid") == "$began" ]] || break
		sleep 0.1
	done
	say "stopped $name, process $pid"
}

stop() {
	if [[ ! -e $STARTED ]]; then return; fi
	exec 9>"$LOCK"
	flock -w 120 9 || die "another process holds $LOCK for more than 120 s"
	local kind name pid began
	while read -r kind name pid began; do
		case $kind in
		process) stop_process "$name" "$pid" "$began" ;;
		unit) systemctl stop "$name" && say "stopped $name" ;;
		esac
	done < <(tac "$STARTED")
	rm -f "$STARTED"
}

# A process holds its files until its last thread is gone, and one that nobody waits for stays in the list.
wait_until_dead() {
	local pid=$1 began=$2 tasks
	for _ in {1..500}; do
		if [[ $(start_time "$pid") != "$began" ]]; then return; fi
		tasks=$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l) || return 0
		if ((tasks <= 1)) && grep -qs '^State:.Z' "/proc/$pid/status"; then return; fi
		sleep 0.02
	done
}

# Without systemd the new process counts as started here only if the old one did.
restart() {
	local unit pid began ours=''
	mkdir -p "$STATE_DIR"
	exec 9>"$LOCK"
	flock -w 120 9 || die "another process holds $LOCK for more than 120 s"
	if has_systemd; then
		for unit in virtqemud.service libvirtd.service; do
			systemctl is-active --quiet "$unit" || continue
			# The daemon alone: what it started may belong to the unit too. Older versions spell the option differently.
			systemctl kill --kill-whom=main --signal=KILL "$unit" 2>/dev/null ||
				systemctl kill --kill-who=main --signal=KILL "$unit"
			systemctl start "$unit"
			break
		done
	else
		pid=$(cat /run/libvirtd.pid)
		# A daemon that died already is known by its number alone.
		if [[ -e $STARTED ]] && grep -q "^process libvirtd $pid " "$STARTED"; then ours=yes; fi
		began=$(start_time "$pid") || began=''
		if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == libvirtd ]]; then
			kill -KILL "$pid"
			wait_until_dead "$pid" "$began"
		fi
		rm -f /run/libvirtd.pid
		if [[ -n $ours ]]; then
			sed -i "/^process libvirtd $pid /d" "$STARTED"
			start_daemon libvirtd
		else
			launch libvirtd
		fi
	fi
	for _ in {1..100}; do
		if answers; then return; fi
		sleep 0.1
	done
	die "qemu:///system does not answer after a restart"
}

status() {
	if answers; then say "qemu:///system answers"; else say "qemu:///system does not answer"; fi
	if [[ -e $STARTED ]]; then sed 's/^/lab-daemons: started here: /' "$STARTED"; fi
}

case ${1-} in
start | stop | restart | status) "$1" ;;
*) die "usage: lab-daemons.sh start|stop|restart|status" ;;
esac
