//! A lease on the line settings: while a client holds it, the line is set as that client requests. When it ends, because the client is
//! gone, the configured settings are restored. DTR and RTS are in no configuration that could be applied again: the levels before the
//! lease are kept in the FD store, so that the next process restores them after a kill.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::sync::oneshot;

use super::device::Device;
use super::line_config::LineConfig;
use super::source::{LeaseReply, SourceLink};
use super::stream::Stream;
use crate::port::LineSettings;
use crate::serial::{ModemLine, ModemLines};
use crate::system::systemd;

/// Name in the FD store of the levels before a lease.
pub(super) const LEVELS_STORED_AS: &str = "levels";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Levels {
    dtr: bool,
    rts: bool,
}

impl Levels {
    /// In a file of its own, one byte each.
    fn stored(self) -> io::Result<OwnedFd> {
        let mut file: File = memfd_create("console-levels", MemfdFlags::CLOEXEC)?.into();
        file.write_all(&[self.dtr, self.rts].map(u8::from))?;
        Ok(file.into())
    }

    /// The levels that an earlier process has stored.
    pub(super) fn read(stored: OwnedFd) -> io::Result<Self> {
        let mut file = File::from(stored);
        file.rewind()?;
        let mut bytes = [0; 2];
        file.read_exact(&mut bytes)?;
        let [dtr, rts] = bytes.map(|byte| byte != 0);
        Ok(Self { dtr, rts })
    }

    /// Sets those that differ now. With `rtscts`, the driver controls RTS.
    pub(super) fn restore(self, stream: &Stream, wanted: &LineConfig) {
        let lines = [(ModemLine::Dtr, self.dtr), (ModemLine::Rts, self.rts)];
        let now = stream.modem_lines().ok().flatten();
        for (line, on) in lines {
            let is = now.map(|now| if line == ModemLine::Dtr { now.dtr } else { now.rts });
            let drivers = line == ModemLine::Rts && wanted.settings.rtscts;
            if is != Some(on)
                && !drivers
                && let Err(error) = stream.set_modem_line(line, on)
            {
                tracing::warn!("cannot restore {line}: {error}");
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Lease {
    /// Resolves when the client is gone. Nothing is ever sent by it.
    ends: oneshot::Receiver<()>,
    /// Whether input is sent in the meantime.
    pub(super) sends: bool,
    /// DTR and RTS before the lease, if its client may set them.
    before: Option<Levels>,
}

impl Lease {
    pub(super) fn begin(ends: oneshot::Receiver<()>, sends: bool, stream: &Stream) -> Self {
        // Modem lines that cannot be read cannot be restored.
        let lines = if sends { stream.modem_lines().ok().flatten() } else { None };
        let before = lines.map(|ModemLines { dtr, rts, .. }| Levels { dtr, rts });
        if let Some(levels) = before {
            match levels.stored() {
                Ok(stored) => {
                    systemd::store(LEVELS_STORED_AS, stored.as_fd());
                }
                Err(error) => tracing::warn!("DTR and RTS are not restored after a kill: {error}"),
            }
        }
        Self { ends, sends, before }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.before.is_some() {
            systemd::forget(LEVELS_STORED_AS);
        }
    }
}

/// Sets the line for a lease. A far end replies later.
pub(super) fn set(
    device: &mut Device,
    link: &mut SourceLink,
    stream: &Stream,
    settings: LineSettings,
    told: oneshot::Sender<LeaseReply>,
) {
    let set = device.try_settings(stream, &settings);
    let is_remote = stream.source().is_some_and(|connection| connection.dialer().source().has_line());
    if is_remote {
        link.lease(settings, told, &device.wanted);
    } else {
        // A client that no longer waits needs no reply.
        let _ = told.send(set);
    }
}

/// Ends the lease, if there is one: the line is as configured, and DTR and RTS are as before.
pub(super) fn end(lease: &mut Option<Lease>, device: &mut Device, link: &mut SourceLink, stream: &Stream) {
    let Some(lease) = lease.take() else { return };
    device.set_back(stream);
    link.end_lease(&device.wanted);
    if let Some(before) = lease.before {
        before.restore(stream, &device.wanted);
    }
}

/// Waits until the lease ends; without limit if there is none. Cancel safe.
pub(super) async fn over(lease: &mut Option<Lease>) {
    match lease {
        Some(lease) => drop((&mut lease.ends).await),
        None => std::future::pending().await,
    }
}
