//! BitLocker recovery keys of a Windows guest, asked for through its agent.
//!
//! They are secrets: no buffer is left behind, nothing of them reaches a log or an error text. The words that Windows
//! prints depend on its language, so only letters of volumes and exit codes decide, and English words where they are
//! known.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Zoned;
use zeroize::Zeroizing;

use super::{AgentError, Guest};

const MANAGE_BDE: &str = r"C:\Windows\System32\manage-bde.exe";

/// Whether a volume is protected, as far as the status tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    On,
    Off,
    /// Windows speaks another language.
    Unclear,
}

/// The text of `bitlocker-recovery-keys.txt`. `None` when the guest runs no Windows or protects no volume.
///
/// `limit` is for each of the programs that are run in the guest: one for the status, and one for each volume.
pub fn recovery_keys(
    guest: &Guest<'_>,
    limit: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Zeroizing<Vec<u8>>>, AgentError> {
    if !guest.is_windows() {
        return Ok(None);
    }
    let agent = &guest.agent;
    let status = agent.run(MANAGE_BDE, &["-status"], limit, stop)?;
    let mut found = Vec::new();
    for (letter, protection) in volumes(&status) {
        if protection == Protection::Off {
            continue;
        }
        match agent.run(MANAGE_BDE, &["-protectors", "-get", &format!("{letter}:")], limit, stop) {
            Ok(protectors) => found.push((letter, Some(protectors))),
            // What it says of a volume without protectors.
            Err(AgentError::Program { .. }) if protection == Protection::Unclear => {}
            Err(AgentError::Program { .. }) => found.push((letter, None)),
            Err(error) => return Err(error),
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    Ok(Some(text(agent.domain().name(), &status, &found)))
}

/// The volumes that a status lists: a line that begins one stands at the left margin and has a letter with a colon;
/// what is said of it is indented.
fn volumes(status: &[u8]) -> BTreeMap<char, Protection> {
    let mut volumes = BTreeMap::new();
    let mut current = None;
    for line in status.split(|byte| *byte == b'\n') {
        let indented = line.first().is_some_and(u8::is_ascii_whitespace);
        if !indented {
            if let Some(letter) = volume_letter(line) {
                current = Some(letter);
                volumes.entry(letter).or_insert(Protection::Unclear);
            }
        } else if let Some(protection) = current.and_then(|letter| volumes.get_mut(&letter)) {
            let says = |words: &[u8]| line.windows(words.len()).any(|part| part == words);
            if says(b"Protection On") {
                *protection = Protection::On;
            } else if says(b"Protection Off") {
                *protection = Protection::Off;
            }
        }
    }
    volumes
}

/// The letter in `Volume C: [System]`: one that stands alone before a colon, and the colon ends the word.
fn volume_letter(line: &[u8]) -> Option<char> {
    let word = |byte: Option<&u8>| {
        byte.is_some_and(|b| b.is_ascii_alphanumeric() || !b.is_ascii() || b"/\\.".contains(b))
    };
    let at = (1..line.len()).find(|&at| {
        line[at] == b':'
            && line[at - 1].is_ascii_alphabetic()
            && !word(at.checked_sub(2).and_then(|before| line.get(before)))
            && !word(line.get(at + 1))
    })?;
    Some(char::from(line[at - 1]).to_ascii_uppercase())
}

/// Everything in one buffer that never grows: growing would leave copies behind.
fn text(vm: &str, status: &[u8], found: &[(char, Option<Zeroizing<Vec<u8>>>)]) -> Zeroizing<Vec<u8>> {
    let count = found.iter().filter(|(_, protectors)| protectors.is_some()).count();
    let head = format!(
        "BitLocker Recovery Keys\nVM: {vm}\nExtracted: {}\nProtected Volumes: {count}\n{}\n\n=== manage-bde -status ===\n",
        Zoned::now().strftime("%Y-%m-%d %H:%M:%S"),
        "=".repeat(40),
    );
    let mut parts: Vec<(String, &[u8])> = vec![(head, status)];
    for (letter, protectors) in found {
        let title = format!("\n=== manage-bde -protectors -get {letter}: ===\n");
        match protectors {
            Some(protectors) => parts.push((title, protectors)),
            None => parts.push((format!("{title}ERROR: Failed to retrieve protectors for {letter}:\n"), &[])),
        }
    }
    let len = parts.iter().map(|(title, body)| title.len() + body.len()).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(len));
    for (title, body) in parts {
        text.extend_from_slice(title.as_bytes());
        text.extend_from_slice(body);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGLISH: &[u8] = b"BitLocker Drive Encryption: Configuration Tool version 10.0.20348\r\n\
        Copyright (C) 2013 Microsoft Corporation. All rights reserved.\r\n\r\n\
        Disk volumes that can be protected with\r\nBitLocker Drive Encryption:\r\n\
        Volume C: [System]\r\n[OS Volume]\r\n\r\n    Size:                 59.40 GB\r\n\
        \x20   Protection Status:    Protection On\r\n\
        Volume e: []\r\n[Data Volume]\r\n\r\n    Protection Status:    Protection Off\r\n";

    const GERMAN: &[u8] = b"Volume \"C:\" [System]\r\n[Betriebssystemvolume]\r\n\r\n\
        \x20   Schutzstatus:         Der Schutz ist aktiviert.\r\n\
        Volume \"D:\" [Daten]\r\n    Schutzstatus:         Der Schutz ist deaktiviert.\r\n";

    #[test]
    fn the_status_tells_the_volumes_in_any_language() {
        let want = BTreeMap::from([('C', Protection::On), ('E', Protection::Off)]);
        assert_eq!(volumes(ENGLISH), want);
        let want = BTreeMap::from([('C', Protection::Unclear), ('D', Protection::Unclear)]);
        assert_eq!(volumes(GERMAN), want);
        assert!(volumes(b"ERROR: An attempt to access a required resource was denied.\r\n").is_empty());
        assert!(volumes(&[0xff, b':', b'\n', b':', b'C']).is_empty());
    }

    #[test]
    fn the_file_names_each_volume_and_holds_what_windows_printed() {
        let keys = [('C', Some(Zeroizing::new(b"Password: 1-2\r\n".to_vec()))), ('D', None)];
        let text = String::from_utf8(text("win", b"status\r\n", &keys).to_vec()).unwrap();
        assert!(text.starts_with("BitLocker Recovery Keys\nVM: win\nExtracted: "), "{text}");
        let body = text.split_once(&"=".repeat(40)).unwrap().1;
        assert_eq!(
            body,
            "\n\n=== manage-bde -status ===\nstatus\r\n\n=== manage-bde -protectors -get C: ===\nPassword: 1-2\r\n\
             \n=== manage-bde -protectors -get D: ===\nERROR: Failed to retrieve protectors for D:\n"
        );
        assert!(text.contains("Protected Volumes: 1\n"));
    }
}
