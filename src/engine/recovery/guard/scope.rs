//! The guard's own place in systemd: a transient scope.
//!
//! A unit that is frozen, stopped or killed takes along every process in its control group, whatever their sessions. The
//! guard is needed exactly then, so where systemd runs it asks for a scope of its own.
//!
//! Source: `StartTransientUnit` in org.freedesktop.systemd1(5), systemd.scope(5).

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// Is there where systemd is the host's manager. Source: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// Asks for a scope for this process, beside everything else. Without systemd, or when it refuses, the guard stays where
/// it is.
pub(super) fn move_to_own() {
    if !Path::new(BOOTED).exists() {
        return;
    }
    let pid = std::process::id();
    let ask = move || {
        let mut busctl = Command::new("busctl");
        busctl.args(arguments(pid)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = busctl.status();
    };
    let _ = thread::Builder::new().name("scope".into()).spawn(ask);
}

/// Properties are name, signature, value. At shutdown the scope need not be waited for long: the VMs end too.
fn arguments(pid: u32) -> Vec<String> {
    let call = "--system --timeout=10 call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
                org.freedesktop.systemd1.Manager StartTransientUnit ssa(sv)a(sa(sv))";
    let unit = format!("kvm-guest-guard-{pid}.scope fail 4");
    let properties = format!("PIDs au 1 {pid} TimeoutStopUSec t 10000000 CollectMode s inactive-or-failed");
    let mut words: Vec<String> = [call, &unit, &properties]
        .iter()
        .flat_map(|part| part.split_whitespace())
        .map(str::to_owned)
        .collect();
    words.extend(["Description", "s", "Sets guests free when their backup dies", "0"].map(str::to_owned));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_property_has_a_signature_and_a_value() {
        let words = arguments(42);
        let at = words.iter().position(|word| word == "fail").expect("the mode");
        assert_eq!(words[at - 1], "kvm-guest-guard-42.scope");
        assert_eq!(words[at - 2], "ssa(sv)a(sa(sv))");
        let rest: Vec<&str> = words[at + 1..].iter().map(String::as_str).collect();
        let want = ["4", "PIDs", "au", "1", "42", "TimeoutStopUSec", "t", "10000000", "CollectMode", "s"];
        assert_eq!(rest[..10], want);
        assert_eq!(
            rest[10..],
            ["inactive-or-failed", "Description", "s", "Sets guests free when their backup dies", "0"]
        );
    }
}
