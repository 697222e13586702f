//! What is different in each run: UUIDs, names, sequences; and what was captured.

use crate::random::mix;
use crate::transcript::Template;
use std::collections::HashMap;

/// The values of one run.
#[derive(Clone, Debug, Default)]
pub struct Values {
    seed: u64,
    fixed: HashMap<(Template, String), Vec<u8>>,
    variables: HashMap<String, Vec<u8>>,
}

impl Values {
    /// Values that follow from `seed`; two seeds have none in common.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut values = Self { seed, ..Self::default() };
        values.set("uri", b"vSPC.py");
        values.set(
            "codes",
            &[0, 1, 2, 3, 40, 41, 43, 44, 45, 46, 48, 70, 71, 73, 80, 81, 82, 83, 84, 85, 86, 87],
        );
        values
    }

    /// Makes a variable mean `value`.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.variables.insert(name.to_owned(), value.to_vec());
    }

    /// What a variable means.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.variables.get(name).map(Vec::as_slice)
    }

    /// Makes the identity `id` this UUID, instead of one that nobody else has.
    pub fn set_uuid(&mut self, id: &str, uuid: [u8; 16]) {
        self.fixed.insert((Template::Uuid, id.to_owned()), uuid.to_vec());
    }

    /// The bytes that stand for a template.
    #[must_use]
    pub fn template(&self, template: Template, id: &str) -> Vec<u8> {
        match template {
            Template::Uuid => uuid_text(&self.uuid(id)).into_bytes(),
            Template::UuidUpper => uuid_text(&self.uuid(id)).to_ascii_uppercase().into_bytes(),
            Template::UuidDigits => digits(&self.uuid(id)).into_bytes(),
            Template::UuidDashed => {
                let digits = digits(&self.uuid(id));
                let (front, back) = digits.split_at(16);
                format!("{front}-{back}").into_bytes()
            }
            Template::Name => format!("{id}-{:06x}", self.random(b'n', id) & 0xff_ffff).into_bytes(),
            // No 0xFF: transcripts that are about doubling write their bytes themselves.
            Template::Sequence => self.random(b's', id).to_be_bytes()[..4].iter().map(|b| b & 0x7f).collect(),
            Template::Text => format!("<{id} {:012x}>", self.random(b't', id) >> 16).into_bytes(),
        }
    }

    fn uuid(&self, id: &str) -> [u8; 16] {
        if let Some(fixed) = self.fixed.get(&(Template::Uuid, id.to_owned())) {
            let mut uuid = [0; 16];
            uuid.copy_from_slice(fixed);
            return uuid;
        }
        let halves = [self.random(b'u', id), self.random(b'v', id)];
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&halves[0].to_be_bytes());
        uuid[8..].copy_from_slice(&halves[1].to_be_bytes());
        // A random UUID, as RFC 9562 marks it.
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }

    fn random(&self, kind: u8, id: &str) -> u64 {
        id.bytes().chain([kind]).fold(mix(self.seed), |state, byte| mix(state ^ u64::from(byte)))
    }
}

/// `01 23 45 67 89 ab cd ef-fe dc ba 98 00 00 00 00`: vmware.md §2.
fn uuid_text(uuid: &[u8; 16]) -> String {
    let half = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    format!("{}-{}", half(&uuid[..8]), half(&uuid[8..]))
}

fn digits(uuid: &[u8; 16]) -> String {
    uuid.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_nothing_in_common_and_a_run_agrees_with_itself() {
        let (one, two) = (Values::new(1), Values::new(2));
        for template in [Template::Uuid, Template::Name, Template::Sequence, Template::Text] {
            assert_eq!(one.template(template, "a"), one.template(template, "a"));
            assert_ne!(one.template(template, "a"), one.template(template, "b"));
            assert_ne!(one.template(template, "a"), two.template(template, "a"));
        }
    }

    #[test]
    fn a_uuid_is_written_as_hosts_write_it() {
        let mut values = Values::new(1);
        let uuid = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0, 0, 0, 0];
        values.set_uuid("a", uuid);
        assert_eq!(values.template(Template::Uuid, "a"), b"01 23 45 67 89 ab cd ef-fe dc ba 98 00 00 00 00");
        assert_eq!(
            values.template(Template::UuidUpper, "a"),
            b"01 23 45 67 89 AB CD EF-FE DC BA 98 00 00 00 00"
        );
        assert_eq!(values.template(Template::UuidDigits, "a"), b"0123456789abcdeffedcba9800000000");
        assert_eq!(values.template(Template::UuidDashed, "a"), b"0123456789abcdef-fedcba9800000000");
    }
}
