//! A lease on the line settings: while it is held, the line is set as the client that holds it wants. When it
//! ends, because the client is gone, the line is set as configured again.

use tokio::sync::oneshot;

use super::line::LineConfig;
use crate::serial::{ModemLine, ModemLines, Tty};

/// A lease that is held.
#[derive(Debug)]
pub(super) struct Lease {
    /// Resolves when the client is gone. Nothing is ever sent by it.
    ends: oneshot::Receiver<()>,
    /// Whether input is sent in the meantime.
    pub(super) sends: bool,
    /// DTR and RTS before the lease, if its client may set them.
    before: Option<ModemLines>,
}

impl Lease {
    pub(super) fn begin(ends: oneshot::Receiver<()>, sends: bool, tty: &Tty) -> Self {
        // A line whose modem lines cannot be read is one whose modem lines cannot be given back.
        let before = if sends { tty.modem_lines().ok().flatten() } else { None };
        Self { ends, sends, before }
    }

    /// Sets DTR and RTS as they were before the lease. With `rtscts`, RTS is the driver's own.
    pub(super) fn give_back(&self, tty: &Tty, wanted: &LineConfig) {
        let Some(before) = self.before else { return };
        let lines = [(ModemLine::Dtr, before.dtr), (ModemLine::Rts, before.rts)];
        let now = tty.modem_lines().ok().flatten();
        for (line, on) in lines {
            let is = now.map(|now| if line == ModemLine::Dtr { now.dtr } else { now.rts });
            let drivers = line == ModemLine::Rts && wanted.settings.rtscts;
            if is != Some(on)
                && !drivers
                && let Err(error) = tty.set_modem_line(line, on)
            {
                tracing::warn!("{line} cannot be set back: {error}");
            }
        }
    }
}

/// Waits until the lease ends; without one, without limit. Cancel safe.
pub(super) async fn over(lease: &mut Option<Lease>) {
    match lease {
        Some(lease) => drop((&mut lease.ends).await),
        None => std::future::pending().await,
    }
}
