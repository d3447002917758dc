//! What the daemon keeps on disk: secrets, network filters, networks, storage pools, domains.

use roxmltree::Document;
use strum::{IntoStaticStr, VariantArray};
use virt::connect::Connect;
use virt::error::Error;
use virt_sys as sys;

use super::{Host, LibvirtError};

/// What is defined. In an order in which it can be defined again: what others name comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", suffix = "s")]
pub enum DefinitionKind {
    /// A secret: what it is for, never its value.
    Secret,
    /// A network filter.
    NwFilter,
    /// A virtual network.
    Network,
    /// A storage pool.
    Pool,
    Domain,
}

impl DefinitionKind {
    /// All of them, as a word.
    pub fn plural(self) -> &'static str {
        self.into()
    }
}

/// One persistent definition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Definition {
    /// Its name; of a secret its UUID.
    pub name: String,
    /// The persistent XML, which defines it again. Of a domain with what libvirt shows only to those who may write.
    pub xml: String,
    /// Whether the daemon starts it; `None` for what is never started.
    pub autostart: Option<bool>,
}

impl Host {
    /// The persistent definitions of one kind, sorted by name. What vanishes meanwhile is left out.
    pub fn definitions(&self, kind: DefinitionKind) -> Result<Vec<Definition>, LibvirtError> {
        let mut found =
            self.with(&format!("read the definitions of its {}", kind.plural()), |on| read(on, kind))?;
        found.sort();
        Ok(found)
    }
}

fn read(connection: &Connect, kind: DefinitionKind) -> Result<Vec<Definition>, Error> {
    let of = |name, xml, autostart| Definition { name, xml, autostart };
    match kind {
        DefinitionKind::Secret => {
            let all = connection.list_all_secrets(sys::VIR_CONNECT_LIST_SECRETS_NO_EPHEMERAL)?;
            each(&all, |one| Ok(of(one.uuid_string()?, one.xml_desc(0)?, None)))
        }
        DefinitionKind::NwFilter => {
            let all = connection.list_all_nw_filters(0)?;
            each(&all, |one| Ok(of(one.name()?, one.xml_desc(0)?, None)))
        }
        DefinitionKind::Network => {
            let all = connection.list_all_networks(sys::VIR_CONNECT_LIST_NETWORKS_PERSISTENT)?;
            each(&all, |one| {
                let xml = one.xml_desc(sys::VIR_NETWORK_XML_INACTIVE)?;
                Ok(of(one.name()?, xml, Some(one.autostart()?)))
            })
        }
        DefinitionKind::Pool => {
            let all = connection.list_all_storage_pools(sys::VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT)?;
            each(&all, |one| {
                let xml = one.xml_desc(sys::VIR_STORAGE_XML_INACTIVE)?;
                Ok(of(one.name()?, without_usage(&xml), Some(one.autostart()?)))
            })
        }
        DefinitionKind::Domain => {
            let all = connection.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_PERSISTENT)?;
            let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
            each(&all, |one| Ok(of(one.name()?, one.xml_desc(flags)?, Some(one.autostart()?))))
        }
    }
}

fn each<T>(all: &[T], read: impl Fn(&T) -> Result<Definition, Error>) -> Result<Vec<Definition>, Error> {
    let gone = [
        sys::VIR_ERR_NO_SECRET,
        sys::VIR_ERR_NO_NWFILTER,
        sys::VIR_ERR_NO_NETWORK,
        sys::VIR_ERR_NO_STORAGE_POOL,
        sys::VIR_ERR_NO_DOMAIN,
    ];
    let is_there = |read: &Result<Definition, Error>| !matches!(read, Err(error) if gone.contains(&error.code().to_raw()));
    all.iter().map(read).filter(is_there).collect()
}

/// A pool's XML without how full the pool is, which is no part of its definition and changes all the time.
///
/// Source: virStoragePoolDefFormat writes the three elements also for VIR_STORAGE_XML_INACTIVE, and ignores them when a
/// pool is defined.
fn without_usage(xml: &str) -> String {
    let Ok(document) = Document::parse(xml) else { return xml.to_owned() };
    let is_usage = |name: &str| matches!(name, "capacity" | "allocation" | "available");
    let children = document.root_element().children().filter(|node| is_usage(node.tag_name().name()));
    let mut text = xml.to_owned();
    let ranges: Vec<_> = children.map(|node| node.range()).collect();
    for range in ranges.into_iter().rev() {
        // With the white space that leads to it.
        let begin = text[..range.start].trim_end().len();
        text.replace_range(begin..range.end, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_name_folders() {
        let words: Vec<_> = DefinitionKind::VARIANTS.iter().map(|kind| kind.plural()).collect();
        assert_eq!(words, ["secrets", "nwfilters", "networks", "pools", "domains"]);
    }

    #[test]
    fn how_full_a_pool_is_is_no_part_of_its_definition() {
        let pool = |usage: &str| {
            format!("<pool type='dir'>\n  <name>a</name>{usage}\n  <source>\n  </source>\n</pool>\n")
        };
        let usage = "\n  <capacity unit='bytes'>9</capacity>\n  <allocation unit='bytes'>5</allocation>\n  <available unit='bytes'>4</available>";
        assert_eq!(without_usage(&pool(usage)), pool(""));
        assert_eq!(without_usage(&pool("")), pool(""));
        assert_eq!(without_usage("<pool"), "<pool");
    }
}
