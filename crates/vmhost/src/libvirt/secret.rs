//! Secrets of the daemon: keys of encrypted images.

use virt::connect::Connect;
use virt::secret::Secret;
use virt_sys as sys;
use zeroize::Zeroizing;

use super::{Host, LibvirtError};

/// How a definition names a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretName {
    Uuid(String),
    /// By the volume it is for.
    Usage(String),
}

impl Host {
    /// The value of a secret.
    ///
    /// # Errors
    /// Also when the secret is `private`: the daemon then gives it to QEMU alone.
    pub fn secret_value(&self, name: &SecretName) -> Result<Zeroizing<Vec<u8>>, LibvirtError> {
        self.with("read the secret of an encrypted image", |connection| {
            find(connection, name)?.value(0).map(Zeroizing::new)
        })
    }

    /// Makes a secret that the daemon keeps in memory only and gives to QEMU alone. Returns its UUID.
    pub fn define_secret(&self, usage: &str, value: &[u8]) -> Result<String, LibvirtError> {
        // `usage` is one of ours and needs no escapes.
        let xml = format!(
            "<secret ephemeral='yes' private='yes'><usage type='volume'><volume>{usage}</volume></usage></secret>"
        );
        self.with_once("keep the key of scratch files", |connection| {
            let secret = connection.define_secret_xml(&xml, 0)?;
            let uuid = secret.set_value(value, 0).and_then(|()| secret.uuid_string());
            if uuid.is_err() {
                let _ = secret.undefine();
            }
            uuid
        })
    }

    /// Forgets a secret that [`Host::define_secret`] made. None of that name is well, too.
    pub fn forget_secret(&self, usage: &str) {
        let name = SecretName::Usage(usage.to_owned());
        // Left behind it is in the daemon's memory only, and the key of nothing that lasts.
        let _ = self.with_once("forget a secret", |connection| find(connection, &name)?.undefine());
    }
}

fn find(connection: &Connect, name: &SecretName) -> Result<Secret, virt::error::Error> {
    match name {
        SecretName::Uuid(uuid) => connection.lookup_secret_by_uuid_string(uuid),
        SecretName::Usage(usage) => {
            connection.lookup_secret_by_usage(sys::VIR_SECRET_USAGE_TYPE_VOLUME as i32, usage)
        }
    }
}
