//! Certificates for tests: an authority, and the certificates that it issues.

use std::ops::Range;

use anyhow::{Context as _, Result};
use openssl::{
    asn1::Asn1Time,
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{
        X509, X509Name, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};

/// Authority that signs certificates.
#[derive(Debug)]
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// Certificate and its private key.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// Certificate, in PEM format.
    pub certificate: Vec<u8>,
    /// Private key: PKCS #8 in PEM format, without a password.
    pub key: Vec<u8>,
}

/// Seconds since now within which a certificate of these tests is valid.
pub const VALID: Range<i64> = -3600..86400;
/// Seconds since now within which an expired certificate was valid.
pub const EXPIRED: Range<i64> = -7200..-3600;

impl Authority {
    /// Creates an authority with a self-signed certificate.
    pub fn new(name: &str) -> Result<Self> {
        self_signed(name).context("create an authority")
    }

    /// Returns the certificate in PEM format.
    pub fn pem(&self) -> Result<Vec<u8>> {
        self.certificate.to_pem().context("encode a certificate")
    }

    /// Issues a certificate for 127.0.0.1 and localhost with this common name, valid within a range
    /// of seconds since now.
    pub fn issue(&self, name: &str, validity: Range<i64>) -> Result<IssuedCertificate> {
        self.sign(name, validity).context("issue a certificate")
    }

    fn sign(&self, name: &str, validity: Range<i64>) -> Result<IssuedCertificate, ErrorStack> {
        let key = new_key()?;
        let name = subject(name)?;
        let mut builder = unsigned(&name, self.certificate.subject_name(), &key)?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        builder.set_not_before(&*Asn1Time::from_unix(now + validity.start)?)?;
        builder.set_not_after(&*Asn1Time::from_unix(now + validity.end)?)?;
        let mut names = SubjectAlternativeName::new();
        let names = names.dns("localhost").ip("127.0.0.1");
        let names = names.build(&builder.x509v3_context(Some(&self.certificate), None))?;
        builder.append_extension(names)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        let certificate = builder.build().to_pem()?;
        Ok(IssuedCertificate { certificate, key: key.private_key_to_pem_pkcs8()? })
    }
}

fn self_signed(name: &str) -> Result<Authority, ErrorStack> {
    let key = new_key()?;
    let name = subject(name)?;
    let mut builder = unsigned(&name, &name, &key)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(1)?)?;
    builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok(Authority { certificate: builder.build(), key })
}

/// Returns a key of the kind that is created fastest.
fn new_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn subject(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509NameBuilder::new()?;
    builder.append_entry_by_text("CN", name)?;
    Ok(builder.build())
}

fn unsigned(
    subject: &openssl::x509::X509NameRef,
    issuer: &openssl::x509::X509NameRef,
    key: &PKey<Private>,
) -> Result<openssl::x509::X509Builder, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(128, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}
