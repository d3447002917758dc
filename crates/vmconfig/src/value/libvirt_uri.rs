//! The address of a libvirt daemon.

use std::fmt;

use super::Value;

/// The longest path that a socket can have (unix(7): 108 bytes with the NUL at its end).
const MAX_SOCKET_BYTES: usize = 107;

/// Address of the QEMU daemon of this host. A daemon of another host tells paths of files there, and what has the same
/// path here is something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibvirtUri(String);

impl LibvirtUri {
    /// The address as libvirt takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LibvirtUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for LibvirtUri {
    fn parse(text: &str) -> Option<Self> {
        (is_of_this_host(text) && socket_bytes(text) <= MAX_SOCKET_BYTES).then(|| Self(text.to_owned()))
    }

    fn allowed() -> String {
        "the daemon of this host: qemu:///system, qemu:///session, or one of them with the path of its socket, \
         qemu+unix:///system?socket=/run/libvirt/virtqemud-sock. The disks of another host's machines are not here, and files \
         of the same path would be saved for them: install vmbackup there"
            .to_owned()
    }

    fn instead_of(text: &str) -> String {
        let bytes = socket_bytes(text);
        if !is_of_this_host(text) || bytes <= MAX_SOCKET_BYTES {
            return Self::allowed();
        }
        format!(
            "an address with a shorter path: that of a socket has {MAX_SOCKET_BYTES} bytes at most, and this one has {bytes}. Make a \
             symbolic link to the socket, and name that"
        )
    }
}

/// A driver `qemu`, over a unix socket or as libvirt chooses without a host, which is the same; `/system` or `/session`; of
/// parameters only those that say which socket. `name=` would hand the daemon another address.
///
/// Source: libvirt `docs/uri.rst`.
fn is_of_this_host(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("qemu:").or_else(|| text.strip_prefix("qemu+unix:")) else {
        return false;
    };
    let path = rest.split_once('?').map_or(rest, |(path, _)| path);
    let local = ["///system", "///session", "/system", "/session"].contains(&path);
    let of_socket = |parameter: &str| {
        parameter.strip_prefix("socket=").is_some_and(|path| path.starts_with(['/', '%']))
            || parameter.starts_with("mode=")
    };
    let plain = !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '#');
    local && plain && parameters(text).all(of_socket)
}

fn parameters(text: &str) -> impl Iterator<Item = &str> {
    let parameters = text.split_once('?').map_or("", |(_, parameters)| parameters);
    parameters.split(['&', ';']).filter(|parameter| !parameter.is_empty())
}

/// How long the path of the socket is; `%2F` is one byte of it.
fn socket_bytes(text: &str) -> usize {
    let of_one = |path: &str| path.len() - 2 * path.matches('%').count().min(path.len() / 3);
    parameters(text).filter_map(|parameter| parameter.strip_prefix("socket=")).map(of_one).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other ways to the daemon of another host: by name, by a tunnel, by way of the daemon of this one.
    #[test]
    fn only_the_daemon_of_this_host_is_an_address() {
        let here = [
            "qemu:///system",
            "qemu:///session",
            "qemu+unix:///system",
            "qemu+unix:///system?socket=/run/libvirt/virtqemud-sock",
            "qemu:///session?socket=%2Frun%2Fs&mode=direct",
        ];
        for uri in here {
            assert_eq!(LibvirtUri::parse(uri).map(|uri| uri.to_string()).as_deref(), Some(uri));
        }
        let elsewhere = [
            "qemu+ssh://host/system",
            "qemu+libssh2:///system",
            "qemu+tls:///system",
            "qemu+tcp://127.0.0.1/system",
            "qemu+ext:///system?command=/usr/bin/ssh",
            "qemu://localhost/system",
            "qemu+unix://host/system",
            "qemu:///system?name=qemu%2Bssh://host/system",
            "qemu:///system?socket=/run/s&name=qemu://host/system",
            "qemu:///system?socket=run/s",
            "qemu:///embed?root=/srv",
            "xen:///system",
            "test:///default",
            "qemu:///system#x",
            "qemu:///system ",
            "",
        ];
        for uri in elsewhere {
            assert_eq!(LibvirtUri::parse(uri), None, "{uri}");
            assert_eq!(LibvirtUri::instead_of(uri), LibvirtUri::allowed());
        }
    }

    #[test]
    fn the_path_of_a_socket_that_is_too_long_is_told() {
        let uri =
            |bytes: usize| format!("qemu+unix:///system?mode=direct&socket=/run/{}", "s".repeat(bytes - 5));
        assert!(LibvirtUri::parse(&uri(107)).is_some());
        assert_eq!(LibvirtUri::parse(&uri(108)), None);
        let encoded = uri(107).replace("/run/", "%2Frun%2F");
        assert!(LibvirtUri::parse(&encoded).is_some(), "{encoded}");
        let said = LibvirtUri::instead_of(&uri(131));
        assert!(said.contains("107 bytes at most, and this one has 131. Make a symbolic link"), "{said}");
    }
}
