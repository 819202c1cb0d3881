//! Waiting for a device: immediate, where each byte wakes the process, or coalescing, where the kernel buffers output until an alarm fires.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::device::Device;
use super::stream::{Contact, Stream};
use crate::system::alarm::Alarm;

/// How a device is waited for. It begins immediate.
#[derive(Debug)]
pub(super) struct Wakeups<'tty> {
    tty: &'tty Stream,
    /// `None` while output is coalesced.
    contact: Option<Contact<'tty>>,
    alarm: Alarm,
}

impl<'tty> Wakeups<'tty> {
    /// Immediate from now on.
    pub(super) fn new(tty: &'tty Stream) -> io::Result<Self> {
        Ok(Self { tty, contact: Some(Contact::new(tty)?), alarm: Alarm::default() })
    }

    /// The tty registered with the runtime, unless output is coalesced.
    pub(super) fn contact(&self) -> Option<&Contact<'tty>> {
        self.contact.as_ref()
    }

    /// Coalesces output for this window, or until [`Self::wake`].
    pub(super) fn coalesce(&mut self, window: Duration) {
        self.alarm.set(Some(Instant::now() + window));
        self.contact = None;
    }

    /// Ends the coalescing window.
    pub(super) fn wake(&mut self) -> io::Result<()> {
        if self.contact.is_none() {
            self.contact = Some(Contact::new(self.tty)?);
        }
        Ok(())
    }

    /// Waits until the device may have sent something, or the window is over. Cancel safe.
    pub(super) async fn readable(&self, device: &Device) -> io::Result<()> {
        match &self.contact {
            Some(contact) => device.intake.room_then_readable(contact).await,
            None => {
                self.alarm.rings().await;
                Ok(())
            }
        }
    }
}
