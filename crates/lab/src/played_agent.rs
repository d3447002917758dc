//! A program in the place of a guest's agent, which speaks its protocol as badly as a test wants.

use std::time::Duration;

use serde_json::json;

use super::Vm;

/// Puts programs in the agent's place, and starts the first. Each is a part of a shell `case` on the line in `$line`; pings
/// and synchronisation are answered.
pub fn play_agents(vm: &Vm, scripts: &[&str]) {
    for (number, script) in scripts.iter().enumerate() {
        let next = number + 1;
        // The port can be opened once: who comes next inherits it.
        let player = format!(
            "#!/bin/sh\n[ \"$1\" = inherit ] || exec 3<>\"$4\"\nwhile :; do\n\
             read -r line <&3 || {{ usleep 50000; continue; }}\nline=$(printf %s \"$line\" | tr -d '\\377')\n\
             case $line in\n\
             *sync*) id=$(printf %s \"${{line##*id}}\" | tr -cd 0-9); printf '{{\"return\":%s}}\\n' \"$id\" >&3;;\n\
             *lab-next*) printf '{{\"return\":{{}}}}\\n' >&3; exec /player-{next} inherit;;\n\
             {script}\n*guest-ping*) printf '{{\"return\":{{}}}}\\n' >&3;;\n\
             *status*) printf '{{\"return\":\"thawed\"}}\\n' >&3;;\n*) printf '{{\"return\":0}}\\n' >&3;;\nesac\ndone\n"
        );
        let encoded: String = player.bytes().map(|byte| format!("\\\\0{byte:03o}")).collect();
        let file = format!("/player-{number}");
        let install = format!("printf '%b' \"{encoded}\" >{file} && chmod 755 {file}");
        assert_eq!(vm.guest_exec(&install).0, 0);
    }
    assert_eq!(vm.guest_exec("cp /player-0 /player && mv /player /usr/sbin/qemu-ga").0, 0);
    vm.guest_spawn("sleep 0.3; kill $(pidof qemu-ga)");
    std::thread::sleep(Duration::from_secs(2));
    vm.wait_for_agent();
}

/// Lets the next program go on in the place of the one that plays the agent.
pub fn play_next_agent(vm: &Vm) {
    vm.agent("lab-next", json!({})).expect("the program hears it");
    vm.wait_for_agent();
}
