//! `console-directory`: publishes the names of this server's ports. Once; a timer and changes start it again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use thiserror::Error;

use super::directory::{Entry, FILE, Identity, Remark, Settings, SettingsError, Updates, entries};
use super::former::{self, Location};
use super::identity::{fingerprints, identity};
use super::state::{STATE_DIRECTORY, State, write_remarks};
use super::update::{DnsServer, NameUpdate, UpdateError};
use crate::config::{Config, ConfigError};
use crate::printable::plain;
use crate::system::journal;

/// A device that is unplugged for shorter keeps its name: clients remember for minutes that a name does not exist.
const RELEASE_SECONDS: i64 = 300;
/// How old a complete publication may be while nothing has changed: records that were deleted at the DNS server are published again then.
const FULL_SECONDS: i64 = 3600;

/// The text that console-directory.service passes as the key if there is none.
const NO_KEY: &[u8] = b"none";

/// The response code if a name is not this server's.
pub const NOT_OURS: &[&str] = &["NXRRSET"];
/// The response codes if a name exists.
const EXISTS: &[&str] = &["YXDOMAIN", "YXRRSET"];

/// Why nothing, or not everything, is published.
#[derive(Debug, Error)]
pub enum PublishError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    #[error(
        "no TSIG key: systemd passes it as the credential tsig (LoadCredential=tsig:/etc/consoleserver/directory.key)"
    )]
    NoKey,
    #[error("the host name {0:?} is not a DNS name: set name in /etc/consoleserver/directory.toml")]
    HostName(String),
    #[error("cannot run {0} (package openssh-client): {1}")]
    Start(&'static str, io::Error),
    #[error(
        "sshfp = true requires the SSH port of the admin CLI, which offers the host keys: server.ssh_port is none"
    )]
    NoAdminPort,
    #[error("sshfp = true, and no host key is offered at {address}, TCP port {tcp_port}")]
    NoHostKey { address: String, tcp_port: u16 },
    #[error("the DNS server {server} cannot be reached: {error}")]
    Address { server: String, error: io::Error },
    #[error("the DNS server {0} is on this machine: set addresses in /etc/consoleserver/directory.toml")]
    NoAddress(String),
    #[error("{error}")]
    Update { zone: String, error: UpdateError },
}

impl PublishError {
    fn fix(&self) -> String {
        match self {
            Self::Update { zone, error } => error.fix(zone),
            Self::NoKey => {
                "install -m 0600 KEY /etc/consoleserver/directory.key; KEY is what tsig-keygen printed on the DNS server".to_owned()
            }
            Self::Address { server, .. } => {
                format!("make the name {server} known to this machine, or set server in /etc/consoleserver/directory.toml to an address")
            }
            Self::NoHostKey { .. } => "systemctl status console-cli.socket, or set sshfp = false".to_owned(),
            _ => "correct this; then systemctl start console-directory".to_owned(),
        }
    }
}

/// Whether everything is published, or what has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All names are sent to the DNS server.
    All,
    /// They are sent if something has changed, here or in the zone, or if the last update was an hour ago.
    Changes,
}

/// Publishes the configuration below `root`: whether there is one to publish. `key` is a file with the TSIG key, as tsig-keygen(8) prints it.
pub fn publish(root: &Path, key: Option<&Path>, extent: Extent) -> Result<bool, PublishError> {
    let key = key.filter(|key| is_key(key));
    let file = root.join(FILE);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return withdraw(root, key),
        Err(error) => return Err(PublishError::File(file, error)),
    };
    let directory = root.join(STATE_DIRECTORY);
    let mut remarks = Vec::new();
    let published = publish_text(root, &text, key, extent, &mut remarks);
    if let Err(error) = &published {
        remarks.push(Remark {
            port: None,
            problem: format!("the names of the ports are not published in DNS: {error}"),
            fix: error.fix(),
        });
    }
    let new = write_remarks(&directory, &remarks)?;
    published?;
    log(&new);
    Ok(true)
}

/// Removes what was published before the settings were deleted.
fn withdraw(root: &Path, key: Option<&Path>) -> Result<bool, PublishError> {
    let directory = root.join(STATE_DIRECTORY);
    let Some(mut state) = State::load_existing(&directory)? else { return Ok(false) };
    let now = Timestamp::now().as_second();
    let before = state.clone();
    state.move_to(None, now);
    let remarks = former::remove_names(&mut state, key, now);
    match state.former.is_empty() {
        true => State::delete(&directory)?,
        false => {
            if state != before {
                state.save(&directory)?;
            }
            log(&write_remarks(&directory, &remarks)?);
        }
    }
    Ok(false)
}

fn log(remarks: &[Remark]) {
    for Remark { port, problem, fix } in remarks {
        let port = port.as_ref().map(|port| format!("{port} ")).unwrap_or_default();
        tracing::warn!("{port}{problem}; {fix}");
    }
}

/// Whether this is a key, and not what console-directory.service passes without one.
fn is_key(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|text| !text.trim_ascii().is_empty() && text.trim_ascii() != NO_KEY)
}

fn publish_text(
    root: &Path,
    text: &str,
    key: Option<&Path>,
    extent: Extent,
    remarks: &mut Vec<Remark>,
) -> Result<(), PublishError> {
    let settings = Settings::parse(text, Path::new("/").join(FILE).as_path())?;
    let key = key.ok_or(PublishError::NoKey)?;
    let config = Config::load_or_last_good(root)?.config;
    let directory = root.join(STATE_DIRECTORY);
    let mut state = State::load(&directory)?;
    let now = Timestamp::now().as_second();

    let dns = DnsServer { settings: &settings, key };
    let mut identity = identity(&settings, &state.id)?;
    let failed = |error| PublishError::Update { zone: settings.zone.clone(), error };
    let location = Location::new(&settings, &identity);
    if state.location.as_ref() != Some(&location) {
        // The names stay where they are until the new DNS server accepts updates: the new settings may have
        // a mistake.
        let updates = Updates { settings: &settings, identity: &identity, digest: None };
        match state.names.is_empty() && state.removed.is_empty() {
            true => dns.connect().map_err(failed)?,
            false => dns.accepted(&[updates.probe()], NOT_OURS).map(drop).map_err(failed)?,
        }
        state.move_to(Some(location), now);
        state.save(&directory)?;
    }
    let (entries, cannot) = entries(&config, &identity);
    let before = state.clone();
    let wanted = wanted(root, &config, &entries, &mut state, now);
    let is_recent = (0..FULL_SECONDS).contains(&(now - state.published_at));
    if extent == Extent::Changes && is_recent {
        if settings.sshfp {
            identity.fingerprints.clone_from(&state.fingerprints);
        }
        let updates = Updates { settings: &settings, identity: &identity, digest: None };
        if is_published(&dns, &updates, &wanted, &state) {
            remarks.extend(cannot);
            remarks.extend(former::remove_names(&mut state, Some(key), now));
            return if state == before { Ok(()) } else { state.save(&directory) };
        }
    }
    if settings.sshfp {
        identity.fingerprints = fingerprints(&config)?;
    }
    remarks.extend(cannot);
    let updates = Updates { settings: &settings, identity: &identity, digest: None };
    let digest = updates.digest(&wanted);
    let updates = Updates { digest: Some(&digest), ..updates };

    // Before anything is sent: a name that is published when this process is killed is removed by a later one, if it has to.
    let gone: Vec<String> =
        state.names.keys().filter(|name| !wanted.contains_key(name.as_str())).cloned().collect();
    state.remove(&gone, now);
    let (ours, new): (Vec<&str>, Vec<&str>) =
        wanted.keys().copied().partition(|name| state.names.contains_key(*name));
    for name in wanted.keys() {
        state.names.entry((*name).to_owned()).or_default();
        state.removed.remove(*name);
    }
    state.digest = None;
    state.save(&directory)?;

    // A message for each: most of them are not in the zone, as expected.
    let renamed: Vec<Identity> =
        state.former_names().map(|name| Identity { name, ..identity.clone() }).collect();
    let renamed: Vec<Updates<'_>> =
        renamed.iter().map(|identity| Updates { settings: &settings, identity, digest: None }).collect();
    let mut removals: Vec<String> = state.removed.keys().map(|name| updates.release(name)).collect();
    removals.extend(former::removals_here(&state, &renamed, &wanted));
    let is_first = before.names.is_empty() && before.former.is_empty();
    let sent = dns
        .accepted(&removals, NOT_OURS)
        .and_then(|_| send_names(&dns, &updates, &renamed, &wanted, ours, new));
    if is_first && sent.as_ref().is_err_and(UpdateError::is_nothing_changed) {
        // Nothing was published, so nothing must be removed there once the settings are corrected.
        state.names.clear();
        state.save(&directory)?;
    }
    let Decided { published, others, any_taken } = sent.map_err(failed)?;
    for name in &gone {
        tracing::info!(target: journal::NOTICE, "removed {name}.{}", settings.zone);
    }
    for name in published {
        tracing::info!(target: journal::NOTICE, "published {name}.{}", settings.zone);
    }
    for name in others {
        state.names.remove(name);
        remarks.push(Remark {
            port: wanted[name].port.clone(),
            problem: format!(
                "is not published in DNS: {name}.{} belongs to {}",
                settings.zone,
                owner(&dns, &updates.marker(name))
            ),
            fix: "rename one of the two ports; if that server is gone, delete the name and its marker _consoleserver in the zone"
                .to_owned(),
        });
    }
    if any_taken && let Some((name, entry)) = wanted.iter().find(|(_, entry)| entry.port.is_none()) {
        // A zone from a backup of this moment lacks names that are published later: it must not have the digest.
        let updates = Updates { digest: None, ..updates };
        let own = [NameUpdate { name, lines: updates.refresh(name, entry) }];
        dns.update_names(&own, NOT_OURS).map_err(failed)?;
    }
    // A name that was sent after the server's entry may be missing in a zone that has the digest.
    state.digest = (!any_taken).then_some(digest);
    state.published_at = now;
    state.fingerprints.clone_from(&identity.fingerprints);
    state.save(&directory)?;
    remarks.extend(former::remove_names(&mut state, Some(key), now));
    state.save(&directory)
}

/// Whether these entries were published last, and the zone still has them.
fn is_published(dns: &DnsServer<'_>, updates: &Updates<'_>, wanted: &Entries<'_>, state: &State) -> bool {
    let digest = updates.digest(wanted);
    state.digest.as_ref() == Some(&digest)
        && state.names.keys().all(|name| wanted.contains_key(name.as_str()))
        && dns.txt_of(&updates.instance()).contains(&format!("\"published={digest}\""))
}

/// The decisions of the DNS server about names.
struct Decided<'a> {
    /// Names that were not this server's before.
    published: Vec<&'a str>,
    others: Vec<&'a str>,
    /// Whether a name existed that this server did not know as its own.
    any_taken: bool,
}

/// Refreshes the names that should be this server's, and claims the new ones.
fn send_names<'a>(
    dns: &DnsServer<'_>,
    updates: &Updates<'_>,
    renamed: &[Updates<'_>],
    wanted: &Entries<'a>,
    mut ours: Vec<&'a str>,
    mut new: Vec<&'a str>,
) -> Result<Decided<'a>, UpdateError> {
    // The server's own entry, which has the digest, comes last.
    for names in [&mut ours, &mut new] {
        names.sort_by_key(|name| wanted[name].port.is_none());
    }
    let refreshed = |names: &[&'a str]| -> Vec<NameUpdate<'a>> {
        names.iter().map(|name| NameUpdate { name, lines: updates.refresh(name, wanted[name]) }).collect()
    };
    new.extend(dns.update_names(&refreshed(&ours), NOT_OURS)?);
    let claimed: Vec<_> =
        new.iter().map(|name| NameUpdate { name, lines: updates.claim(name, wanted[name]) }).collect();
    let taken = dns.update_names(&claimed, EXISTS)?;
    // Names published by a process that was killed, or by another server.
    let mut others = dns.update_names(&refreshed(&taken), NOT_OURS)?;
    // Names published under a former name of this server.
    for former in renamed {
        let updates: Vec<_> = others
            .iter()
            .map(|name| NameUpdate { name, lines: updates.take_over(former, name, wanted[name]) })
            .collect();
        others = dns.update_names(&updates, NOT_OURS)?;
    }
    new.retain(|name| !others.contains(name));
    Ok(Decided { published: new, others, any_taken: !taken.is_empty() })
}

pub type Entries<'a> = BTreeMap<&'a str, &'a Entry>;

/// The entries whose device is present, or was a moment ago.
fn wanted<'a>(
    root: &Path,
    config: &Config,
    entries: &'a BTreeMap<String, Entry>,
    state: &mut State,
    now: i64,
) -> Entries<'a> {
    let mut wanted = BTreeMap::new();
    for (name, entry) in entries {
        let is_present = entry.port.as_ref().is_none_or(|port| {
            let settings = &config.ports[port];
            settings.source.is_some() || root.join(relative(&config.device(port, settings))).exists()
        });
        let known = state.names.get_mut(name);
        let is_wanted = match (is_present, known) {
            (true, Some(known)) => {
                known.absent_since = None;
                true
            }
            (true, None) => true,
            (false, Some(known)) => {
                // (The clock may have been set back.)
                let since = known.absent_since.unwrap_or(now).min(now);
                known.absent_since = Some(since);
                now - since < RELEASE_SECONDS
            }
            (false, None) => false,
        };
        if is_wanted {
            wanted.insert(name.as_str(), entry);
        }
    }
    wanted
}

/// A device path below another root.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// The server that owns a name, according to its marker.
fn owner(dns: &DnsServer<'_>, marker: &str) -> String {
    let first = dns.txt_of(marker);
    match first.split('"').find_map(|part| part.strip_prefix("server=")) {
        Some(server) => format!("the server {} ({})", plain(server), plain(&first.replace('"', ""))),
        None => "records that no console server has published".to_owned(),
    }
}
