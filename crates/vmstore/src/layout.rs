//! Names of folders in a backup path, as the Bash program has them. Which of them are VMs' is told by [`is_vm_folder`], and
//! nowhere else.

pub use vmstream::chain::folders::{
    ARCHIVES, HOST_CONFIG, RESERVED, STATE, TPM_STATE, is_of_storage, is_vm_folder,
};

/// How the name of a folder begins that is being removed.
pub const DELETING: &str = ".deleting-";

/// A file of the Bash program's beside a chain: the period of the default policy in which a backup was last made there.
pub const FULL_BACKUP_MONTH: &str = ".full-backup-month";

/// Another: whether the guest's agent answered when it ran last, `yes` or `no`.
pub const AGENT_STATUS: &str = ".agent-status";

/// Bytes of a folder's name. libvirt takes names of 247 bytes; what is called after the folder has longer ones.
const FOLDER_BYTES: usize = 240;

/// Bytes of a portable name, which is a part of longer ones.
const PORTABLE_BYTES: usize = 200;

/// The folder of a domain in a backup path: every character outside `[A-Za-z0-9._-]` becomes `_`, as in the Bash program.
///
/// Two kinds of names have another folder than there: a dot at the beginning becomes `_` too (a folder with one is no VM's),
/// and the end of a name that is too long for the files that are called after it becomes a number made of the name. The
/// folder of a folder's name is that folder.
pub fn folder_name(domain: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut folder: String = domain.chars().map(|c| if keep(c) { c } else { '_' }).collect();
    if folder.starts_with('.') {
        folder.replace_range(..1, "_");
    }
    if folder.len() > FOLDER_BYTES { shortened(&folder, domain, FOLDER_BYTES) } else { folder }
}

/// A domain's name without what some file systems refuse in names (FAT, exFAT, NTFS, many SMB servers), and not too long for
/// any: `a:b` becomes `a%3Ab`. `None` for a name that they take as it is.
pub fn portable_name(domain: &str) -> Option<String> {
    let refused =
        |c: char| c.is_control() || matches!(c, ':' | '*' | '?' | '"' | '<' | '>' | '|' | '\\' | '/');
    let escaped =
        |c: char| if refused(c) || c == '%' { format!("%{:02X}", u32::from(c)) } else { c.to_string() };
    let name: String = match domain.contains(refused) {
        true => domain.chars().map(escaped).collect(),
        false if domain.len() <= PORTABLE_BYTES => return None,
        false => domain.to_owned(),
    };
    Some(if name.len() > PORTABLE_BYTES { shortened(&name, domain, PORTABLE_BYTES) } else { name })
}

/// The beginning of a name, and a number that tells it from others which begin so: of `of`.
fn shortened(name: &str, of: &str, bytes: usize) -> String {
    let number = format!("-{:016x}", fnv(of.as_bytes()));
    let end = (0..=bytes - number.len()).rfind(|end| name.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{number}", &name[..end])
}

/// FNV-1a, 64 bits: the same in every version of this program, as names on disk have to be.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_as_the_bash_program_does() {
        for (name, want) in [("web-1.example_a", "web-1.example_a"), ("web 1", "web_1"), ("büro/x", "b_ro_x")]
        {
            assert_eq!(folder_name(name), want);
        }
    }

    #[test]
    fn every_name_has_a_folder_that_is_a_vms_and_leaves_room_for_the_files_called_after_it() {
        for (name, want) in
            [(".hidden", "_hidden"), ("..", "_."), (".", "_"), ("🦀", "_"), ("übung", "_bung")]
        {
            assert_eq!(folder_name(name), want);
        }
        let [as_it_is, long, other] = ["a".repeat(240), "a".repeat(247), format!("{}b", "a".repeat(246))];
        assert_eq!(folder_name(&as_it_is), as_it_is);
        assert_eq!(folder_name(&long).len(), 240);
        assert_ne!(folder_name(&long), folder_name(&other));
        assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c, "names on disk stay");
        for name in [".hidden", "..", "web 1", &long, &"ü".repeat(123), &"\u{7}".repeat(300)] {
            let folder = folder_name(name);
            assert!(is_vm_folder(folder.as_ref()), "{folder}");
            assert_eq!(folder_name(&folder), folder);
        }
    }

    #[test]
    fn names_that_some_file_systems_refuse_have_another_form() {
        for (name, want) in
            [("web 1.a", None), ("100%", None), ("a:b", Some("a%3Ab")), ("a?%", Some("a%3F%25"))]
        {
            assert_eq!(portable_name(name).as_deref(), want, "{name}");
        }
        let [long, other, colons] = ["ü".repeat(123), format!("{}a", "ü".repeat(122)), ":".repeat(100)];
        for name in [&long, &other, &colons] {
            let portable = portable_name(name).unwrap();
            assert!((190..=200).contains(&portable.len()), "{portable}");
            assert!(portable_name(&portable).is_none());
        }
        assert_ne!(portable_name(&long), portable_name(&other));
    }
}
