//! What libvirt and QEMU say of bitmaps, of which no error number tells.
//!
//! Lives here: every text of theirs that a decision rests on, and the versions that it was seen in.
//! Must not live here: what follows from it.

/// What a message says of a bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// QEMU has a bitmap of the name that was to be made.
    BitmapExists,
    /// An image of the disk lacks the checkpoint's bitmap, so libvirt deletes none of the checkpoint's.
    BitmapNotFound,
    /// Anything else that is wrong with a bitmap.
    OfBitmap,
    /// Nothing of bitmaps.
    Other,
}

impl Said {
    /// Texts of QEMU 10.0.2 and libvirt 11.3.0.
    pub(super) fn of(message: &str) -> Self {
        let texts = [
            ("Bitmap already exists", Self::BitmapExists),
            ("not found in backing chain", Self::BitmapNotFound),
            // Both write it with a large letter, and with a small one.
            ("itmap", Self::OfBitmap),
        ];
        texts.iter().find(|(text, _)| message.contains(text)).map_or(Self::Other, |(_, said)| *said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_of_one_kind() {
        let command = "internal error: unable to execute QEMU command 'transaction': ";
        let of_command = |text: &str| Said::of(&format!("{command}{text}"));
        assert_eq!(of_command("Bitmap already exists: virtnbdbackup.1"), Said::BitmapExists);
        let missing = "invalid argument: bitmap 'virtnbdbackup.0' not found in backing chain of 'vda'";
        assert_eq!(Said::of(missing), Said::BitmapNotFound);
        let broken = "checkpoint inconsistent: missing or broken bitmap 'virtnbdbackup.0' for disk 'vda'";
        assert_eq!(Said::of(broken), Said::OfBitmap);
        assert_eq!(of_command("Bitmap 'virtnbdbackup.0' is inconsistent and cannot be used"), Said::OfBitmap);
        assert_eq!(of_command("Dirty bitmap 'virtnbdbackup.0' not found"), Said::OfBitmap);
        assert_eq!(of_command("Could not create file: No space left on device"), Said::Other);
        assert_eq!(Said::of("Domain not found: no domain with matching name 'web'"), Said::Other);
    }
}
