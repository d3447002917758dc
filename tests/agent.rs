//! What the program asks of a guest's agent, and what it makes of agents that are slow, broken or hostile.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lab::{DiskSpec, Ended, Lab, Vm, VmSpec, play_agents, play_next_agent, virsh};

const MIB: u64 = 1 << 20;

/// Bytes of the files of one point.
fn file_bytes(ended: &Ended) -> u64 {
    let disks = ended.vm()["report"]["disks"].as_array().expect("a report lists its disks").clone();
    disks.iter().map(|disk| disk["file_bytes"].as_u64().expect("a disk has a size")).sum()
}

/// A file of 24 MiB comes and goes in the guest: its blocks are dirty, and free.
fn leave_free_blocks(vm: &Vm) {
    let write = "dd if=/dev/urandom of=/data/big bs=1M count=24 && sync && rm /data/big && sync";
    assert_eq!(vm.guest_exec(write).0, 0);
}

#[test]
fn a_trim_makes_the_next_increment_smaller() {
    let lab = Lab::new("trim");
    lab.configure(&[("ENABLE_FSTRIM", "false")]);
    let vm = lab.booted_vm("guest");
    assert!(lab.run_well(&vm).vm()["report"]["trimmed"].is_null());
    leave_free_blocks(&vm);
    let without = file_bytes(&lab.run_well(&vm));
    lab.configure(&[("ENABLE_FSTRIM", "true"), ("FSTRIM_MINIMUM", "0")]);
    leave_free_blocks(&vm);
    let ended = lab.run_well(&vm);
    let with = file_bytes(&ended);
    assert!(with < 4 * MIB && without > 20 * MIB, "{with} bytes with a trim, {without} without");
    assert!(ended.log.contains("trimmed /data: "), "{}", ended.log);
    let bytes = ended.vm()["report"]["trimmed"]["done"]["bytes"].as_u64();
    assert!(bytes.is_some_and(|bytes| bytes >= 20 * MIB), "{ended:#?}");

    // Excluded by name, by a Bash pattern in the file beside the configuration.
    fs::write(lab.config_dir().join("default/fstrim_exclude.conf"), "# slow\n*guest*\n").expect("it is ours");
    let ended = lab.run_well(&vm);
    assert!(ended.vm()["report"]["trimmed"].is_null(), "{ended:#?}");
    assert!(ended.log.contains("FSTRIM_EXCLUDE_FILE"), "{}", ended.log);
}

#[test]
fn a_guest_whose_disks_do_not_discard_is_not_trimmed() {
    let lab = Lab::configured("no_discard");
    let vm = lab.boot(VmSpec::new("guest"));
    vm.guest_shutdown();
    let file = lab.path().join("no-discard.xml");
    fs::write(&file, vm.xml().replace("discard='unmap'", "discard='ignore'")).expect("the lab has room");
    virsh(&["define", file.to_str().expect("text")]);
    vm.boot();
    let ended = lab.run_well(&vm);
    assert_eq!(ended.vm()["report"]["trimmed"], "no_discard", "{ended:#?}");
}

#[test]
fn each_vm_is_held_still_as_it_was_set() {
    let lab = Lab::new("consistency");
    let guest = lab.booted_vm("guest");
    let bare = lab.define(&VmSpec::new("bare").disk(DiskSpec::new("vda", MIB)));
    bare.start();
    let method = |keys: &[(&str, &str)], vm: &Vm| {
        lab.configure(keys);
        lab.run_well(vm).report("method")
    };
    assert_eq!(method(&[], &guest), "agent");
    assert_eq!(method(&[], &bare), "paused");
    assert_eq!(method(&[("CONSISTENCY", "pause")], &guest), "paused");
    assert_eq!(method(&[("VIRTNBD_FSFREEZE", "false")], &guest), "paused");
    assert_eq!(method(&[("CONSISTENCY", "none")], &guest), "running");
    assert_eq!(method(&[("CONSISTENCY", "freeze")], &guest), "agent");
    assert_eq!(method(&[("VIRTNBD_FSFREEZE_PATHS", "/data")], &guest), "agent");
    lab.configure(&[("VIRTNBD_FSFREEZE_PATHS", "/nowhere")]);
    assert!(lab.run_well(&guest).report("warnings").contains("/nowhere"));
    lab.configure(&[("CONSISTENCY", "freeze")]);
    let ended = lab.run_well(&bare);
    assert_eq!(ended.report("method"), "running");
    assert!(ended.report("warnings").contains("crash-consistent"), "{ended:#?}");

    let overrides = format!("VM_CONSISTENCY[\"{}\"]=\"pause\"\n", guest.name());
    fs::write(lab.config_dir().join("default/vm_overrides.conf"), overrides).expect("it is ours");
    assert_eq!(lab.run_well(&guest).report("method"), "paused");
    let systems = "SELECT DISTINCT vm_name = ?1, os_type FROM vm_backups ORDER BY 1";
    let systems = systems.replace("?1", &format!("'{}'", guest.name()));
    assert_eq!(lab.ask(&systems), ["0|", "1|linux"]);
    assert_eq!(lab.run_well(&bare).report("method"), "running");
}

#[test]
fn a_windows_guest_gives_its_recovery_keys_to_root_alone() {
    let lab = Lab::configured("bitlocker");
    let vm = lab.booted_vm("guest");
    let said = |text: &str| {
        let data = BASE64.encode(text.replace('\n', "\r\n"));
        format!("printf '{{\"return\":{{\"exited\":true,\"exitcode\":0,\"out-data\":\"{data}\"}}}}\\n' >&3")
    };
    // A German Windows: C is protected, D is not, which only the exit code tells.
    let status = said(
        "Volume \"C:\" [System]\n    Schutzstatus: aktiviert\nVolume \"D:\" []\n    Schutzstatus: aus\n",
    );
    let key = "123456-234567-345678-456789-567890-678901-789012-890123";
    let pid = |pid: u32| format!("printf '{{\"return\":{{\"pid\":{pid}}}}}\\n' >&3");
    let script = format!(
        "*osinfo*) printf '{{\"return\":{{\"id\":\"mswindows\",\"pretty-name\":\"Windows 11\"}}}}\\n' >&3;;\n\
         *exec-status*1*) {status};;\n*exec-status*2*) {};;\n\
         *exec-status*3*) printf '{{\"return\":{{\"exited\":true,\"exitcode\":1}}}}\\n' >&3;;\n\
         *bde*protectors*C:*) {};;\n*bde*protectors*D:*) {};;\n*bde*status*) {};;",
        said(&format!("Kennwort:\n  {key}\n")),
        pid(2),
        pid(3),
        pid(1),
    );
    play_agents(&vm, &[&script]);
    let ended = lab.run_well(&vm);
    assert_eq!(ended.vm()["report"]["os"]["os"], "windows", "{ended:#?}");
    assert!(!ended.log.contains(key) && !format!("{ended:?}").contains(key), "a key reached an output");
    let folder = lab.chain_dir(&vm).join(".tpm-state.virtnbdbackup.0");
    let file = folder.join("bitlocker-recovery-keys.txt");
    let text = fs::read_to_string(&file).expect("the keys are there");
    assert!(text.contains(key) && text.contains("Protected Volumes: 1"), "{text}");
    assert!(text.contains("-protectors -get C:") && !text.contains("-protectors -get D:"), "{text}");
    let mode =
        |path: &std::path::Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
    assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
    // No state of a TPM: restore scripts must not take it for one.
    assert!(!lab.chain_dir(&vm).join("tpm-state").exists());
}

/// Backs up a guest with each of these agents: what it is, how it behaves, and how the guest is held still then.
fn back_up_in_spite_of(lab: &str, agents: &[(&str, &str, &str)]) {
    let lab = Lab::new(lab);
    lab.configure(&[("FSTRIM_TIMEOUT", "2"), ("FREEZE_TIMEOUT", "2")]);
    let vm = lab.booted_vm("guest");
    let scripts: Vec<_> = agents.iter().map(|(_, script, _)| *script).collect();
    play_agents(&vm, &scripts);
    for (number, (what, _, method)) in agents.iter().enumerate() {
        if number > 0 {
            vm.delete_checkpoints();
            fs::remove_dir_all(lab.chain_dir(&vm)).expect("the chain is ours");
            play_next_agent(&vm);
        }
        let began = Instant::now();
        let ended = lab.run_well(&vm);
        assert!(began.elapsed() < Duration::from_secs(150), "{what}: took {:?}", began.elapsed());
        assert_eq!((ended.level().as_str(), vm.state().as_str()), ("full", "running"), "{what}: {ended:#?}");
        assert_eq!(ended.report("method"), *method, "{what}: {ended:#?}");
        assert!(vm.backup_job().is_none(), "{what}");
    }
}

#[test]
fn broken_answers_cost_time_and_nothing_else() {
    let garbage = "*fstrim*|*info*|*freeze-freeze*) printf '{\"return\":[[[{\"x\":\\n' >&3;;";
    let errors = "*fstrim*|*info*|*freeze-freeze*) \
                  printf '{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}\\n' >&3;;";
    let wrong = "*fstrim*|*info*|*freeze-freeze*) printf '{\"return\":\"yes\"}\\n' >&3;;";
    back_up_in_spite_of(
        "broken_agent",
        // libvirt hears no agent any more that has spoken garbage.
        &[("errors", errors, "running"), ("wrong types", wrong, "running"), ("garbage", garbage, "paused")],
    );
}

#[test]
fn an_agent_that_hangs_in_any_call_is_given_up_on() {
    let windows = "*osinfo*) printf '{\"return\":{\"id\":\"mswindows\"}}\\n' >&3;;\n*guest-exec*) ;;";
    back_up_in_spite_of(
        "hanging_agent",
        &[
            ("in osinfo", "*osinfo*) ;;", "paused"),
            ("in fsinfo", "*fsinfo*) ;;", "paused"),
            ("in fstrim", "*fstrim*) ;;", "agent"),
            ("in exec", windows, "agent"),
            ("in freeze", "*freeze-freeze*) ;;", "running"),
            (
                "in thaw",
                "*freeze-freeze*) printf '{\"return\":1}\\n' >&3;;\n*thaw*|*freeze-status*) ;;",
                "agent",
            ),
        ],
    );
}
