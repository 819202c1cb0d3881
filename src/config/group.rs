//! `[groups]`: names for several ports, which commands take as `@NAME`. A group may have other groups as members. These have nothing to
//! do with the groups of logins in `[access]`.

use std::collections::BTreeMap;

use crate::port::{GroupName, PortGroups, PortPattern};

/// Groups of one configuration: as many as there may be ports.
pub(super) const MAX_GROUPS: usize = 1024;
/// Names that the ranges of all groups may stand for together: each of 1024 ports in 64 groups. Ranges are expanded as they are read,
/// and without a limit a file of 1 MiB could stand for some hundred million names.
pub(super) const MAX_MEMBERS: usize = 64 * 1024;

/// The members of a group.
pub type Members = Vec<PortPattern>;

/// Groups that have themselves as a member, directly or by way of others: each cycle once, from its first name to the same.
pub(super) fn cycles(groups: &PortGroups) -> Vec<Vec<&GroupName>> {
    let mut walk = Walk { groups, seen: BTreeMap::new(), path: Vec::new(), cycles: Vec::new() };
    for group in groups.keys() {
        walk.visit(group);
    }
    walk.cycles
}

#[derive(PartialEq)]
enum VisitState {
    /// On the path that is being walked.
    Open,
    /// Everything below it has been walked.
    Done,
}

/// A depth-first walk that visits each group once. Its depth is bounded by [`MAX_GROUPS`].
struct Walk<'g> {
    groups: &'g PortGroups,
    seen: BTreeMap<&'g GroupName, VisitState>,
    path: Vec<&'g GroupName>,
    cycles: Vec<Vec<&'g GroupName>>,
}

impl<'g> Walk<'g> {
    fn visit(&mut self, group: &'g GroupName) {
        match self.seen.get(group) {
            Some(VisitState::Done) => return,
            Some(VisitState::Open) => {
                let from = self.path.iter().position(|name| *name == group).unwrap_or(0);
                self.cycles.push(self.path[from..].iter().copied().chain([group]).collect());
                return;
            }
            None => {}
        }
        let Some(members) = self.groups.get(group) else { return };
        self.seen.insert(group, VisitState::Open);
        self.path.push(group);
        for inner in members.iter().flat_map(PortPattern::groups) {
            self.visit(inner);
        }
        self.path.pop();
        self.seen.insert(group, VisitState::Done);
    }
}
