//! What a certificate calls its owner (RFC 5280 §4.1.2.6, §4.2.1.6).
//!
//! Reads certificates that rustls has verified: that a name is its owner's, their CA vouches for.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The common names of its subject, then the DNS names, URIs and e-mail addresses among its alternative
/// names. Names with control characters in them are left out, and so is all of what is no certificate.
pub(super) fn names(certificate: &[u8]) -> Vec<Box<str>> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.iter().flat_map(|names| &names.value.general_names);
    let alternative = alternative.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => Some(*name),
        _ => None,
    });
    let is_plain = |name: &&str| !name.is_empty() && !name.contains(char::is_control);
    common.chain(alternative).filter(is_plain).map(Box::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(common: &str, alternative: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common);
        params.subject_alt_names = alternative;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_comes_first_and_alternative_names_follow() {
        let alternative = vec![
            SanType::DnsName("gw.example".try_into().unwrap()),
            SanType::IpAddress([192, 0, 2, 1].into()),
            SanType::URI("spiffe://example/gw".try_into().unwrap()),
            SanType::Rfc822Name("gw@example".try_into().unwrap()),
        ];
        let expected = ["web gw", "gw.example", "spiffe://example/gw", "gw@example"];
        assert_eq!(*names(&certificate("web gw", alternative)), expected.map(Box::from));
        assert_eq!(*names(&certificate("B\u{fc}ro", Vec::new())), ["B\u{fc}ro".into()]);
    }

    #[test]
    fn a_name_that_no_line_can_show_is_none() {
        assert_eq!(names(&certificate("root\nroot", Vec::new())), []);
        assert_eq!(names(&certificate("", Vec::new())), []);
    }

    #[test]
    fn cut_and_changed_certificates_are_survived() {
        let der = certificate("gw", vec![SanType::DnsName("gw.example".try_into().unwrap())]);
        for len in 0..der.len() {
            assert_eq!(names(&der[..len]), []);
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[len] = value;
                let _ = names(&changed);
            }
        }
    }
}
