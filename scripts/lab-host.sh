# shellcheck shell=bash disable=SC2034,SC2154 # some names come from, or go to, the script that sources this
# What the demo, the tests and the benchmark ask of the host: root, an answering libvirt, throw-away VMs.
#
# To be sourced. Every VM made here carries a mark in its description; a VM without the mark is never touched.

readonly VM_MARK='Throw-away VM of the vmbackup project: may be removed at any time'
readonly IMAGES=/var/lib/libvirt/images
PATH=$PATH:/usr/sbin:/sbin

# Runs the calling script again as root, when it is not. Arguments: the script's own. Of the environment, what is
# named in keep_environment goes along.
keep_environment=(PATH CARGO_TARGET_DIR)
become_root() {
	local name kept=()
	if [[ $EUID -eq 0 ]]; then return; fi
	command -v sudo >/dev/null || die "needs root or sudo, for libvirt's VMs"
	for name in "${keep_environment[@]}"; do
		if [[ -n ${!name-} ]]; then kept+=("$name=${!name}"); fi
	done
	exec sudo env "${kept[@]}" "$0" "$@"
}

as_root() { if [[ $EUID -eq 0 ]]; then "$@"; else sudo env "PATH=$PATH" "$@"; fi; }

host_virsh() { LC_ALL=C virsh -q -c qemu:///system "$@"; }

# Makes libvirt answer, and remembers whether that took a daemon of ours.
daemons_started=''
begin_daemons() {
	if as_root timeout 20 virsh -q -c qemu:///system uri >/dev/null 2>&1; then return; fi
	daemons_started=yes
	as_root "$root/scripts/lab-daemons.sh" start
}

# Ends the daemons that begin_daemons started.
end_daemons() {
	if [[ -z $daemons_started ]]; then return; fi
	as_root "$root/scripts/lab-daemons.sh" stop
	daemons_started=''
}

# Lets QEMU under AppArmor make the socket of a backup job, when no rule does yet; remembers that.
socket_allowed=''
allow_socket() {
	if ! as_root "$root/scripts/apparmor-rule.sh" missing; then return; fi
	socket_allowed=yes
	as_root "$root/scripts/apparmor-rule.sh" add
}

# Takes the rule back that allow_socket added.
forbid_socket() {
	if [[ -z $socket_allowed ]]; then return; fi
	as_root "$root/scripts/apparmor-rule.sh" remove
	socket_allowed=''
}

vm_exists() { host_virsh dominfo "$1" >/dev/null 2>&1; }

# Defines a VM. Arguments: name, MiB of memory, more XML inside <os>, XML inside <devices>.
define_vm() {
	local name=$1 memory=$2 os=$3 devices=$4 port ports=''
	for port in {1..8}; do ports+="<controller type='pci' index='$port' model='pcie-root-port'/>"; done
	host_virsh define /dev/stdin <<-END
		<domain type='qemu'>
		  <name>$name</name>
		  <description>$VM_MARK</description>
		  <memory unit='MiB'>$memory</memory>
		  <vcpu>1</vcpu>
		  <os><type arch='x86_64' machine='q35'>hvm</type>$os</os>
		  <features><acpi/></features>
		  <on_poweroff>destroy</on_poweroff>
		  <devices>
		    <controller type='pci' model='pcie-root'/>$ports
		    $devices
		    <memballoon model='none'/>
		  </devices>
		</domain>
	END
}

# The <disk> element of a qcow2 image. Arguments: target, file.
disk_xml() {
	printf "<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/>"
	printf "<source file='%s'/><target dev='%s' bus='virtio'/></disk>" "$2" "$1"
}

# Removes a VM with all that libvirt keeps about it, if it carries our mark.
remove_vm() {
	local name=$1
	vm_exists "$name" || return 0
	if [[ $(host_virsh desc "$name") != "$VM_MARK" ]]; then
		die "there is a VM called $name that this script did not make; it stays as it is"
	fi
	host_virsh destroy "$name" >/dev/null 2>&1 || true
	host_virsh undefine "$name" --checkpoints-metadata --managed-save >/dev/null
	rm -f "/var/log/libvirt/qemu/$name.log"*
}
