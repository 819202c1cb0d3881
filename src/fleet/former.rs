//! Where this server published its names before its settings were changed: another zone, another DNS server,
//! or under another name of its own. They are removed there. That DNS server may no longer accept this
//! server's key, or be gone: then a finding of `doctor` has what is left.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::directory::{Identity, Remark, Settings, Updates};
use super::publish::{Entries, NOT_OURS};
use super::state::{REMEMBERED_SECONDS, State};
use super::update::{DnsServer, UpdateError};
use crate::system::journal;

/// Locations that are remembered. Each one whose DNS server hangs costs the timeout of an update every
/// RETRY_SECONDS.
pub const MAX_FORMER: usize = 4;
/// The time between attempts at a DNS server that did not accept the removal.
const RETRY_SECONDS: i64 = 300;
/// Names of a remark.
const MAX_NAMES: usize = 4;

/// Where names are published, and whose marker they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The DNS server, as in the settings.
    pub server: String,
    pub zone: String,
    /// The name of this console server.
    pub name: String,
}

impl Location {
    pub fn new(settings: &Settings, identity: &Identity) -> Self {
        let Settings { server, zone, .. } = settings;
        Self { server: server.clone(), zone: zone.clone(), name: identity.name.clone() }
    }

    /// Settings as far as removals need them.
    fn settings(&self) -> Settings {
        let (zone, server) = (self.zone.clone(), self.server.clone());
        Settings { zone, server, name: None, addresses: Vec::new(), ttl: 1, sshfp: false }
    }
}

/// A location at which names may be left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    pub location: Location,
    pub names: BTreeSet<String>,
    /// When the settings were changed, in seconds of Unix time.
    since: i64,
    /// The last attempt to remove the names.
    tried_at: Option<i64>,
    /// Why it failed.
    problem: Option<Remark>,
}

/// Why names are left.
enum Left {
    NoKey,
    Update(UpdateError),
}

impl Former {
    pub fn new(location: Location, names: BTreeSet<String>, since: i64) -> Self {
        Self { location, names, since, tried_at: None, problem: None }
    }

    /// The names that are left, for `doctor` and the journal.
    fn left(&self) -> String {
        let Location { server, zone, .. } = &self.location;
        let mut names: Vec<&str> = self.names.iter().take(MAX_NAMES).map(String::as_str).collect();
        if self.names.len() > MAX_NAMES {
            names.push("…");
        }
        let count = self.names.len();
        format!(
            "names of this server may be left in the zone {zone} of the DNS server {server} ({count}: {})",
            names.join(", ")
        )
    }

    /// Before the first attempt.
    pub fn not_yet_removed(&self) -> Remark {
        let fix = "systemctl start console-directory".to_owned();
        Remark { port: None, problem: format!("{}: not yet removed", self.left()), fix }
    }

    fn remark(&self, why: &Left) -> Remark {
        let Location { zone, name, server } = &self.location;
        let (why, fix) = match why {
            Left::NoKey => (
                "no TSIG key".to_owned(),
                "install -m 0600 KEY /etc/consoleserver/directory.key: KEY is one that this DNS server accepts".to_owned(),
            ),
            Left::Update(error) => (
                error.to_string(),
                match error {
                    UpdateError::Key { .. } | UpdateError::Rejected { .. } => format!(
                        "permit updates of {zone} with this server's key on {server}, or delete there the names that have \"server={name}\" in their TXT records, and their markers _consoleserver"
                    ),
                    error => error.fix(zone),
                },
            ),
        };
        Remark { port: None, problem: format!("{}: {why}", self.left()), fix }
    }

    /// The last report about names whose removal is no longer attempted.
    pub fn forget(&self) {
        tracing::warn!("{}, and console-directory gives up: delete them on that server", self.left());
    }

    /// Whether the names of this location are those at which the current DNS server decides.
    fn is_at(&self, current: &Location) -> bool {
        (&self.location.server, &self.location.zone) == (&current.server, &current.zone)
    }

    /// Removes the names: those that were there, in what is another zone than the current one.
    fn remove(&self, current: Option<&Location>, id: &str, key: Option<&Path>) -> Result<usize, Left> {
        let settings = self.location.settings();
        let of = |name: &str| Identity {
            name: name.to_owned(),
            id: id.to_owned(),
            addresses: Vec::new(),
            fingerprints: Vec::new(),
        };
        let identity = of(&self.location.name);
        let updates = Updates { settings: &settings, identity: &identity, digest: None };
        let dns = DnsServer { settings: &settings, key: key.ok_or(Left::NoKey)? };
        // Another name or address of the same DNS server, or one that is now a secondary of it. (If this
        // server has no entry of its own, its names are removed, and console-directory.timer finds that they
        // are gone.)
        if let Some(current) = current
            .filter(|current| (&current.zone, &current.name) == (&self.location.zone, &self.location.name))
        {
            let here = current.settings();
            let is_copy =
                dns.txt_of(&updates.instance()).contains(&Updates { settings: &here, ..updates }.primary());
            if is_copy {
                return Ok(0);
            }
        }
        let removals: Vec<String> = self.names.iter().map(|name| updates.release(name)).collect();
        match dns.accepted(&removals, NOT_OURS) {
            Ok(removed) => Ok(removed.into_iter().filter(|was_ours| *was_ours).count()),
            // RFC 2136, 3.1: the DNS server no longer has this zone.
            Err(UpdateError::Rejected { answer, .. }) if answer.ends_with("NOTAUTH") => Ok(0),
            Err(error @ (UpdateError::Rejected { .. } | UpdateError::Key { .. })) => {
                // An administrator may have removed them.
                let markers: Vec<String> = self.names.iter().map(|name| updates.marker(name)).collect();
                match dns.txt_of_all(&markers) {
                    Some(text) if !text.contains(&format!("\"id={id}\"")) => Ok(0),
                    _ => Err(Left::Update(error)),
                }
            }
            Err(error) => Err(Left::Update(error)),
        }
    }
}

/// Messages that remove what has a former name of this server at the current location, and is not taken over:
/// also from a zone that is restored from a backup.
pub fn removals_here<'a>(
    state: &'a State,
    renamed: &'a [Updates<'a>],
    wanted: &'a Entries<'a>,
) -> impl Iterator<Item = String> {
    renamed.iter().flat_map(move |updates| {
        let own = updates.identity.name.as_str();
        let is_of = move |former: &&Former| {
            former.location.name == own
                && state.location.as_ref().is_some_and(|location| former.is_at(location))
        };
        let names = state.former.iter().filter(is_of).flat_map(|former| &former.names);
        // The records of the server itself are more than those of a port, which may have its name now.
        names
            .filter(move |name| *name == own || !wanted.contains_key(name.as_str()))
            .map(|name| updates.release(name))
    })
}

/// Removes the names that were published at other DNS servers and in other zones: what is left.
pub fn remove_names(state: &mut State, key: Option<&Path>, now: i64) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut former = std::mem::take(&mut state.former);
    former.retain_mut(|former| {
        // (The clock may have been set back.)
        let is_remembered = now - former.since < REMEMBERED_SECONDS;
        if state.location.as_ref().is_some_and(|location| former.is_at(location)) {
            // Each complete publication removes them.
            return is_remembered;
        }
        let is_recent = former.tried_at.is_some_and(|at| (0..RETRY_SECONDS).contains(&(now - at)));
        if !is_recent {
            former.tried_at = Some(now);
            former.problem = match former.remove(state.location.as_ref(), &state.id, key) {
                Ok(count) => {
                    let Location { server, zone, .. } = &former.location;
                    if count > 0 {
                        tracing::info!(target: journal::NOTICE, "removed {count} names from the zone {zone} of the DNS server {server}");
                    }
                    return false;
                }
                Err(_) if !is_remembered => {
                    former.forget();
                    return false;
                }
                Err(why) => Some(former.remark(&why)),
            };
        }
        remarks.extend(former.problem.clone());
        true
    });
    state.former = former;
    remarks
}
