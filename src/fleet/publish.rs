//! `console-directory`: publishes the names of this server's ports by nsupdate(1), which signs the updates (TSIG) and finds out what the DNS
//! server decided. Once; a timer and changes start it again.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::directory::{
    FILE, Identity, Remark, Settings, SettingsError, Updates, entries, is_reachable, label,
};
use crate::config::{Config, ConfigError};
use crate::printable::plain;
use crate::system::persist;

/// A device that is unplugged for shorter keeps its name: clients remember for minutes that a name does not exist.
const RELEASE_SECONDS: i64 = 300;
/// Seconds that nsupdate waits for one update.
const UPDATE_TIMEOUT: &str = "10";
/// Where `doctor` finds the remarks, below the directory of the state.
const REMARKS: &str = "remarks.json";
/// What is published, below the directory of the state.
const STATE: &str = "state.json";
/// The directory of the state, below the root.
const STATE_DIRECTORY: &str = "var/lib/consoleserver/directory";
/// Bytes of a file of ours: thousands of names.
const MAX_STATE: u64 = 4 * 1024 * 1024;

/// Why nothing, or not everything, is published.
#[allow(missing_docs)] // The Display of each variant describes it.
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
    #[error("the host name {0:?} is no DNS name: set name in /etc/consoleserver/directory.toml")]
    HostName(String),
    #[error("cannot run {0} (package bind9-dnsutils): {1}")]
    Start(&'static str, io::Error),
    #[error("the DNS server {server} cannot be reached: {error}")]
    Address { server: String, error: io::Error },
    #[error("the DNS server {0} is on this machine: set addresses in /etc/consoleserver/directory.toml")]
    NoAddress(String),
    #[error("the DNS server {server} did not take the update: {answer}")]
    Update { server: String, answer: String },
}

/// What was published.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    id: String,
    names: BTreeMap<String, Name>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Name {
    /// Since when its device is absent, in seconds of Unix time.
    absent_since: Option<i64>,
}

/// The problems of the last run.
pub fn remarks(root: &Path) -> Vec<Remark> {
    let read = |path: &Path| -> io::Result<Vec<Remark>> {
        if std::fs::metadata(path)?.len() > MAX_STATE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    };
    // Without a file nothing is published here.
    read(&root.join(STATE_DIRECTORY).join(REMARKS)).unwrap_or_default()
}

/// Publishes the configuration below `root`: whether there is one to publish. `key` is a file with the TSIG key, as tsig-keygen(8) prints it.
pub fn publish(root: &Path, key: Option<&Path>) -> Result<bool, PublishError> {
    let file = root.join(FILE);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(PublishError::File(file, error)),
    };
    let directory = root.join(STATE_DIRECTORY);
    let mut remarks = Vec::new();
    let published = publish_all(root, &text, key, &directory, &mut remarks);
    if let Err(error) = &published {
        remarks.push(Remark {
            port: None,
            problem: format!("the names of the ports are not published in DNS: {error}"),
            fix: "see journalctl -u console-directory; to retry: systemctl start console-directory"
                .to_owned(),
        });
    }
    for Remark { port, problem, .. } in remarks.iter().filter(|_| published.is_ok()) {
        let port = port.as_ref().map(|port| format!("{port} ")).unwrap_or_default();
        tracing::warn!("{port}{problem}");
    }
    write_json(&directory.join(REMARKS), &remarks)?;
    published.map(|()| true)
}

fn publish_all(
    root: &Path,
    text: &str,
    key: Option<&Path>,
    directory: &Path,
    remarks: &mut Vec<Remark>,
) -> Result<(), PublishError> {
    let settings = Settings::parse(text, Path::new("/").join(FILE).as_path())?;
    let key = key.filter(|key| key.exists()).ok_or(PublishError::NoKey)?;
    let config = Config::load_or_last_good(root)?.config;
    let mut state = read_state(directory)?;
    let identity = identity(&settings, &config, &state.id)?;
    let (entries, cannot) = entries(&config, &identity);
    remarks.extend(cannot);
    let updates = Updates { settings: &settings, identity: &identity };
    let now = Timestamp::now().as_second();

    let mut gone = Vec::new();
    let mut present = Vec::new();
    for name in state.names.keys().filter(|name| !entries.contains_key(*name)) {
        gone.push(name.clone());
    }
    for (name, entry) in &entries {
        let is_present = entry.port.as_ref().is_none_or(|port| {
            let settings = &config.ports[port];
            settings.source.is_some() || root.join(relative(&config.device(port, settings))).exists()
        });
        let known = state.names.get_mut(name);
        match (is_present, known) {
            (true, known) => {
                if let Some(known) = known {
                    known.absent_since = None;
                }
                present.push((name.as_str(), entry));
            }
            (false, Some(known)) => match *known.absent_since.get_or_insert(now) {
                since if now - since >= RELEASE_SECONDS => gone.push(name.clone()),
                _ => present.push((name.as_str(), entry)),
            },
            (false, None) => {}
        }
    }

    let run = |batch: &[String]| update(&settings, key, batch);
    let unexpected =
        |answer: &str| PublishError::Update { server: settings.server.clone(), answer: plain(answer) };
    let released = run(&gone.iter().map(|name| updates.release(name)).collect::<Vec<_>>())?;
    for (name, answer) in gone.iter().zip(&released) {
        match answer.as_str() {
            // NXRRSET: it is another server's now.
            "NOERROR" | "NXRRSET" => {
                tracing::info!("released {name}.{}", settings.zone);
                state.names.remove(name);
            }
            other => return Err(unexpected(other)),
        }
    }
    let refreshed =
        run(&present.iter().map(|(name, entry)| updates.refresh(name, entry)).collect::<Vec<_>>())?;
    let mut claimed = Vec::new();
    for ((name, entry), answer) in present.into_iter().zip(&refreshed) {
        match answer.as_str() {
            "NOERROR" => {
                state.names.entry(name.to_owned()).or_default();
            }
            "NXRRSET" => claimed.push((name, entry)),
            other => return Err(unexpected(other)),
        }
    }
    let answers = run(&claimed.iter().map(|(name, entry)| updates.claim(name, entry)).collect::<Vec<_>>())?;
    for ((name, entry), answer) in claimed.into_iter().zip(&answers) {
        match answer.as_str() {
            "NOERROR" => {
                tracing::info!("published {name}.{}", settings.zone);
                state.names.entry(name.to_owned()).or_default();
            }
            "YXDOMAIN" | "YXRRSET" => {
                state.names.remove(name);
                let owner = owner(&settings, &updates.marker(name));
                remarks.push(Remark {
                    port: entry.port.clone(),
                    problem: format!("is not published in DNS: {name}.{} belongs to {owner}", settings.zone),
                    fix: "rename one of the two ports; if that server is gone, delete the name and its marker _consoleserver in the zone"
                        .to_owned(),
                });
            }
            other => return Err(unexpected(other)),
        }
    }
    write_json(&directory.join(STATE), &state)
}

/// A device path below another root.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn read_state(directory: &Path) -> Result<State, PublishError> {
    let path = directory.join(STATE);
    let failed = |error| PublishError::File(path.clone(), error);
    let mut state: State = match std::fs::read(&path) {
        // An invalid file is an error: with a new id, this server would no longer own its names.
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
        Err(error) => return Err(failed(error)),
    };
    if state.id.is_empty() {
        let random = "/proc/sys/kernel/random/uuid";
        let id = std::fs::read_to_string(random).map_err(|error| PublishError::File(random.into(), error))?;
        state.id = id.trim().to_owned();
        // Before it is used: names that were published under a forgotten id would be nobody's.
        write_json(&path, &state)?;
    }
    Ok(state)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), PublishError> {
    let text = serde_json::to_vec(value).expect("strings and numbers");
    persist::write(path, &text, 0o644, None).map_err(|error| PublishError::File(path.to_owned(), error))
}

fn identity(settings: &Settings, config: &Config, id: &str) -> Result<Identity, PublishError> {
    let host = || {
        let file = "/proc/sys/kernel/hostname";
        std::fs::read_to_string(file).map_err(|error| PublishError::File(file.into(), error))
    };
    let name = settings.name.clone().map_or_else(host, Ok)?;
    let first = name.trim().split('.').next().unwrap_or_default();
    let name = label(first).ok_or_else(|| PublishError::HostName(name.trim().to_owned()))?;
    let addresses = match settings.addresses.is_empty() {
        true => own_addresses(&settings.server)?,
        false => settings.addresses.clone(),
    };
    let fingerprints = if settings.sshfp { fingerprints(config)? } else { Vec::new() };
    Ok(Identity { name, id: id.to_owned(), addresses, fingerprints })
}

/// The addresses from which this machine reaches the DNS server: one for IPv4 and one for IPv6.
fn own_addresses(server: &str) -> Result<Vec<IpAddr>, PublishError> {
    const DNS: u16 = 53;
    let failed = |error| PublishError::Address { server: server.to_owned(), error };
    let from = |to: SocketAddr| -> io::Result<IpAddr> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        // Chooses the route, and sends nothing.
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    let mut found = Vec::new();
    let mut error = io::ErrorKind::AddrNotAvailable.into();
    for to in (server, DNS).to_socket_addrs().map_err(failed)? {
        match from(to) {
            Ok(address) => found.push(address),
            Err(why) => error = why,
        }
    }
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Err(failed(error));
    }
    // A server on this machine is reached from 127.0.0.1, which is another machine for each client.
    found.retain(|address| is_reachable(*address));
    match found.is_empty() {
        true => Err(PublishError::NoAddress(server.to_owned())),
        false => Ok(found),
    }
}

/// The fingerprints of the host keys, which all listeners share, as the one of the admin CLI shows them.
fn fingerprints(config: &Config) -> Result<Vec<String>, PublishError> {
    let first = config.server.listen.first().map(|address| address.ip());
    let (Some(tcp_port), Some(address)) = (config.server.ssh_port, first) else { return Ok(Vec::new()) };
    let address = match address {
        IpAddr::V4(all) if all.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(all) if all.is_unspecified() => "::1".to_owned(),
        address => address.to_string(),
    };
    let mut command = Command::new("ssh-keyscan");
    command.args(["-D", "-T", "5", "-p", &tcp_port.to_string(), &address]).stdin(Stdio::null());
    let output = command.output().map_err(|error| PublishError::Start("ssh-keyscan", error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // RFC 6594: 2 is SHA-256; SHA-1 is obsolete.
    let data = text.lines().filter_map(|line| Some(line.split_once(" IN SSHFP ")?.1.trim().to_owned()));
    Ok(data.filter(|data| data.split(' ').nth(1) == Some("2")).collect())
}

/// Sends updates in their order: the response code of each.
fn update(settings: &Settings, key: &Path, batch: &[String]) -> Result<Vec<String>, PublishError> {
    let Some((first, rest)) = batch.split_first() else { return Ok(Vec::new()) };
    // The first one alone: a server that does not answer would cost a timeout for each.
    let mut answers = send(settings, key, std::slice::from_ref(first))?;
    if !rest.is_empty() {
        answers.extend(send(settings, key, rest)?);
    }
    Ok(answers)
}

fn send(settings: &Settings, key: &Path, batch: &[String]) -> Result<Vec<String>, PublishError> {
    let Settings { server, zone, .. } = settings;
    let mut script = format!("server {server}\nzone {zone}.\n");
    for lines in batch {
        script.push_str(lines);
        script.push_str("send\nanswer\n");
    }
    // Over TCP: updates with SSHFP records are longer than a datagram.
    let mut command = Command::new("nsupdate");
    command.args(["-v", "-t", UPDATE_TIMEOUT, "-k"]).arg(key);
    let output =
        talk(&mut command, script.as_bytes()).map_err(|error| PublishError::Start("nsupdate", error))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let status =
        |line: &str| Some(line.split_once("opcode: UPDATE, status: ")?.1.split_once(',')?.0.to_owned());
    let answers: Vec<String> = printed.lines().filter_map(status).collect();
    match answers.len() == batch.len() {
        true => Ok(answers),
        false => {
            let why = String::from_utf8_lossy(&output.stderr);
            let why = why.lines().map(|line| line.trim_start_matches("; ")).next().unwrap_or("no answer");
            Err(PublishError::Update { server: server.clone(), answer: plain(why) })
        }
    }
}

/// Runs a program with this input.
fn talk(command: &mut Command, input: &[u8]) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends early reports why.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output()
    })
}

/// Who has a name, by its marker.
fn owner(settings: &Settings, marker: &str) -> String {
    let mut command = Command::new("dig");
    command.args(["+short", "+tcp", "+time=5", "+tries=1", &format!("@{}", settings.server), marker, "TXT"]);
    let text = command
        .stdin(Stdio::null())
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let first = text.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    match first.split('"').find_map(|part| part.strip_prefix("server=")) {
        Some(server) => format!("the server {} ({})", plain(server), plain(&first.replace('"', ""))),
        None => "records that no console server has published".to_owned(),
    }
}
