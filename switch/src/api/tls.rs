//! TLS of the API: 1.2 and 1.3, with the certificates of clients where the configuration says who
//! signs them.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use zeroize::Zeroizing;

use crate::config::TlsFiles;
use crate::place;

/// What takes connections with these files.
///
/// # Errors
/// If one of them cannot be read or is not what it should be; the text names it, and nothing of a
/// key. If others than the owner can read the key.
pub(super) fn acceptor(files: &TlsFiles) -> io::Result<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let refused = |path: &Path, why: &str| {
        io::Error::new(io::ErrorKind::InvalidData, format!("api.tls: {}: {why}", path.display()))
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| io::Error::other(error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| refused(path, &error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build().map_err(|error| refused(path, &error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut text = Zeroizing::new(Vec::new());
    let mut file =
        place::open_secret(&files.key).map_err(|error| refused(&files.key, &error.to_string()))?;
    file.read_to_end(&mut text)?;
    let key = PrivateKeyDer::from_pem_slice(&text);
    let key = key.map_err(|_| refused(&files.key, "no private key in PEM"))?;
    let config = builder.with_single_cert(certificates(&files.certificate)?, key);
    // The certificate and the key may be of different pairs.
    let config = config.map_err(|error| refused(&files.certificate, &error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The certificates of a file, of which there must be one.
fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let refused = |why: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("api.tls: {}: {why}", path.display()))
    };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| refused(error.to_string()))?;
    let found: Result<Vec<_>, _> = found.collect();
    let found = found.map_err(|error| refused(error.to_string()))?;
    match found.is_empty() {
        true => Err(refused("no certificate in PEM".to_owned())),
        false => Ok(found),
    }
}
