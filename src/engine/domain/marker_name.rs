//! The names of markers: `vmbackup-chain-ID.TARGET`, and what a bitmap of such a name says of the image that bears it.
//!
//! Must not live here: placing and removing chain markers, and what they are for (`snapshot::chain_marker`).

/// What the name of every chain marker begins with.
pub(crate) const PREFIX: &str = "vmbackup-chain-";

/// What the bitmaps of an image say of its place in a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Testimony {
    /// It is the image of the disk, as far as they know.
    Own,
    /// It is the image of this other disk.
    Other(String),
    /// It is none of the chain's.
    None,
}

/// Asks the bitmaps of the image of a disk.
pub(crate) fn testimony(chain_id: &str, target: &str, bitmaps: &[String]) -> Testimony {
    let of_chain = bitmaps.iter().filter_map(|name| name.strip_prefix(&of_any_disk(chain_id)));
    let mut other = None;
    for rest in of_chain {
        match rest.strip_prefix('.') {
            Some(disk) if disk == target => return Testimony::Own,
            Some(disk) => other = Some(disk.to_owned()),
            None if rest.is_empty() => return Testimony::Own,
            None => {}
        }
    }
    other.map_or(Testimony::None, Testimony::Other)
}

/// What the chain marker of a chain is called in the image of a disk.
pub(crate) fn bitmap_name(chain_id: &str, target: &str) -> String {
    format!("{PREFIX}{chain_id}.{target}")
}

/// What it was called before 0.6.
pub(crate) fn of_any_disk(chain_id: &str) -> String {
    format!("{PREFIX}{chain_id}")
}

/// The id of the chain that a bitmap is the chain marker of.
pub(crate) fn id_in(bitmap: &str) -> Option<&str> {
    let rest = bitmap.strip_prefix(PREFIX)?;
    Some(rest.split_once('.').map_or(rest, |(id, _)| id))
}

/// Whether a name is that of a chain marker.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() > PREFIX.len() && name.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_tells_whose_it_is() {
        let cases: [(&str, &[&str], Testimony); 7] = [
            ("nothing", &["virtnbdbackup.0"], Testimony::None),
            ("its own", &["vmbackup-chain-1-2.vda"], Testimony::Own),
            ("an old one", &["vmbackup-chain-1-2"], Testimony::Own),
            ("another disk's", &["vmbackup-chain-1-2.vdb"], Testimony::Other("vdb".into())),
            (
                "both, since it was moved",
                &["vmbackup-chain-1-2.vdb", "vmbackup-chain-1-2.vda"],
                Testimony::Own,
            ),
            ("another chain's", &["vmbackup-chain-1-23.vdb", "vmbackup-chain-1-1.vda"], Testimony::None),
            ("a longer target", &["vmbackup-chain-1-2.vdab"], Testimony::Other("vdab".into())),
        ];
        for (case, bitmaps, want) in cases {
            let bitmaps: Vec<String> = bitmaps.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(testimony("1-2", "vda", &bitmaps), want, "{case}");
        }
        assert_eq!(id_in("vmbackup-chain-1-2.vda"), Some("1-2"));
        assert_eq!(id_in("vmbackup-chain-1-2"), Some("1-2"));
        assert_eq!(id_in("virtnbdbackup.0"), None);
    }
}
