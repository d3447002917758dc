//! Names of folders in a backup path, as the Bash program has them. Which of them are VMs' is told by [`is_vm_folder`], and
//! nowhere else.

pub use vmstream::chain::folders::{ARCHIVES, HOST_CONFIG, RESERVED, STATE, TPM_STATE, is_vm_folder};

/// How the name of a folder begins that is being removed.
pub const DELETING: &str = ".deleting-";

/// The folder of a domain in a backup path: every character outside `[A-Za-z0-9._-]` becomes `_`, as in the Bash program.
pub fn folder_name(domain: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    domain.chars().map(|c| if keep(c) { c } else { '_' }).collect()
}

/// A domain's name without what some file systems refuse in names (FAT, exFAT, NTFS, many SMB servers): `a:b` becomes `a%3Ab`.
/// `None` for a name that they take as it is.
pub fn portable_name(domain: &str) -> Option<String> {
    let refused =
        |c: char| c.is_control() || matches!(c, ':' | '*' | '?' | '"' | '<' | '>' | '|' | '\\' | '/');
    if !domain.contains(refused) {
        return None;
    }
    let escaped =
        |c: char| if refused(c) || c == '%' { format!("%{:02X}", u32::from(c)) } else { c.to_string() };
    Some(domain.chars().map(escaped).collect())
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
    fn names_that_some_file_systems_refuse_have_another_form() {
        for (name, want) in
            [("web 1.a", None), ("100%", None), ("a:b", Some("a%3Ab")), ("a?%", Some("a%3F%25"))]
        {
            assert_eq!(portable_name(name).as_deref(), want, "{name}");
        }
    }
}
