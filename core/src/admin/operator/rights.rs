//! Who may do what (operator.md §3): the rights that come with a connection, and the rules that grant them,
//! for the whole server or for one console.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::network::Network;

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

/// Who asks, as far as rules go by that.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// Where it is, on a network.
    pub address: Option<IpAddr>,
    /// Who it is, on the socket.
    pub user: Option<User>,
    /// The names in the certificate that it has shown.
    pub names: Box<[Box<str>]>,
}

/// A user on the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group of its process.
    pub gid: u32,
    /// It is root, or the user that the server runs as.
    pub is_ours: bool,
}

/// Whom a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Whom {
    /// Whoever speaks vSPC.py's protocol, or another one that is older than ours.
    V3,
    /// TCP from this machine.
    Loopback,
    /// TCP from this network.
    Network(Network),
    /// The user of this id, on the socket.
    Uid(u32),
    /// A process of this group, on the socket.
    Gid(u32),
    /// Whoever has shown a certificate with this name in it.
    Certificate(Box<str>),
    /// The one of this name on whose behalf a delegate asks.
    Named(Box<str>),
}

/// One rule: `loopback=operator`, `192.0.2.0/24=writer`, `uid:1000=writer+delegate`, `cert:gw=spectator`,
/// `user:ann=writer`.
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
        "{0:?} is none of loopback, v3, an address, a network (192.0.2.0/24), uid:NUMBER, gid:NUMBER, \
         cert:NAME and user:NAME"
    )]
    Whom(String),
    /// There is no such right.
    #[error("{0:?} is none of none, spectator, writer and operator")]
    Right(String),
    /// Whoever is asked for asks for nobody.
    #[error("{0:?}: on whose behalf somebody asks is no delegate itself")]
    Delegate(String),
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
        if delegates && matches!(whom, Whom::Named(_)) {
            return Err(ParseGrantError::Delegate(text.to_owned()));
        }
        Ok(Self { whom, grant })
    }
}

/// As it is read.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delegates = if self.grant.delegates { "+delegate" } else { "" };
        write!(f, "{}={}{delegates}", self.whom, self.grant.right)
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V3 => f.write_str("v3"),
            Self::Loopback => f.write_str("loopback"),
            Self::Network(network) => network.fmt(f),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Gid(gid) => write!(f, "gid:{gid}"),
            Self::Certificate(name) => write!(f, "cert:{name}"),
            Self::Named(name) => write!(f, "user:{name}"),
        }
    }
}

impl Rule {
    /// It is about whoever shows a certificate.
    #[must_use]
    pub fn is_about_certificates(&self) -> bool {
        matches!(self.whom, Whom::Certificate(_))
    }

    /// It lets somebody ask on behalf of others.
    #[must_use]
    pub fn delegates(&self) -> bool {
        self.grant.delegates
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
        if let Some(name) = text.strip_prefix("user:") {
            return (!name.is_empty()).then(|| Self::Named(name.into()));
        }
        match text {
            "v3" => return Some(Self::V3),
            "loopback" => return Some(Self::Loopback),
            _ => {}
        }
        text.parse().ok().map(Self::Network)
    }

    /// How closely it describes its like: the closest rule decides.
    fn weight(&self) -> u16 {
        match self {
            Self::V3 | Self::Gid(_) | Self::Certificate(_) | Self::Named(_) => 0,
            Self::Network(network) => u16::from(network.length()),
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

    /// What a caller gets by the operator protocol: by its user on the socket, else by its certificate if a
    /// rule names that, else by its address.
    #[must_use]
    pub fn of(&self, caller: &Caller) -> Grant {
        match (caller.user, self.of_certificate(&caller.names), caller.address) {
            (Some(User { uid, gid, is_ours }), ..) => self.of_user(uid, gid, is_ours),
            (None, Some((grant, _)), _) => grant,
            (None, None, Some(address)) => self.of_address(address),
            (None, None, None) => Grant::default(),
        }
    }

    /// What a caller gets by an older protocol: no more than a rule about its certificate gives it.
    #[must_use]
    pub fn of_older(&self, caller: &Caller) -> Right {
        let named = self.of_certificate(&caller.names);
        named.map_or(self.of_v3(), |(grant, _)| grant.right.min(self.of_v3()))
    }

    /// What the one of this name may have on whose behalf a delegate asks. `None`: no rule names it.
    #[must_use]
    pub fn of_named(&self, name: &str) -> Option<Right> {
        self.decide(|whom| matches!(whom, Whom::Named(of) if **of == *name)).map(|grant| grant.right)
    }

    /// What these rules give a caller where they are all there is, as at a console that has rules of its
    /// own: whom none is about has nothing there, wherever it is. `behalf`: on whose behalf it asks; a rule
    /// for that one decides before those for the caller.
    #[must_use]
    pub fn listed(&self, caller: &Caller, behalf: Option<&str>) -> Right {
        if let Some(right) = behalf.and_then(|name| self.of_named(name)) {
            return right;
        }
        let grant = match (caller.user, self.of_certificate(&caller.names), caller.address) {
            (Some(User { uid, gid, .. }), ..) => self.about_user(uid, gid),
            (None, Some((grant, _)), _) => Some(grant),
            (None, None, Some(address)) => self.about_address(address),
            (None, None, None) => None,
        };
        grant.map_or(Right::None, |grant| grant.right)
    }

    /// The same for a caller that speaks an older protocol, and cannot say who it is.
    #[must_use]
    pub fn listed_older(&self, caller: &Caller) -> Right {
        let right = self.decide(|whom| *whom == Whom::V3).map_or(Right::None, |grant| grant.right);
        self.of_certificate(&caller.names).map_or(right, |(grant, _)| grant.right.min(right))
    }

    /// What a peer on TCP gets: from this machine it may write, unless a rule says otherwise.
    #[must_use]
    pub fn of_address(&self, address: IpAddr) -> Grant {
        let right = if address.to_canonical().is_loopback() { Right::Writer } else { Right::None };
        self.about_address(address).unwrap_or(Grant { right, delegates: false })
    }

    fn about_address(&self, address: IpAddr) -> Option<Grant> {
        let address = address.to_canonical();
        self.decide(|whom| match whom {
            Whom::Loopback => address.is_loopback(),
            Whom::Network(network) => network.contains(address),
            Whom::V3 | Whom::Uid(_) | Whom::Gid(_) | Whom::Certificate(_) | Whom::Named(_) => false,
        })
    }

    /// What a peer on the socket gets. `is_ours`: it is root, or the user that the server runs as, who may do
    /// all.
    #[must_use]
    pub fn of_user(&self, uid: u32, gid: u32, is_ours: bool) -> Grant {
        let ours = Grant { right: Right::Operator, delegates: true };
        self.about_user(uid, gid).unwrap_or(if is_ours { ours } else { Grant::default() })
    }

    fn about_user(&self, uid: u32, gid: u32) -> Option<Grant> {
        self.decide(|whom| match *whom {
            Whom::Uid(of) => of == uid,
            Whom::Gid(of) => of == gid,
            Whom::V3 | Whom::Loopback | Whom::Network(..) | Whom::Certificate(_) | Whom::Named(_) => false,
        })
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

    /// What a peer gets that speaks an older protocol: it may write from anywhere, because it cannot say who
    /// it is, unless a rule for `v3` says otherwise.
    #[must_use]
    pub fn of_v3(&self) -> Right {
        self.decide(|whom| *whom == Whom::V3).map_or(Right::Writer, |grant| grant.right)
    }

    /// Each of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    fn decide(&self, is_about: impl Fn(&Whom) -> bool) -> Option<Grant> {
        let about = self.0.iter().filter(|rule| is_about(&rule.whom));
        about.max_by_key(|rule| rule.whom.weight()).map(|rule| rule.grant)
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
    fn a_rule_for_ipv4_that_is_mapped_into_ipv6_is_about_all_of_that_network() {
        let rules = rules(&["0.0.0.0/0=writer", "::ffff:192.0.2.0/120=none"]);
        for address in ["192.0.2.0", "192.0.2.9", "::ffff:192.0.2.9"] {
            assert_eq!(rules.of_address(ip(address)).right, Right::None, "{address}");
        }
        assert_eq!(rules.of_address(ip("192.0.3.9")).right, Right::Writer);
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
    fn a_list_of_its_own_gives_nothing_to_whom_it_does_not_name() {
        let list = rules(&[
            "uid:1000=writer",
            "gid:100=spectator",
            "cert:ann=operator",
            "10.0.0.0/8=spectator",
            "user:bob=writer",
            "v3=spectator",
        ]);
        let user = |uid, gid, is_ours| Caller { user: Some(User { uid, gid, is_ours }), ..Caller::default() };
        let at = |text: &str| Caller { address: Some(ip(text)), ..Caller::default() };
        let shows = |name: &str| Caller { names: [name.into()].into(), ..at("10.1.1.1") };
        for (caller, behalf, right) in [
            (user(1000, 5, false), None, Right::Writer),
            (user(1001, 100, false), None, Right::Spectator),
            (user(0, 0, true), None, Right::None),
            (at("10.2.3.4"), None, Right::Spectator),
            (at("127.0.0.1"), None, Right::None),
            (shows("ann"), None, Right::Operator),
            (shows("eve"), None, Right::Spectator),
            (at("127.0.0.1"), Some("bob"), Right::Writer),
            (at("127.0.0.1"), Some("eve"), Right::None),
            (shows("ann"), Some("bob"), Right::Writer),
            (shows("ann"), Some("eve"), Right::Operator),
        ] {
            assert_eq!(list.listed(&caller, behalf), right, "{caller:?} {behalf:?}");
        }
        assert_eq!(list.listed_older(&at("192.0.2.1")), Right::Spectator);
        assert_eq!(list.listed_older(&shows("ann")), Right::Spectator);
        assert_eq!(rules(&["v3=writer", "cert:eve=none"]).listed_older(&shows("eve")), Right::None);
        assert_eq!(rules(&["10.0.0.0/8=writer"]).listed_older(&at("10.1.1.1")), Right::None);
    }

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in ["v3=none", "loopback=writer", "10.0.0.0/8=spectator", "2001:db8::1/128=operator"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        for text in ["uid:5=writer+delegate", "gid:6=none", "cert:a=b=writer", "user:ann=operator"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
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
            ("user:=writer", "user:"),
            ("user:ann=writer+delegate", "delegate"),
        ] {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        }
    }
}
