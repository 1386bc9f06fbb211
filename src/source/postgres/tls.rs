//! TLS towards the server: which certificates are believed, and a connector that puts the [tap](super::tap) above TLS.

use super::tap::{Diversion, Socket, Tap};
use crate::config::model::{Tls, TlsMode};
use crate::error::{Error, ErrorKind, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::BufReader;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Bytes read from the socket at once below TLS, whose own reads are small.
const READ_BYTES: usize = 256 * 1024;

/// What is asked of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scrutiny {
    /// Any certificate will do; the session is encrypted, that is all.
    None,
    /// Signed by a known authority.
    Authority,
    /// … and made out to the host that was asked for.
    AuthorityAndName,
}

impl Scrutiny {
    fn of(tls: &Tls) -> Scrutiny {
        match tls.mode {
            TlsMode::Disable | TlsMode::Require => Scrutiny::None,
            _ if tls.accept_invalid_certs => Scrutiny::None,
            TlsMode::VerifyCa => Scrutiny::Authority,
            TlsMode::VerifyFull if tls.accept_invalid_hostnames => Scrutiny::Authority,
            TlsMode::VerifyFull => Scrutiny::AuthorityAndName,
        }
    }
}

/// Makes the TLS side of connections to `source.tls`.
///
/// # Errors
/// `SourceTls` when the CA file cannot be read, or when certificates are to be verified and no authority is known.
pub(super) fn connector(tls: &Tls) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let scrutiny = Scrutiny::of(tls);
    let authorities = match scrutiny {
        Scrutiny::None => None,
        Scrutiny::Authority | Scrutiny::AuthorityAndName => Some(authorities(tls.ca_file.as_deref(), &provider)?),
    };
    let verifier = Verifier { provider: provider.clone(), authorities, scrutiny };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Internal, format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// The certificates that may sign the server's: those of the file, or the machine's own.
fn authorities(file: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let refused = |what: String| Error::new(ErrorKind::SourceTls, what);
    let mut roots = RootCertStore::empty();
    let place = match file {
        Some(path) => {
            let place = format!("the CA file {}", path.display());
            let unreadable = |error| refused(format!("{place} cannot be read: {error}"));
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                let certificate = certificate.map_err(unreadable)?;
                roots.add(certificate).map_err(|error| refused(format!("{place} holds a bad certificate: {error}")))?;
            }
            place
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            "the machine's certificate store".to_owned()
        }
    };
    if roots.is_empty() {
        return Err(refused(format!("{place} holds no certificate")));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| refused(format!("{place}: {error}")))
}

/// rustls knows only the strictest way; the weaker ones that PostgreSQL's clients offer are spelt out here. The handshake's
/// signature is checked in all of them.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    scrutiny: Scrutiny,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        let verdict = authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The name is compared after the chain was found good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.scrutiny == Scrutiny::Authority => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

type Buffered = BufReader<Socket>;
type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Buffered>>::Stream;

/// Performs the handshake and puts the tap on top of it.
pub(super) struct TappedTls {
    pub(super) connector: MakeRustlsConnect,
    pub(super) hostname: String,
    pub(super) diversion: Arc<Diversion>,
}

impl TlsConnect<Socket> for TappedTls {
    type Stream = Tap<Encrypted>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Stream>> + Send>>;

    fn connect(mut self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let buffered = BufReader::with_capacity(READ_BYTES, socket);
            let handshake = MakeTlsConnect::<Buffered>::make_tls_connect(&mut self.connector, &self.hostname);
            let encrypted = handshake.map_err(io::Error::other)?.connect(buffered).await?;
            Ok(Tap::new(encrypted, self.diversion))
        })
    }
}
