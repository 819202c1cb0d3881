//! `[groups]`: names for several ports, written `@NAME` in commands. A group may contain other groups. They
//! are unrelated to the groups of users in `[access]`.

use std::collections::BTreeMap;

use crate::port::{GroupName, PortGroups, PortPattern};

/// Limit of groups in one configuration: the same as for ports.
pub(super) const MAX_GROUPS: usize = 1024;
/// Limit of names in all groups together: 64 groups of 1024 ports. Ranges are expanded as they are read, and
/// without a limit a file of 1 MiB could expand to hundreds of millions of names.
pub(super) const MAX_MEMBERS: usize = 64 * 1024;

pub type Members = Vec<PortPattern>;

/// Groups that contain themselves, directly or through others: each cycle once, from its first name back to
/// it.
pub(super) fn cycles(groups: &PortGroups) -> Vec<Vec<&GroupName>> {
    let mut walk = Walk { groups, seen: BTreeMap::new(), path: Vec::new(), cycles: Vec::new() };
    for group in groups.keys() {
        walk.visit(group);
    }
    walk.cycles
}

#[derive(PartialEq)]
enum VisitState {
    /// On the current path.
    Open,
    /// Visited with all its members.
    Done,
}

/// Depth-first search that visits each group once. Its depth is bounded by [`MAX_GROUPS`].
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
