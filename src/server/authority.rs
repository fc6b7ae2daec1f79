//! The certificate authority of a server that was given no certificate.
//!
//! Owns `ca.pem`, `ca-key.pem`, `cert.pem` and `key.pem` in one directory: an authority of ten years that signs a
//! certificate of one year for this machine's names. Invariants: a file that somebody else put there is never
//! overwritten; keys are readable by their owner only, from their first byte on; each file appears whole or not at all,
//! in an order in which a start that was cut short is finished by the next one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, CertificateError, RootCertStore};

use super::tls::TlsFiles;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the authority lasts.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// How long a certificate lasts: some clients take none of more than 398 days.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60);

/// A certificate that ends sooner than this is renewed.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Certificates begin in the past, for clients whose clock is slow.
const CLOCK_SKEW: Duration = DAY;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate without its key, or the other way round.
    #[error("'{}' is there but '{}' is not: put both there, or take the first away", there.display(), missing.display())]
    Half {
        /// What is there.
        there: PathBuf,
        /// What is not.
        missing: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} '{}': {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The authority's key is no key.
    #[error("cannot use the key '{}': {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rcgen::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// What [`ensure`] found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// The certificate and its key.
    pub files: TlsFiles,
    /// The authority that clients are to trust; none where the certificate is somebody else's.
    pub authority: Option<PathBuf>,
}

/// Sees to it that `dir` holds a certificate for this machine, and for `listen` if that is a certain address.
///
/// # Errors
///
/// When files cannot be read or written, or what is there is incomplete.
pub fn ensure(dir: &Path, listen: IpAddr) -> Result<Ensured, Error> {
    ensure_at(dir, &names(listen), SystemTime::now())
}

/// The names that a client on this machine or beside it uses.
fn names(listen: IpAddr) -> Vec<SanType> {
    let mut names = vec![
        SanType::IpAddress([127, 0, 0, 1].into()),
        SanType::IpAddress(IpAddr::from(1u128.to_be_bytes())),
    ];
    let hostname =
        fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    let hostname = hostname
        .map(|name| name.trim().to_ascii_lowercase())
        .unwrap_or_default();
    for host in ["localhost", &hostname] {
        // A host may be called what no certificate can hold.
        let Ok(text) = host.to_owned().try_into() else {
            continue;
        };
        let name = SanType::DnsName(text);
        if matches!(ServerName::try_from(host), Ok(ServerName::DnsName(_))) && !names.contains(&name) {
            names.push(name);
        }
    }
    let listen = SanType::IpAddress(listen.to_canonical());
    if !matches!(listen, SanType::IpAddress(ip) if ip.is_unspecified()) && !names.contains(&listen) {
        names.push(listen);
    }
    names
}

fn ensure_at(dir: &Path, names: &[SanType], now: SystemTime) -> Result<Ensured, Error> {
    let [ca, ca_key, cert, key] = ["ca.pem", "ca-key.pem", "cert.pem", "key.pem"].map(|name| dir.join(name));
    let files = TlsFiles {
        cert: cert.clone(),
        key: key.clone(),
    };
    fs::create_dir_all(dir).map_err(at("make the directory", dir))?;
    if !ca_key.exists() {
        match (cert.exists(), key.exists()) {
            (true, true) => {
                return Ok(Ensured {
                    files,
                    authority: ca.exists().then_some(ca),
                });
            }
            (true, false) => {
                return Err(Error::Half {
                    there: cert,
                    missing: key,
                });
            }
            (false, true) => {
                return Err(Error::Half {
                    there: key,
                    missing: cert,
                });
            }
            (false, false) if ca.exists() => {
                return Err(Error::Half {
                    there: ca,
                    missing: ca_key,
                });
            }
            (false, false) => write(&ca_key, KeyPair::generate()?.serialize_pem().as_bytes(), true)?,
        }
    }
    let authority_key = read_key(&ca_key)?;
    let authority = authority(&authority_key, now);
    if !ca.exists() {
        write(
            &ca,
            authority.self_signed(&authority_key)?.pem().as_bytes(),
            false,
        )?;
    }
    if cert.exists() {
        if !key.exists() {
            return Err(Error::Half {
                there: cert,
                missing: key,
            });
        }
        match inspect(&ca, &cert, names, now + RENEWAL) {
            Leaf::Good => {
                return Ok(Ensured {
                    files,
                    authority: Some(ca),
                });
            }
            Leaf::SomebodyElses => {
                return Ok(Ensured {
                    files,
                    authority: None,
                });
            }
            Leaf::Old => {}
        }
    }
    // The key stays when the certificate is renewed, so that one rename makes the change.
    if !key.exists() {
        write(&key, KeyPair::generate()?.serialize_pem().as_bytes(), true)?;
    }
    let issuer = Issuer::from_params(&authority, &authority_key);
    let leaf = leaf(names, now).signed_by(&read_key(&key)?, &issuer)?;
    write(&cert, leaf.pem().as_bytes(), false)?;
    Ok(Ensured {
        files,
        authority: Some(ca),
    })
}

/// The authority's certificate, as far as it follows from its key: its name does too, so that two servers' authorities
/// never pass for each other.
fn authority(key: &KeyPair, now: SystemTime) -> CertificateParams {
    let digest = Sha256::digest(key.der_bytes());
    let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("patgate local authority {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, AUTHORITY_LIFE);
    params
}

fn leaf(names: &[SanType], now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "patgate");
    params.subject_alt_names = names.to_vec();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, CERTIFICATE_LIFE);
    params
}

fn set_validity(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = epoch + since.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + since + life.saturating_sub(CLOCK_SKEW);
}

/// What is in `cert.pem`.
#[derive(Debug, PartialEq, Eq)]
enum Leaf {
    Good,
    Old,
    SomebodyElses,
}

/// Looks at a certificate as a client would at `then`: it may be another authority's, or ours and too old, or made for
/// other names.
fn inspect(ca: &Path, cert: &Path, names: &[SanType], then: SystemTime) -> Leaf {
    let mut roots = RootCertStore::empty();
    let Ok(ca) = CertificateDer::from_pem_file(ca) else {
        return Leaf::SomebodyElses;
    };
    let Ok(leaf) = CertificateDer::from_pem_file(cert) else {
        return Leaf::SomebodyElses;
    };
    if roots.add(ca).is_err() {
        return Leaf::SomebodyElses;
    }
    let provider = Arc::new(ring::default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return Leaf::SomebodyElses;
    };
    let then = UnixTime::since_unix_epoch(then.duration_since(UNIX_EPOCH).unwrap_or_default());
    for name in names {
        let name = match name {
            SanType::IpAddress(ip) => ServerName::IpAddress((*ip).into()),
            SanType::DnsName(name) => match ServerName::try_from(name.as_str().to_owned()) {
                Ok(name) => name,
                Err(_) => continue,
            },
            _ => continue,
        };
        match verifier.verify_server_cert(&leaf, &[], &name, &[], then) {
            Ok(_) => {}
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. },
            )) => return Leaf::Old,
            Err(_) => return Leaf::SomebodyElses,
        }
    }
    Leaf::Good
}

fn read_key(path: &Path) -> Result<KeyPair, Error> {
    let pem = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(at("read", path))?);
    KeyPair::from_pem(&pem).map_err(|source| Error::Key {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file so that it is there whole, or not.
fn write(path: &Path, content: &[u8], is_secret: bool) -> Result<(), Error> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove", &new)(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if is_secret { 0o600 } else { 0o644 });
    let mut file = options.open(&new).map_err(at("make", &new))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(at("write", &new))?;
    fs::rename(&new, path).map_err(at("rename to", path))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(at("sync", dir))
}

fn at(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        what,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Vec<SanType> {
        names([127, 0, 0, 1].into())
    }

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap()
    }

    #[test]
    fn a_first_start_makes_a_certificate_that_its_authority_vouches_for() {
        let dir = tempfile::tempdir().unwrap();
        let ensured = ensure(dir.path(), [192, 0, 2, 7].into()).unwrap();
        let ca = ensured.authority.unwrap();
        let all = names([192, 0, 2, 7].into());
        assert!(all.contains(&SanType::IpAddress([192, 0, 2, 7].into())));
        assert_eq!(
            inspect(&ca, &ensured.files.cert, &all, SystemTime::now() + 300 * DAY),
            Leaf::Good
        );
        assert_eq!(
            inspect(&ca, &ensured.files.cert, &all, SystemTime::now() + 400 * DAY),
            Leaf::Old
        );
        let other = [SanType::IpAddress([192, 0, 2, 8].into())];
        assert_eq!(
            inspect(&ca, &ensured.files.cert, &other, SystemTime::now()),
            Leaf::Old
        );
        #[cfg(unix)]
        for name in ["ca-key.pem", "key.pem"] {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_certificate_that_is_good_stays_and_an_old_one_is_renewed_by_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        ensure_at(dir.path(), &local(), SystemTime::now()).unwrap();
        let (ca, cert, key) = (
            read(dir.path(), "ca.pem"),
            read(dir.path(), "cert.pem"),
            read(dir.path(), "key.pem"),
        );
        ensure_at(dir.path(), &local(), SystemTime::now() + 300 * DAY).unwrap();
        assert_eq!(read(dir.path(), "cert.pem"), cert);
        ensure_at(dir.path(), &local(), SystemTime::now() + 380 * DAY).unwrap();
        assert_ne!(read(dir.path(), "cert.pem"), cert);
        assert_eq!(
            (read(dir.path(), "ca.pem"), read(dir.path(), "key.pem")),
            (ca, key)
        );
        let (ca, cert) = (dir.path().join("ca.pem"), dir.path().join("cert.pem"));
        assert_eq!(
            inspect(&ca, &cert, &local(), SystemTime::now() + 700 * DAY),
            Leaf::Good
        );
    }

    #[test]
    fn a_start_that_was_cut_short_is_finished_by_the_next() {
        let whole = tempfile::tempdir().unwrap();
        ensure_at(whole.path(), &local(), SystemTime::now()).unwrap();
        let order = ["ca-key.pem", "ca.pem", "key.pem", "cert.pem"];
        for made in 0..order.len() {
            let dir = tempfile::tempdir().unwrap();
            for name in &order[..made] {
                fs::copy(whole.path().join(name), dir.path().join(name)).unwrap();
            }
            fs::write(dir.path().join(order[made]).with_extension("new"), "half").unwrap();
            let ensured = ensure_at(dir.path(), &local(), SystemTime::now()).unwrap();
            let ca = ensured.authority.unwrap();
            assert_eq!(
                inspect(&ca, &ensured.files.cert, &local(), SystemTime::now()),
                Leaf::Good,
                "after {made}"
            );
            super::super::tls::Tls::new(ensured.files).unwrap();
        }
    }

    #[test]
    fn what_an_operator_supplied_is_left_alone() {
        let theirs = tempfile::tempdir().unwrap();
        ensure_at(
            theirs.path(),
            &[SanType::IpAddress([192, 0, 2, 1].into())],
            SystemTime::now(),
        )
        .unwrap();
        let ours = tempfile::tempdir().unwrap();
        for name in ["cert.pem", "key.pem"] {
            fs::copy(theirs.path().join(name), ours.path().join(name)).unwrap();
        }
        let ensured = ensure_at(ours.path(), &local(), SystemTime::now()).unwrap();
        assert_eq!(ensured.authority, None);
        assert_eq!(fs::read_dir(ours.path()).unwrap().count(), 2, "nothing is added");

        let mixed = tempfile::tempdir().unwrap();
        ensure_at(mixed.path(), &local(), SystemTime::now()).unwrap();
        for name in ["cert.pem", "key.pem"] {
            fs::copy(theirs.path().join(name), mixed.path().join(name)).unwrap();
        }
        ensure_at(mixed.path(), &local(), SystemTime::now()).unwrap();
        assert_eq!(read(mixed.path(), "cert.pem"), read(theirs.path(), "cert.pem"));

        let half = tempfile::tempdir().unwrap();
        fs::copy(theirs.path().join("cert.pem"), half.path().join("cert.pem")).unwrap();
        let error = ensure_at(half.path(), &local(), SystemTime::now()).unwrap_err();
        assert!(matches!(error, Error::Half { .. }), "{error}");
    }
}
