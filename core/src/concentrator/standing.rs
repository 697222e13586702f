//! Who asks on the admin port, and what that one may do: everywhere, and at a console that has a list of its
//! own.
//!
//! **Owns** how rights are found. **Refuses to know** which console has which list.

use crate::admin::operator::{Behalf, Caller, Grant, Right, Rules};

use super::requests::printable;

/// Who asks, and what it may do.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// For logs and for other people: whom it asks for, or who it is.
    pub(super) who: String,
    /// Who it is by its connection: an address, a user.
    pub(super) came_as: String,
    /// The same for rules.
    pub(super) caller: Caller,
    /// On whose behalf it asks.
    behalf: Option<Behalf>,
    /// What came with the connection.
    pub(super) grant: Grant,
    /// What it may do: the lower of that and of what the one may do for whom it asks.
    pub(super) right: Right,
    /// It has said hello.
    pub(super) is_known: bool,
}

impl Standing {
    /// Of a caller that has said nothing yet.
    pub(super) fn new(came_as: String, caller: Caller, rules: &Rules) -> Self {
        let (who, behalf, grant) = (came_as.clone(), None, Grant::default());
        let mut standing = Self { who, came_as, caller, behalf, grant, right: grant.right, is_known: false };
        standing.judge(rules);
        standing
    }

    /// It has shown who it is.
    pub(super) fn has_shown(&mut self, came_as: String, names: Box<[Box<str>]>, rules: &Rules) {
        self.who.clone_from(&came_as);
        self.came_as = came_as;
        self.caller.names = names;
        self.judge(rules);
    }

    /// It asks for somebody else from now on, as it may.
    pub(super) fn speak_for(&mut self, behalf: Behalf, rules: &Rules) {
        let place = behalf.address.as_ref().map(|address| format!("@{address}")).unwrap_or_default();
        self.who = printable(&format!("{}{place} (via {})", behalf.user, self.came_as));
        self.behalf = Some(behalf);
        self.judge(rules);
    }

    /// Finds what it may do by these rules.
    pub(super) fn judge(&mut self, rules: &Rules) {
        self.grant = rules.of(&self.caller);
        self.right = match &self.behalf {
            None => self.grant.right,
            Some(_) if !self.grant.delegates => Right::None,
            Some(behalf) => {
                let named = rules.of_named(&behalf.user).unwrap_or(Right::Operator);
                behalf.rights.min(self.grant.right).min(named)
            }
        };
    }

    /// What it may do at a console: where that has a list of its own, what the list gives it, and nothing
    /// that the one may not do for whom it asks. An operator of the whole server is one there as well.
    pub(super) fn right_at(&self, list: Option<&Rules>) -> Right {
        match (list, &self.behalf) {
            (None, _) => self.right,
            (Some(_), _) if self.right == Right::Operator => Right::Operator,
            (Some(list), None) => list.listed(&self.caller, None),
            (Some(_), Some(_)) if !self.grant.delegates => Right::None,
            (Some(list), Some(behalf)) => list.listed(&self.caller, Some(&behalf.user)).min(behalf.rights),
        }
    }
}

/// What a caller may do by a protocol that is older than ours, at a console with this list or everywhere. The
/// list decides in place of the server's rules; where those do not have the protocol served, it is not.
pub(super) fn older_right_at(caller: &Caller, rules: &Rules, list: Option<&Rules>) -> Right {
    match (rules.of_older(caller), list) {
        (Right::None, _) => Right::None,
        (right, None) => right,
        (_, Some(list)) => list.listed_older(caller),
    }
}
