//! Who may do what (operator.md §3): the rights that come with a connection, and the rules that grant them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What a connection may do. Each includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub enum Right {
    /// Say hello.
    #[default]
    None,
    /// List and watch.
    Spectator,
    /// Also type, lock, and send a break.
    Writer,
    /// Also send others away and give the input.
    Operator,
}

impl Right {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Spectator => "spectator",
            Self::Writer => "writer",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Right {
    type Err = ParseGrantError;

    fn from_str(text: &str) -> Result<Self, ParseGrantError> {
        let all = [Self::None, Self::Spectator, Self::Writer, Self::Operator];
        let found = all.into_iter().find(|right| right.name() == text);
        found.ok_or_else(|| ParseGrantError::Right(text.to_owned()))
    }
}

/// A right, and whether its holder may speak for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Grant {
    /// What it may do.
    pub right: Right,
    /// It may ask on somebody's behalf, with that one's rights.
    pub delegates: bool,
}

/// Whom a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Whom {
    /// Whoever speaks vSPC.py's protocol, or another one that is older than ours.
    V3,
    /// TCP from this machine.
    Loopback,
    /// TCP from this network.
    Network(IpAddr, u8),
    /// The user of this id, on the socket.
    Uid(u32),
    /// A process of this group, on the socket.
    Gid(u32),
    /// Whoever has shown a certificate with this name in it.
    Certificate(Box<str>),
}

/// One rule: `loopback=operator`, `192.0.2.0/24=writer`, `uid:1000=writer+delegate`, `cert:gw=spectator`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    whom: Whom,
    grant: Grant,
}

/// A rule that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseGrantError {
    /// There is no `=`.
    #[error("{0:?} does not say who gets which right, as loopback=operator does")]
    Shape(String),
    /// It is unclear who is meant.
    #[error(
        "{0:?} is none of loopback, v3, an address, a network (192.0.2.0/24), uid:NUMBER, gid:NUMBER and \
         cert:NAME"
    )]
    Whom(String),
    /// There is no such right.
    #[error("{0:?} is none of none, spectator, writer and operator")]
    Right(String),
}

impl FromStr for Rule {
    type Err = ParseGrantError;

    fn from_str(text: &str) -> Result<Self, ParseGrantError> {
        let (whom, rights) = text.rsplit_once('=').ok_or_else(|| ParseGrantError::Shape(text.to_owned()))?;
        let (right, delegates) = match rights.strip_suffix("+delegate") {
            Some(right) => (right, true),
            None => (rights, false),
        };
        let grant = Grant { right: right.parse()?, delegates };
        let whom = Whom::parse(whom).ok_or_else(|| ParseGrantError::Whom(whom.to_owned()))?;
        Ok(Self { whom, grant })
    }
}

impl Rule {
    /// It is about whoever shows a certificate.
    #[must_use]
    pub fn is_about_certificates(&self) -> bool {
        matches!(self.whom, Whom::Certificate(_))
    }
}

impl Whom {
    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.parse().ok();
        if let Some(uid) = text.strip_prefix("uid:") {
            return number(uid).map(Self::Uid);
        }
        if let Some(gid) = text.strip_prefix("gid:") {
            return number(gid).map(Self::Gid);
        }
        if let Some(name) = text.strip_prefix("cert:") {
            return (!name.is_empty()).then(|| Self::Certificate(name.into()));
        }
        match text {
            "v3" => return Some(Self::V3),
            "loopback" => return Some(Self::Loopback),
            _ => {}
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) => length.parse().ok().filter(|&length| length <= most)?,
            None => most,
        };
        Some(Self::Network(address, length))
    }

    /// How closely it describes its like: the closest rule decides.
    fn weight(&self) -> u16 {
        match self {
            Self::V3 | Self::Gid(_) | Self::Certificate(_) => 0,
            Self::Network(_, length) => u16::from(*length),
            Self::Loopback => 8,
            Self::Uid(_) => 1,
        }
    }
}

/// All rules of a server. Where several are about one peer the one that describes it most closely decides; of
/// equals the last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// These, in this order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// What a peer on TCP gets: from this machine it may write, unless a rule says otherwise.
    #[must_use]
    pub fn of_address(&self, address: IpAddr) -> Grant {
        let address = address.to_canonical();
        let is_about = |whom: &Whom| match *whom {
            Whom::Loopback => address.is_loopback(),
            Whom::Network(network, length) => contains(network, length, address),
            Whom::V3 | Whom::Uid(_) | Whom::Gid(_) | Whom::Certificate(_) => false,
        };
        let right = if address.is_loopback() { Right::Writer } else { Right::None };
        self.decide(is_about).unwrap_or(Grant { right, delegates: false })
    }

    /// What a peer on the socket gets. `is_ours`: it is root, or the user that the server runs as, who may do
    /// all.
    #[must_use]
    pub fn of_user(&self, uid: u32, gid: u32, is_ours: bool) -> Grant {
        let is_about = |whom: &Whom| match *whom {
            Whom::Uid(of) => of == uid,
            Whom::Gid(of) => of == gid,
            Whom::V3 | Whom::Loopback | Whom::Network(..) | Whom::Certificate(_) => false,
        };
        let ours = Grant { right: Right::Operator, delegates: true };
        self.decide(is_about).unwrap_or(if is_ours { ours } else { Grant::default() })
    }

    /// What a peer gets that has shown a certificate with these names in it, and by which of them; of several
    /// rules the last decides. `None`: no rule names it, and it is judged by its address.
    #[must_use]
    pub fn of_certificate<'a>(&self, names: &'a [Box<str>]) -> Option<(Grant, &'a str)> {
        self.0.iter().rev().find_map(|rule| {
            let Whom::Certificate(of) = &rule.whom else { return None };
            let name = names.iter().find(|name| *name == of)?;
            Some((rule.grant, &**name))
        })
    }

    /// What a peer gets that speaks an older protocol, whose address alone would get `grant`: it may write
    /// from anywhere, because it cannot say who it is, unless a rule for `v3` says otherwise.
    #[must_use]
    pub fn of_v3(&self) -> Right {
        self.decide(|whom| *whom == Whom::V3).map_or(Right::Writer, |grant| grant.right)
    }

    fn decide(&self, is_about: impl Fn(&Whom) -> bool) -> Option<Grant> {
        let about = self.0.iter().filter(|rule| is_about(&rule.whom));
        about.max_by_key(|rule| rule.whom.weight()).map(|rule| rule.grant)
    }
}

fn contains(network: IpAddr, length: u8, address: IpAddr) -> bool {
    match (network.to_canonical(), address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            (network.to_bits() ^ address.to_bits()) & mask == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            (network.to_bits() ^ address.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Rules {
        Rules::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_a_rule_this_machine_writes_and_nobody_else_is_anybody() {
        let none = Rules::default();
        let rights = [
            (none.of_address(ip("127.0.0.1")), Right::Writer),
            (none.of_address(ip("::1")), Right::Writer),
            (none.of_address(ip("::ffff:127.0.0.1")), Right::Writer),
            (none.of_address(ip("192.0.2.1")), Right::None),
            (none.of_user(1000, 1000, false), Right::None),
        ];
        for (grant, right) in rights {
            assert_eq!(grant, Grant { right, delegates: false });
        }
        assert_eq!(none.of_user(0, 0, true), Grant { right: Right::Operator, delegates: true });
        assert_eq!(none.of_v3(), Right::Writer);
    }

    #[test]
    fn the_closest_rule_decides_and_of_equals_the_last() {
        let rules = rules(&[
            "10.1.2.3=writer",
            "10.0.0.0/8=spectator",
            "10.1.0.0/16=operator",
            "10.1.0.0/16=none",
            "loopback=operator",
            "gid:100=spectator",
            "uid:1000=spectator+delegate",
            "v3=spectator",
            "2001:db8::/32=writer+delegate",
        ]);
        for (address, right) in [
            ("10.1.2.3", Right::Writer),
            ("10.1.9.9", Right::None),
            ("10.2.0.1", Right::Spectator),
            ("11.0.0.1", Right::None),
            ("127.0.0.9", Right::Operator),
            ("2001:db8:5::1", Right::Writer),
        ] {
            assert_eq!(rules.of_address(ip(address)).right, right, "{address}");
        }
        assert!(rules.of_address(ip("2001:db8::1")).delegates);
        assert_eq!(rules.of_user(5, 100, false).right, Right::Spectator);
        assert_eq!(rules.of_user(1000, 100, false), Grant { right: Right::Spectator, delegates: true });
        assert_eq!(rules.of_v3(), Right::Spectator);
    }

    #[test]
    fn a_certificate_is_known_by_each_of_its_names_exactly_and_the_last_rule_decides() {
        let rules = rules(&[
            "cert:gw=operator",
            "cert:spiffe://example/gw?a=b=writer+delegate",
            "cert:ann@example=spectator",
            "cert:mallory=none",
        ]);
        let of = |names: &[&str]| {
            let names: Vec<Box<str>> = names.iter().map(|&name| name.into()).collect();
            rules.of_certificate(&names).map(|(grant, name)| (grant.right, grant.delegates, name.to_owned()))
        };
        let found = |right, delegates, name: &str| Some((right, delegates, name.to_owned()));
        assert_eq!(of(&["gw"]), found(Right::Operator, false, "gw"));
        assert_eq!(of(&["other", "ann@example"]), found(Right::Spectator, false, "ann@example"));
        let uri = "spiffe://example/gw?a=b";
        assert_eq!(of(&["gw", uri]), found(Right::Writer, true, uri));
        assert_eq!(of(&["mallory", "gw"]), found(Right::None, false, "mallory"));
        for name in ["GW", "gw.", "gw.example", "g", "loopback", ""] {
            assert_eq!(of(&[name]), None, "{name}");
        }
        assert_eq!(of(&[]), None);
        assert!(rules.of_address(ip("127.0.0.1")).right == Right::Writer, "addresses are judged apart");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, names) in [
            ("loopback", "loopback"),
            ("loopback=king", "king"),
            ("somebody=writer", "somebody"),
            ("10.0.0.0/33=writer", "10.0.0.0/33"),
            ("uid:root=writer", "uid:root"),
            ("cert:=writer", "cert:"),
        ] {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        }
    }
}
