//! Processes and listening sockets, from /proc.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Uid, User};

use crate::port::PortName;
use crate::session::plain;

/// A process and its open devices and sockets. Only root can inspect other users' processes.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) uid: u32,
    /// Its control group, which names its unit.
    pub(super) group: String,
    /// Device numbers of its character devices.
    pub(super) devices: Vec<u64>,
    /// Its sockets, as in /proc: `socket:[12345]`.
    pub(super) sockets: Vec<String>,
}

/// The processes that can be inspected.
pub(super) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
    entries.flatten().filter_map(pid).filter_map(|(pid, path)| Process::inspect(pid, &path)).collect()
}

impl Process {
    /// `None` if it has exited or may not be inspected.
    fn inspect(pid: u32, path: &Path) -> Option<Self> {
        let (mut devices, mut sockets) = (Vec::new(), Vec::new());
        for descriptor in fs::read_dir(path.join("fd")).ok()?.flatten() {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            if target.starts_with("/dev") {
                devices.extend(fs::metadata(descriptor.path()).map(|metadata| metadata.rdev()));
            } else if let Some(socket) = target.to_str().filter(|name| name.starts_with("socket:")) {
                sockets.push(socket.to_owned());
            }
        }
        let uid = fs::metadata(path).ok()?.uid();
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        let group = read("cgroup").lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned));
        let name = plain(read("comm").trim());
        Some(Self { pid, name, uid, group: group.unwrap_or_default(), devices, sockets })
    }

    /// Its user, except root.
    pub(super) fn user(&self) -> Option<String> {
        let uid = Uid::from_raw(self.uid);
        (!uid.is_root()).then(|| match User::from_uid(uid) {
            Ok(Some(user)) => user.name,
            _ => uid.to_string(),
        })
    }

    pub(super) fn unit(&self) -> Option<&str> {
        self.group.rsplit('/').next().filter(|unit| unit.ends_with(".service"))
    }

    /// The program and the short id of the container that it runs in.
    pub(super) fn container(&self) -> Option<(&'static str, &str)> {
        const SHORT_ID: usize = 12;
        [("docker", "docker-"), ("podman", "libpod-")].into_iter().find_map(|(program, prefix)| {
            let scope = self.group.split('/').find_map(|part| part.strip_prefix(prefix))?;
            Some((program, scope.strip_suffix(".scope")?.get(..SHORT_ID)?))
        })
    }

    pub(super) fn has_socket(&self, socket: &str) -> bool {
        self.sockets.iter().any(|own| own == socket)
    }

    /// Whether it is the process of this port, or systemd, which stores its descriptors.
    pub(super) fn is_of(&self, port: &PortName) -> bool {
        self.pid == 1 || self.group.ends_with(&format!("/console@{port}.service"))
    }
}

/// Listening sockets (proc_net_tcp(5)).
pub(super) const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The TCP ports with a listener, and its socket: `socket:[12345]`.
pub(super) fn listeners() -> BTreeMap<u16, String> {
    const LISTEN: &str = "0A";
    let mut listeners = BTreeMap::new();
    for table in TABLES {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(&LISTEN), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            if let Some(port) = port {
                listeners.entry(port).or_insert_with(|| format!("socket:[{inode}]"));
            }
        }
    }
    listeners
}
