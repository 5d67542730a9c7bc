//! Reads where the HTTP API is served, and with which TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use iso_specs::toml_keys::{Keys, Place};

use super::{Profile, listen};

/// Where the HTTP API is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiConfig {
    /// The address.
    pub listen: SocketAddr,
    /// The files of its TLS; without them it has none, and the address is a loopback address.
    pub tls: Option<TlsFiles>,
    /// What the switch is for.
    pub profile: Profile,
}

/// The files of a server's TLS, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and behind it those that sign it.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// Who signs the certificates of clients: then each client must have one.
    pub client_ca: Option<PathBuf>,
}

impl ApiConfig {
    /// Reads the table `[api]`, with the place of its address.
    pub(super) fn read(
        keys: &mut Keys<'_, '_>,
        profile: Profile,
        (directory, is_demo): (&Path, bool),
    ) -> Option<(ApiConfig, Place)> {
        let mut table = keys.optional_table("tls");
        let has_tls = table.is_some();
        let tls = table.as_mut().map(|keys| tls_files(keys, directory));
        table.iter().for_each(Keys::finish);
        let (address, place) = listen(keys, is_demo)?;
        if !has_tls && !is_demo && !address.ip().is_loopback() {
            let text = "the secrets of its callers could be read on their way: expected [api.tls], \
                        or a loopback address (127.0.0.0/8 or ::1)";
            keys.mistake_of("listen", text);
        }
        let tls = match tls {
            Some(files) => Some(files?),
            None => None,
        };
        Some((ApiConfig { listen: address, tls, profile }, place))
    }
}

fn tls_files(keys: &mut Keys<'_, '_>, directory: &Path) -> Option<TlsFiles> {
    let expected = "the path of a file in PEM";
    let path = |text: &str| (!text.is_empty()).then(|| directory.join(text));
    let certificate = keys.name("certificate", expected, path);
    let key = keys.name("key", expected, path);
    let client_ca = keys.optional_name("client_ca", expected, path);
    Some(TlsFiles { certificate: certificate?, key: key?, client_ca })
}
