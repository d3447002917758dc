//! What the header of a qcow2 image tells that `qemu-img` does not.
//!
//! Source: QEMU `docs/interop/qcow2.rst`.

const MAGIC: &[u8] = b"QFI\xfb";

/// Where the fields end that every header of version 3 can have.
const FIXED_FIELDS: usize = 112;

/// Where the length of a header of version 3 is.
const HEADER_LENGTH_AT: usize = 100;

const BITMAPS_EXTENSION: u32 = 0x2385_2875;

/// The fixed fields of a file that begins so. `None` when it is no qcow2 image.
pub(crate) fn fixed_fields(head: &[u8]) -> Option<&[u8]> {
    head.starts_with(MAGIC).then(|| &head[..head.len().min(FIXED_FIELDS)])
}

/// Whether an image of version 3 that begins so has bitmaps, or had some that count no more, because a program that
/// knows none has cleared their mark.
pub(crate) fn names_bitmaps(head: &[u8]) -> bool {
    let number = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let Some(mut at) = fixed_fields(head).and(number(HEADER_LENGTH_AT)).map(|len| len as usize) else {
        return false;
    };
    while let (Some(kind @ 1..), Some(len)) = (number(at), number(at + 4)) {
        if kind == BITMAPS_EXTENSION {
            return true;
        }
        at += 8 + (len as usize).next_multiple_of(8);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_bitmaps_behind_other_extensions() {
        let header = |extensions: &[(u32, &[u8])]| {
            let mut head = [MAGIC, &[0; FIXED_FIELDS - 4]].concat();
            head[HEADER_LENGTH_AT..][..4].copy_from_slice(&(FIXED_FIELDS as u32).to_be_bytes());
            for (kind, content) in extensions {
                head.extend_from_slice(&kind.to_be_bytes());
                head.extend_from_slice(&(content.len() as u32).to_be_bytes());
                head.extend_from_slice(content);
                head.resize(head.len().next_multiple_of(8), 0);
            }
            head.extend_from_slice(&[0; 8]);
            head
        };
        let (format, bitmaps) = ((0xe279_2aca, &b"qcow2"[..]), (BITMAPS_EXTENSION, &[0; 24][..]));
        assert!(names_bitmaps(&header(&[bitmaps])) && names_bitmaps(&header(&[format, bitmaps])));
        assert!(!names_bitmaps(&header(&[format])) && !names_bitmaps(&header(&[])));
        // No image, one that ends early, one that leads beyond its end.
        let mut beyond = header(&[]);
        beyond[HEADER_LENGTH_AT..][..4].copy_from_slice(&[0xff; 4]);
        for head in [&b"raw"[..], &header(&[bitmaps])[..114], &beyond] {
            assert!(!names_bitmaps(head));
        }
    }
}
