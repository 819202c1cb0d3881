//! A lease on the line settings: while a client holds it, the line is set as that client requests. When it ends, because the client is
//! gone, the configured settings are restored.

use tokio::sync::oneshot;

use super::line::LineConfig;
use super::stream::Stream;
use crate::serial::{ModemLine, ModemLines};

/// A lease in effect.
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
    pub(super) fn begin(ends: oneshot::Receiver<()>, sends: bool, tty: &Stream) -> Self {
        // Modem lines that cannot be read cannot be restored.
        let before = if sends { tty.modem_lines().ok().flatten() } else { None };
        Self { ends, sends, before }
    }

    /// Restores DTR and RTS. With `rtscts`, the driver controls RTS.
    pub(super) fn give_back(&self, tty: &Stream, wanted: &LineConfig) {
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
                tracing::warn!("cannot restore {line}: {error}");
            }
        }
    }
}

/// Waits until the lease ends; without limit if there is none. Cancel safe.
pub(super) async fn over(lease: &mut Option<Lease>) {
    match lease {
        Some(lease) => drop((&mut lease.ends).await),
        None => std::future::pending().await,
    }
}
