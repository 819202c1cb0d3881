//! The capture log over the local socket: the port reads it, because its readers need not be in the group of the file.

use std::os::fd::AsFd;
use std::path::PathBuf;

use tokio::net::UnixStream;

use super::Reply;
use super::frame::Kind;
use super::outlet::LocalOutlet;
use super::server::{Server, left, on_a_thread};
use crate::capture::tail::Tail;
use crate::config::LogType;
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
        let tail = match self.log_path() {
            Ok(path) => self.blocking(move || Tail::last_lines(&path, lines.min(LINES) as usize)).await,
            Err(why) => Err(why),
        };
        let mut tail = match tail {
            Ok(tail) => tail,
            Err(why) => return send_async(&mut stream, &Reply::Refused(why)).await,
        };
        send_async(&mut stream, &Reply::Connected).await?;
        let watched = stream.as_fd().try_clone_to_owned()?;
        let (_reader, writer) = stream.into_split();
        let mut outlet = LocalOutlet::new(writer);
        let shown = async {
            loop {
                let read = self.blocking(move || {
                    let piece = tail.read()?;
                    Ok((tail, piece))
                });
                let piece = match read.await {
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

    fn log_path(&self) -> Result<PathBuf, String> {
        let log = self.console.settings().log;
        match log.kind {
            LogType::None => Err(format!("{} is not logged: its log.type is \"none\"", self.console.name)),
            _ => Ok(self.log_dir.join(log.file)),
        }
    }

    /// File work, which may take as long as the disk does.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let unreadable = |error| format!("the log cannot be read: {error}");
        on_a_thread(&self.log_reads, move || work().map_err(unreadable)).await
    }
}
