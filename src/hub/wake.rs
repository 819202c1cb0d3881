//! Waiting for a device: immediate, where each byte wakes the process, or coalescing, where the kernel buffers output until an alarm fires.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::device::Device;
use crate::serial::{Contact, Tty};
use crate::system::alarm::Alarm;

/// How a device is heard at present. It begins awake.
#[derive(Debug)]
pub(super) struct Hearing<'tty> {
    tty: &'tty Tty,
    /// `None` while it rests.
    contact: Option<Contact<'tty>>,
    alarm: Alarm,
}

impl<'tty> Hearing<'tty> {
    /// Listens from now on.
    pub(super) fn new(tty: &'tty Tty) -> io::Result<Self> {
        Ok(Self { tty, contact: Some(tty.contact()?), alarm: Alarm::new() })
    }

    /// What it is heard by, if it is.
    pub(super) fn contact(&self) -> Option<&Contact<'tty>> {
        self.contact.as_ref()
    }

    /// Rests for so long, or until [`Self::wake`].
    pub(super) fn rest(&mut self, time: Duration) {
        self.alarm.set(Some(Instant::now() + time));
        self.contact = None;
    }

    /// Listens again, if it does not.
    pub(super) fn wake(&mut self) -> io::Result<()> {
        if self.contact.is_none() {
            self.contact = Some(self.tty.contact()?);
        }
        Ok(())
    }

    /// Waits until the device may have said something, or the rest is over. Cancel safe.
    pub(super) async fn readable(&self, device: &Device) -> io::Result<()> {
        match &self.contact {
            Some(contact) => device.room_then_readable(contact).await,
            None => {
                self.alarm.rings().await;
                Ok(())
            }
        }
    }

    /// Waits until the device may take more; for ever while it rests. Cancel safe.
    pub(super) async fn writable(&self) -> io::Result<&Contact<'tty>> {
        match &self.contact {
            Some(contact) => contact.writable().await.map(|()| contact),
            None => std::future::pending().await,
        }
    }
}
