//! The host's own configuration: what is saved when, who may read it, and the way back, as the documentation has it.
//!
//! Hosts here are namespaces with an `/etc`, a network and a libvirt daemon of their own: other tests define and remove
//! VMs of the machine's daemon meanwhile.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lab::{Lab, must, output_of, text};
use serde_json::Value;

/// Begins a host: `$1` is where its files are kept from one life to the next, `$2` the lab's folder.
const BEGIN: &str = r#"
set -eu
root=$1 lab=$2
if [ ! -e "$root" ]; then
    mkdir -p "$root"/run "$root"/log "$root"/cache "$root/var/images/${lab##*/}"
    cp -a /etc "$root/etc"
    rm -rf "$root/etc/libvirt" && mkdir -p "$root/etc/libvirt/qemu"
fi
mount --bind "$lab" "$root/var/images/${lab##*/}"
mount --rbind "$root/var" /var/lib/libvirt
mount --bind "$root/etc" /etc
mkdir -p /run/libvirt /var/log/libvirt /var/cache/libvirt
mount --bind "$root/run" /run/libvirt
mount --bind "$root/log" /var/log/libvirt
mount --bind "$root/cache" /var/cache/libvirt
ip link set lo up
libvirtd --pid-file /run/libvirt/own.pid >"$root/libvirtd.log" 2>&1 &
export LC_ALL=C
for _ in {1..300}; do virsh -q uri >/dev/null 2>&1 && break; sleep 0.1; done
virsh -q uri >/dev/null
"#;

/// Shows everything that a daemon keeps: what a restored host must have too.
const SHOW: &str = r#"
show() {
    virsh -q secret-list | while read -r uuid _; do virsh secret-dumpxml "$uuid"; done
    virsh -q nwfilter-list | while read -r _ name; do virsh nwfilter-dumpxml "$name"; done
    virsh net-list --all --name | grep . | sort | while IFS= read -r name; do virsh net-dumpxml --inactive "$name"; done
    echo "started networks:" $(virsh net-list --all --autostart --name) "running:" $(virsh net-list --name)
    virsh pool-list --all --name | grep . | sort | while IFS= read -r name; do
        virsh pool-dumpxml --inactive "$name" | grep -v -e '<capacity' -e '<allocation' -e '<available'
    done
    echo "started pools:" $(virsh pool-list --all --autostart --name) "running:" $(virsh pool-list --name)
    virsh list --all --name | grep . | sort | while IFS= read -r name; do
        virsh dumpxml --inactive --security-info "$name"
    done
    echo "started domains:" $(virsh list --all --autostart --name)
}
"#;

/// A host with something of each kind.
const DEFINE: &str = r#"
cd "$lab"
mkdir -p pool /etc/network /etc/libvirt/hooks
echo "auto br0 # of the old host" >/etc/network/interfaces
echo "max_clients = 77 # of the old host" >/etc/libvirt/libvirtd.conf
printf '#!/bin/sh\nexit 0\n' >/etc/libvirt/hooks/network && chmod 755 /etc/libvirt/hooks/network
def() { cat >def.xml && virsh -q "$1-define" def.xml; }
def secret <<<"<secret ephemeral='no' private='no'><uuid>5ec4e700-0000-4000-8000-000000000001</uuid><usage type='volume'><volume>/x</volume></usage></secret>"
printf %s 'value-of-the-secret' >value && virsh -q secret-set-value 5ec4e700-0000-4000-8000-000000000001 --file value --plain
rm value
def nwfilter <<<"<filter name='clean-traffic'><uuid>f1170000-0000-4000-8000-000000000001</uuid><rule action='accept' direction='inout'/></filter>"
def nwfilter <<<"<filter name='a-first'><uuid>f1170000-0000-4000-8000-000000000002</uuid><filterref filter='clean-traffic'/></filter>"
def net <<<"<network><name>default</name><uuid>4e700000-0000-4000-8000-000000000001</uuid><forward mode='open'/><bridge name='vmbtbr0'/><ip address='192.168.250.1' netmask='255.255.255.0'><dhcp><range start='192.168.250.2' end='192.168.250.9'/></dhcp></ip></network>"
def net <<<"<network><name>with a blank</name><bridge name='vmbtbr1'/></network>"
virsh -q net-autostart default && virsh -q net-start default
def pool <<<"<pool type='dir'><name>kept</name><target><path>$lab/pool</path></target></pool>"
def pool <<<"<pool type='dir'><name>idle</name><target><path>$lab/nowhere</path></target></pool>"
virsh -q pool-autostart kept && virsh -q pool-start kept
for vm in web db; do
    qemu-img create -q -f qcow2 "$lab/$vm.qcow2" 1M
    cat >def.xml <<-END
	<domain type='qemu'><name>$vm</name><memory>65536</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>
	<devices><disk type='file'><driver name='qemu' type='qcow2'/><source file='$lab/$vm.qcow2'/><target dev='vda'/></disk>
	<interface type='network'><source network='default'/><filterref filter='a-first'/></interface>
	<graphics type='vnc' passwd='vncword1'/></devices></domain>
	END
    virsh -q define def.xml
done
virsh -q autostart web
"#;

/// A host of its own. Its files stay in the lab, its processes end with each script.
struct Host<'a> {
    lab: &'a Lab,
    name: &'static str,
}

impl Host<'_> {
    /// Starts the host and its daemon, and gives them this to do.
    fn run(&self, script: &str) -> Output {
        let file = self.lab.path().join(format!("{}.sh", self.name));
        fs::write(&file, format!("{BEGIN}{SHOW}{script}")).expect("the lab has room");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"]);
        command.arg(&file).arg(self.lab.path().join(self.name)).arg(self.lab.path());
        output_of(&mut command)
    }

    #[track_caller]
    fn run_well(&self, script: &str) -> String {
        let output = self.run(script);
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).expect("text")
    }
}

/// A lab whose backups save the host too.
fn lab(name: &str) -> Lab {
    let lab = Lab::new(name);
    lab.configure(&[("HOST_CONFIG_BACKUP", "yes")]);
    lab.backup_path();
    lab
}

/// The command that backs up a host, as text for its shell.
fn vmbackup(lab: &Lab) -> String {
    let (lib, config) = (lab.lib_dir(), lab.config_dir());
    let program = env!("CARGO_BIN_EXE_vmbackup");
    format!("env {}='{}' {program} --config-dir '{}'", lab::LIB_DIR, lib.display(), config.display())
}

/// What a run told as JSON, in a file of the lab.
fn told(lab: &Lab, file: &str) -> Value {
    let text = fs::read_to_string(lab.path().join(file)).expect("a run tells something");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}: {text}"))
}

fn folder(lab: &Lab) -> PathBuf {
    lab.backup_path().join("__HOST_CONFIG__")
}

fn versions(lab: &Lab) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(lab)).into_iter().flatten().flatten();
    let mut versions: Vec<_> = entries.map(|entry| entry.path()).collect();
    versions.sort();
    versions
}

/// The commands of the documentation, for this version and this folder.
fn documented(version: &Path, dir: &Path) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/host-config.md");
    let text = fs::read_to_string(file).expect("the documentation is there");
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let lines: Vec<String> = blocks
        .flat_map(str::lines)
        .map(|line| match line.split_once('=') {
            Some(("version", _)) => format!("version='{}'", version.display()),
            Some(("dir", _)) => format!("dir='{}'", dir.display()),
            _ => line.to_owned(),
        })
        .collect();
    assert!(lines.len() > 20, "{lines:?}");
    lines.join("\n")
}

#[test]
fn a_host_is_restored_as_the_documentation_says() {
    let lab = lab("host_restore");
    let old = Host { lab: &lab, name: "old" };
    let program = vmbackup(&lab);
    let shown = old.run_well(&format!("{DEFINE}\n{program} --run --json >told.json\nshow >shown"));
    assert_eq!(shown, "");
    let [version] = versions(&lab).try_into().expect("one version");
    let host = &told(&lab, "told.json")["host_config"];
    assert_eq!((&host["status"], &host["file"]), (&"saved".into(), &version.to_str().into()));
    assert_eq!(host["warnings"].as_array().map(Vec::len), Some(0), "{host}");

    // What a fresh installation has: the same names, with other UUIDs.
    let fresh = r#"
cd "$lab"
virsh -q net-define <(echo "<network><name>default</name><bridge name='vmbtbr0'/></network>")
virsh -q net-start default && virsh -q net-autostart default
virsh -q nwfilter-define <(echo "<filter name='clean-traffic'><rule action='drop' direction='in'/></filter>")
set +e
"#;
    let new = Host { lab: &lab, name: "new" };
    let commands = documented(&version, &lab.path().join("host-config"));
    let log = new
        .run_well(&format!("{fresh}\n{commands}\ncd \"$lab\"; show >restored; cat /etc/network/interfaces"));
    let read = |name: &str| fs::read_to_string(lab.path().join(name)).expect(name);
    let shown = read("shown");
    for part in ["<usage type='volume'>", "filter='clean-traffic'", "with a blank", "passwd='vncword1'"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(
        shown.contains("started domains: web\n") && shown.contains("started pools: kept running: kept\n")
    );
    assert_eq!(read("restored"), shown, "{log}");
    assert!(log.contains("of the old host"), "{log}");
    for file in ["libvirtd.conf", "hooks/network"] {
        let of = |host: &str| fs::read(lab.path().join(host).join("etc/libvirt").join(file)).ok();
        assert!(of("new").is_some() && of("new") == of("old"), "{file}");
    }

    // What is secret is where it must be, and nowhere else.
    let unpacked = lab.path().join("host-config");
    let find =
        |what: &str, place: &Path| text(&output_of(Command::new("grep").args(["-rl", what]).arg(place)));
    let value = old.run_well("virsh -q secret-get-value 5ec4e700-0000-4000-8000-000000000001");
    assert_eq!(value.trim(), "dmFsdWUtb2YtdGhlLXNlY3JldA==");
    assert_eq!(find(value.trim(), &unpacked), "", "a version holds no value of a secret");
    assert_ne!(find("vncword1", &unpacked.join("libvirt/domains")), "");
    assert_eq!(find("vncword1", &lab.backup_path().join("_state")), "", "no log tells a password");
    let about: Value = serde_json::from_str(&read("host-config/about.json")).expect("JSON");
    assert_eq!(about["left_out"], Value::Array(vec![]), "{about}");
}

#[test]
fn a_version_is_written_when_something_changed_and_only_root_reads_it() {
    let lab = lab("host_versions");
    let host = Host { lab: &lab, name: "host" };
    let program = vmbackup(&lab);
    let config = lab.config_dir().join("default/vmbackup.conf");
    let keep = |count: u32| format!("echo 'HOST_CONFIG_KEEP=\"{count}\"' >>'{}'", config.display());
    host.run_well(&format!(
        r#"{DEFINE}
run() {{ {program} --run --vm db --json >"$1.json" 2>"$1.err"; }}
dry() {{ {program} --run --vm db --dry-run "$@"; }}
dry >dry_first
ls "$lab/backups" >before
{keep2}
run first
run same
dry >dry_same
dry --json >dry_same.json
virsh -q net-autostart default --disable
dry >dry_changed
run changed
echo other >/etc/network/interfaces
# A path that is not the group's yet is given to it with everything in it.
chgrp root "$lab/backups" && chmod 750 "$lab/backups"
run third
# The other VMs have no backup.
{program} --status >status || [ $? = 5 ]
{program} --prune list >list
printf 'y\n' | {program} --prune all --vm db --yes >pruned
mv "$lab/backups/__HOST_CONFIG__" "$lab/elsewhere"
ln -s ../elsewhere "$lab/backups/__HOST_CONFIG__"
echo more >/etc/network/interfaces
run failed
"#,
        keep2 = keep(2),
    ));
    let read = |name: &str| fs::read_to_string(lab.path().join(name)).expect(name);
    let status = |run: &str| told(&lab, &format!("{run}.json"))["host_config"]["status"].clone();
    let why = |run: &str| told(&lab, &format!("{run}.json"))["host_config"]["why"].clone();
    assert!(
        read("dry_first").contains("host configuration: a new version (there is no version yet)"),
        "{}",
        read("dry_first")
    );
    assert!(!read("before").contains("__HOST_CONFIG__"), "a dry run writes nothing");
    for (run, want) in [("first", "saved"), ("same", "unchanged"), ("changed", "saved"), ("third", "saved")] {
        assert_eq!(status(run), want, "{run}: {}", told(&lab, &format!("{run}.json"))["host_config"]);
    }
    assert!(read("dry_same").contains("host configuration: unchanged since"), "{}", read("dry_same"));
    assert_eq!(status("dry_same"), "unchanged");
    let want = "files/etc/libvirt/qemu/networks/autostart/default.xml and 1 more have changed";
    assert_eq!(why("changed"), want);
    assert!(read("dry_changed").contains(want));
    assert_eq!(why("third"), "files/etc/network/interfaces has changed");

    // Old versions went, and the database tells.
    let elsewhere = lab.path().join("elsewhere");
    let mut names: Vec<_> =
        fs::read_dir(&elsewhere).expect("it was moved").flatten().map(|e| e.path()).collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    let sql = "SELECT operation || ' ' || file_type FROM file_operations WHERE vm_name = '__HOST__'";
    assert_eq!(
        lab.ask(sql),
        ["create", "create", "create", "delete"].map(|what| format!("{what} host_config"))
    );
    for file in ["status", "list", "pruned"] {
        assert!(!read(file).contains("HOST_CONFIG"), "{file}: {}", read(file));
    }

    // A folder that is a link is no place for secrets. The VM's backup is as good as ever.
    assert_eq!(
        (status("failed"), told(&lab, "failed.json")["vms"][0]["status"].clone()),
        ("failed".into(), "ok".into())
    );
    assert!(read("failed.err").contains("The host's configuration is not saved"), "{}", read("failed.err"));

    // Closed to the group that may read everything else, whatever was swept since.
    for path in names.iter().chain([&elsewhere]) {
        let about = fs::metadata(path).expect("it is there");
        let mode = if about.is_dir() { 0o700 } else { 0o600 };
        let found = (about.uid(), about.gid(), about.permissions().mode() & 0o7777);
        assert_eq!(found, (0, 0, mode), "{}", path.display());
    }
    fs::remove_file(folder(&lab)).expect("the link is ours");
    fs::rename(&elsewhere, folder(&lab)).expect("back in its place");
    must(Command::new("chmod").arg("o+x").arg(lab.path()));
    let program = lab.path().join("vmstream");
    fs::copy(lab::program("vmstream"), &program).expect("the lab has room");
    let as_group = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=backup", "--clear-groups"]).args(words);
        output_of(&mut command)
    };
    let version = folder(&lab).join(names[0].file_name().expect("a name"));
    assert!(!as_group(&["cat", version.to_str().expect("text")]).status.success());
    let verified =
        as_group(&[program.to_str().expect("text"), "verify", lab.backup_path().to_str().expect("text")]);
    assert!(verified.status.success(), "{}", text(&verified));
}
