//! How a disk's image is opened where its definition says more than a path: a part of a file, a data file, what backs it.
//!
//! libvirt hands QEMU what the definition says, and asks an image's header only where the definition is silent. Whoever
//! reads the disks of a domain that is shut off must do the same, or reads something else than the guest.
//! Must not live here: running programs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use roxmltree::Node;
use serde_json::{Value, json};

use super::image_format::ImageFormat;

/// Which of some files are block devices.
pub type Devices = BTreeSet<PathBuf>;

/// What the definition says of an image beside its path and format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The part of the file that is the image.
    pub slice: Option<Slice>,
    /// The file that holds the content of a qcow2 image.
    pub data_file: Option<PathBuf>,
    /// What is beneath it.
    pub backing: Backing,
}

/// `<slice type='storage'>`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// From here.
    pub offset: u64,
    /// So many.
    pub size: u64,
}

/// What backs an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// What its header names, if anything.
    #[default]
    OfHeader,
    /// Nothing, whatever its header says.
    Nothing,
    Image(Box<Image>),
    /// Something that only QEMU under libvirt can open: what.
    Unreadable(String),
}

/// An image that backs another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// How it is laid out.
    pub format: ImageFormat,
    pub path: PathBuf,
    /// The rest.
    pub layout: Layout,
}

impl Layout {
    /// Reads `<disk>` or `<backingStore>`.
    pub(crate) fn of(element: Node<'_, '_>) -> Self {
        let source = child(element, "source");
        let slices = source.and_then(|source| child(source, "slices"));
        let slice = slices.into_iter().flat_map(|slices| slices.children()).find_map(|slice| {
            let is_storage = slice.has_tag_name("slice") && slice.attribute("type") == Some("storage");
            let number = |name: &str| slice.attribute(name)?.parse().ok();
            is_storage.then(|| Some(Slice { offset: number("offset")?, size: number("size")? }))?
        });
        let store = source.and_then(|source| child(source, "dataStore"));
        let (data_file, refused) = match store.map(path_of) {
            None => (None, None),
            Some(Ok(path)) => (Some(path), None),
            Some(Err(what)) => (None, Some(format!("its data store is {what}"))),
        };
        let backing = refused.map_or_else(|| Backing::of(element), Backing::Unreadable);
        Self { slice, data_file, backing }
    }

    /// What of it only QEMU under libvirt can open.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        match &self.backing {
            Backing::Unreadable(what) => Some(what),
            Backing::Image(image) => image.layout.unreadable(),
            Backing::OfHeader | Backing::Nothing => None,
        }
    }

    /// The files that the definition names, that of the image among them.
    pub(crate) fn files(&self, image: &Path) -> Vec<PathBuf> {
        let below = match &self.backing {
            Backing::Image(below) => below.layout.files(&below.path),
            _ => vec![],
        };
        std::iter::once(image.to_owned()).chain(self.data_file.clone()).chain(below).collect()
    }

    /// QEMU's node (`BlockdevOptions`) of an image that is laid out so.
    pub(crate) fn node(&self, driver: &str, image: &Path, devices: &Devices) -> Value {
        let mut file = file_node(image, devices);
        if let Some(Slice { offset, size }) = self.slice {
            file = json!({ "driver": "raw", "offset": offset, "size": size, "file": file });
        }
        let mut node = json!({ "driver": driver, "file": file });
        if let Some(data_file) = &self.data_file {
            node["data-file"] = file_node(data_file, devices);
        }
        match &self.backing {
            // Only these have something beneath.
            _ if driver != ImageFormat::Qcow2.as_str() => {}
            Backing::OfHeader | Backing::Unreadable(_) => {}
            Backing::Nothing => node["backing"] = Value::Null,
            Backing::Image(below) => {
                node["backing"] = below.layout.node(below.format.as_str(), &below.path, devices);
            }
        }
        node
    }
}

impl Backing {
    fn of(element: Node<'_, '_>) -> Self {
        let Some(store) = child(element, "backingStore") else { return Self::OfHeader };
        // An empty element is the end of the chain.
        if store.attribute("type").is_none() && child(store, "source").is_none() {
            return Self::Nothing;
        }
        let path = match path_of(store) {
            Ok(path) => path,
            Err(what) => return Self::Unreadable(format!("what backs it is {what}")),
        };
        let format = match child(store, "format").and_then(|format| format.attribute("type")) {
            Some("qcow2") => ImageFormat::Qcow2,
            Some("raw") | None => ImageFormat::Raw,
            Some(other) => return Self::Unreadable(format!("what backs it has the format {other}")),
        };
        Self::Image(Box::new(Image { format, path, layout: Layout::of(store) }))
    }
}

/// The file or block device of a `<backingStore>` or `<dataStore>`, or what else it is.
fn path_of(store: Node<'_, '_>) -> Result<PathBuf, String> {
    let kind = store.attribute("type").unwrap_or("file");
    let key = match kind {
        "file" => "file",
        "block" => "dev",
        other => return Err(format!("of type '{other}'")),
    };
    let source = child(store, "source").ok_or("without a source")?;
    if child(source, "encryption").is_some() {
        return Err("encrypted".to_owned());
    }
    source.attribute(key).map(PathBuf::from).ok_or_else(|| "without a path".to_owned())
}

fn child<'a, 'i>(node: Node<'a, 'i>, tag: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(tag))
}

/// QEMU's node of a file or block device itself.
pub(crate) fn file_node(path: &Path, devices: &Devices) -> Value {
    let driver = if devices.contains(path) { "host_device" } else { "file" };
    json!({ "driver": driver, "filename": path.to_string_lossy() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(inside: &str) -> Layout {
        let xml = format!("<disk>{inside}</disk>");
        let document = roxmltree::Document::parse(&xml).unwrap();
        Layout::of(document.root_element())
    }

    #[test]
    fn the_definition_says_what_qemu_opens() {
        let file = |path: &str| json!({ "driver": "file", "filename": path });
        let silent = json!({ "driver": "qcow2", "file": file("/i/top") });
        let with = |key: &str, value: Value| {
            let mut node = silent.clone();
            node[key] = value;
            node
        };
        let raw = json!({ "driver": "raw", "file": file("/i/b") });
        let low = json!({ "driver": "qcow2", "file": file("/i/m"), "backing": raw });
        let part = json!({ "driver": "raw", "offset": 512, "size": 1024, "file": file("/i/top") });
        let cases = [
            ("<source file='/i/top'/>", silent.clone()),
            ("<source file='/i/top'/><backingStore/>", with("backing", Value::Null)),
            (
                "<backingStore type='file'><format type='qcow2'/><source file='/i/m'/><backingStore type='file'>\
                 <format type='raw'/><source file='/i/b'/></backingStore></backingStore>",
                with("backing", low),
            ),
            (
                "<source file='/i/top'><slices><slice type='storage' offset='512' size='1024'/></slices></source>",
                with("file", part),
            ),
            (
                "<source file='/i/top'><dataStore type='file'><format type='raw'/><source file='/i/d'/></dataStore></source>",
                with("data-file", file("/i/d")),
            ),
        ];
        for (inside, want) in cases {
            let layout = layout(inside);
            assert_eq!(layout.node("qcow2", Path::new("/i/top"), &Devices::new()), want, "{inside}");
            assert_eq!(layout.unreadable(), None, "{inside}");
        }
        let refused = [
            ("<backingStore type='network'><source protocol='nbd'/></backingStore>", "of type 'network'"),
            ("<backingStore type='file'><format type='vmdk'/><source file='/i/m'/></backingStore>", "vmdk"),
            (
                "<backingStore type='file'><format type='raw'/><source file='/i/m'><encryption/></source></backingStore>",
                "encrypted",
            ),
            ("<source file='/i/t'><dataStore type='nvme'/></source>", "its data store is of type 'nvme'"),
        ];
        for (inside, want) in refused {
            let layout = layout(inside);
            assert!(layout.unreadable().is_some_and(|what| what.contains(want)), "{inside}: {layout:?}");
        }
    }
}
