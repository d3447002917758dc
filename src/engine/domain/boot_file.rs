//! The files that a domain boots from.

use std::path::PathBuf;

use roxmltree::Node;

use super::element::{child, children};

/// A file the domain boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    /// Its absolute path.
    pub path: PathBuf,
    pub role: BootRole,
}

/// What a file is at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootRole {
    /// The UEFI variables of this domain: the guest writes them.
    Nvram,
    /// What the NVRAM is made from when there is none.
    NvramTemplate,
    /// Loader, kernel, initrd and the like: the guest does not write them.
    Fixed,
}

/// Loader, NVRAM with its template, kernel, initrd, and the tables and trees that go with them.
pub(super) fn boot_files(os: Node<'_, '_>) -> Vec<BootFile> {
    // A path is the element's text, or stands in a source of its own: `<nvram type='file'><source file='…'/></nvram>`.
    let path = |node: Node<'_, '_>| {
        let source = child(node, "source").and_then(|s| s.attribute("file").or(s.attribute("dev")));
        source.or(node.text()).map(|path| path.trim().to_owned())
    };
    let nvram = child(os, "nvram");
    let template = nvram.and_then(|n| n.attribute("template")).map(str::to_owned);
    let fixed = ["loader", "kernel", "initrd", "dtb", "shim"].into_iter().filter_map(|tag| child(os, tag));
    let tables = child(os, "acpi").into_iter().flat_map(|acpi| children(acpi, "table"));
    let roles = [(nvram.and_then(path), BootRole::Nvram), (template, BootRole::NvramTemplate)];
    let fixed = fixed.chain(tables).map(|node| (path(node), BootRole::Fixed));
    let files = fixed.chain(roles).filter_map(|(path, role)| Some(BootFile { path: path?.into(), role }));
    files.filter(|file| file.path.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::domain::facts::parse_domain;

    #[test]
    fn finds_the_files_a_domain_boots_from() {
        let of = |os: &str| {
            let facts = parse_domain(&format!("<domain><os>{os}</os></domain>")).unwrap();
            let line = |file: &BootFile| format!("{} {:?}", file.path.display(), file.role);
            facts.boot_files.iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            of("<loader readonly='yes' type='pflash'>/c.fd</loader><nvram template='/t.fd'>/n.fd</nvram>"),
            ["/c.fd Fixed", "/n.fd Nvram", "/t.fd NvramTemplate"]
        );
        assert_eq!(
            of("<kernel>/k</kernel><initrd> /i </initrd><acpi><table type='slic'>/s</table></acpi>"),
            ["/k Fixed", "/i Fixed", "/s Fixed"]
        );
        assert_eq!(of("<nvram type='file'><source file='/n'/></nvram>"), ["/n Nvram"]);
        assert_eq!(of("<loader>hvmloader</loader><nvram type='network'><source name='x'/></nvram>"), [""; 0]);
    }
}
