//! The sending half of a local client's connection, in frames.

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;

use super::frame::{self, Kind};
use crate::session::{Gone, Outlet};

pub(super) struct LocalOutlet {
    writer: OwnedWriteHalf,
    /// The rest of a frame whose sending was cancelled. It is sent first, because the next frame must not begin inside it.
    unsent: Vec<u8>,
}

impl LocalOutlet {
    pub(super) fn new(writer: OwnedWriteHalf) -> Self {
        Self { writer, unsent: Vec::new() }
    }

    /// Sends a frame. Cancel safe: the rest of it is sent first the next time.
    pub(super) async fn frame(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), Gone> {
        self.flush().await?;
        self.unsent = frame::encode(kind, bytes);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        while !self.unsent.is_empty() {
            let count = self.writer.write(&self.unsent).await.map_err(|_| Gone)?;
            self.unsent.drain(..count);
        }
        // Frees the memory: an idle session should cost little.
        self.unsent = Vec::new();
        Ok(())
    }
}

impl Outlet for &mut LocalOutlet {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.frame(Kind::Output, &bytes).await
    }

    async fn notice(&mut self, text: String) -> Result<(), Gone> {
        self.frame(Kind::Notice, text.as_bytes()).await
    }

    fn can_switch(&self) -> bool {
        true
    }
}
