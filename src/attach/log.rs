//! The capture log over the local socket: the port reads it, because its readers need not be in the group of the file.

use std::os::fd::AsFd;

use tokio::net::UnixStream;

use super::Reply;
use super::frame::Kind;
use super::outlet::LocalOutlet;
use super::server::{Server, left};
use crate::message::{MessageError, send_async};
use crate::session::Gone;

/// Lines that may be asked for: those of a long night. More is for a pager on the file.
const LINES: u32 = 100_000;

impl Server {
    pub(super) async fn show_log(
        &self,
        mut stream: UnixStream,
        lines: u32,
        follow: bool,
    ) -> Result<(), MessageError> {
        // Before the file is looked at: what comes in between is announced.
        let mut logged = self.console.hub.logged();
        let log = self.console.settings().log;
        let tail = self.console.log.last_lines(&log, lines.min(LINES) as usize).await;
        let mut tail = match tail {
            Ok(tail) => tail,
            Err(why) => {
                let why = format!("{}: {why}", self.console.name);
                return send_async(&mut stream, &Reply::Refused(why)).await;
            }
        };
        send_async(&mut stream, &Reply::Connected).await?;
        let watched = stream.as_fd().try_clone_to_owned()?;
        let (_reader, writer) = stream.into_split();
        let mut outlet = LocalOutlet::new(writer);
        let shown = async {
            loop {
                let piece = match self.console.log.read(tail).await {
                    Ok((going_on, piece)) => {
                        tail = going_on;
                        piece
                    }
                    Err(why) => {
                        outlet.frame(Kind::Aside, format!("[{why}]\n").as_bytes()).await?;
                        return outlet.frame(Kind::Closed, &[]).await;
                    }
                };
                if !piece.is_empty() {
                    outlet.frame(Kind::Shown, &piece).await?;
                } else if !follow || logged.changed().await.is_err() {
                    return outlet.frame(Kind::Left, &[]).await;
                }
            }
        };
        tokio::select! {
            // A client that is gone needs no more.
            Ok(()) | Err(Gone) = shown => {}
            _ = left(watched) => {}
        }
        Ok(())
    }
}
