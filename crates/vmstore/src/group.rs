//! The group that backups belong to, on this host: looked for in its files and services, and made where it is missing.
//!
//! Must not live here: what belongs to it (`ownership`).

use std::fs;
use std::time::Duration;

use vmprogram::{NEVER, Program};

use crate::Ownership;

/// The group's name, and its number on Debian.
const GROUP: &str = "backup";
const GROUP_NUMBER: u32 = 34;

/// How long another service of the host may take to tell a group: the network may be down.
const LIMIT: Duration = Duration::from_secs(20);

/// The owner of the backups, if this host has the group. Touches nothing.
pub fn known_owner() -> Option<Ownership> {
    let local = group_in(&fs::read_to_string("/etc/group").unwrap_or_default());
    local.or_else(group_of_services).map(Ownership::of_group)
}

/// Finds the group, and creates it where it is missing.
///
/// # Errors
/// What to tell people when there is no such group and none can be made. Backups then belong to whoever makes them.
pub fn owner_on_host() -> Result<Ownership, String> {
    if let Some(known) = known_owner() {
        return Ok(known);
    }
    let (number, name) = (GROUP_NUMBER.to_string(), GROUP);
    let with_number: &[&str] = &["--system", "--gid", &number, name];
    let made = [with_number, &["--system", name]].iter().any(|arguments| succeeds("groupadd", arguments));
    known_owner().filter(|_| made).ok_or_else(|| {
        format!("There is no group '{GROUP}' and none could be made (groupadd --system --gid {number} {name}): backups stay with the group of this process")
    })
}

/// The number of the group in the text of `/etc/group`.
fn group_in(groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(GROUP);
        fields.nth(1).filter(|_| found)?.parse().ok()
    })
}

/// The number of a group that another service of the host knows, such as LDAP.
fn group_of_services() -> Option<u32> {
    let output = Program::new("getent").args(["group", GROUP]).run(LIMIT, NEVER).ok()?;
    group_in(&String::from_utf8_lossy(&output.stdout))
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Program::new(program).args(arguments).run(LIMIT, NEVER).is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_by_its_exact_name() {
        assert_eq!(group_in("root:x:0:\nbackup:x:34:\n"), Some(34));
        assert_eq!(group_in("backups:x:35:\nmybackup:x:36:\nbackup:x:1034:a,b\n"), Some(1034));
        assert_eq!(group_in("backup:x\nbackup2:x:1:"), None);
    }
}
