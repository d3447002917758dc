# shellcheck shell=bash disable=SC2034,SC2154 # some names come from, or go to, the script that sources this
# Times, medians and the table of a benchmark. To be sourced, with $work set.

# Runs a command. Leaves its wall seconds in $seconds, its CPU seconds in $cpu and its peak memory in $peak_kib.
measure() {
	local said=$work/said user system
	/usr/bin/time -f '%e %U %S %M' -o "$work/time" "$@" >"$said" 2>&1 || die "failed: $* -- $(tail -n 3 "$said")"
	read -r seconds user system peak_kib <"$work/time"
	cpu=$(calc "$user + $system")
}

calc() { awk "BEGIN { printf \"%.3f\", $1 }"; }
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
all() { sort -n "$1" | tr '\n' ' ' | sed 's/ $//'; }

# Notes one time of something. Its median is that of all its notes.
note() { echo "$2" >>"$work/$1.s"; }
time_of() { median "$work/$1.s"; }
bytes_of() { cat "$work/$1.bytes"; }

failed_rows=0
rows=$'| what | measured | limit | |\n|---|---|---|---|\n'

# Adds a row. Arguments: what, measured as text, limit as text, and a condition for awk.
row() {
	local verdict=pass
	if [[ $(awk "BEGIN { print ($4) ? 1 : 0 }") != 1 ]]; then
		verdict=FAIL
		failed_rows=$((failed_rows + 1))
	fi
	rows+="| $1 | $2 | $3 | $verdict |"$'\n'
	say "$1: $2 (limit: $3) $verdict"
}

# A row of how many times as fast ours is. Arguments: what, theirs, ours, least factor.
row_faster() {
	local theirs ours factor
	theirs=$(time_of "$2") ours=$(time_of "$3")
	factor=$(calc "$theirs / $ours")
	row "$1" "${factor%?} times: $ours s ($(all "$work/$3.s")) against $theirs s ($(all "$work/$2.s"))" "at least $4 times" "$factor >= $4"
}

# A row of how much larger ours is. Arguments: what, theirs, ours, most per cent (negative: smaller).
row_larger() {
	local percent
	percent=$(calc "($(bytes_of "$3") / $(bytes_of "$2") - 1) * 100")
	row "$1" "$percent %: $(mib "$(bytes_of "$3")") against $(mib "$(bytes_of "$2")")" "at most $4 %" "$percent <= $4"
}

mib() { awk -v bytes="$1" 'BEGIN { printf "%.0f MiB", bytes / 1048576 }'; }
package() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || echo unknown; }

machine() {
	printf 'Machine: %s, %s cores, %s memory, Linux %s, QEMU %s, libvirt %s, %s.\n' \
		"$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" \
		"$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)" "$(uname -r)" \
		"$(package qemu-system-x86)" "$(package libvirt0)" "$(date -u +%Y-%m-%d)"
}
