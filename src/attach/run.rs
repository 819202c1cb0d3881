//! Commands over the local socket.

use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::Reply;
use super::frame::Kind;
use super::outlet::LocalOutlet;
use super::server::Server;
use crate::exec::{Command, Task};
use crate::session::AttachedUser;
use crate::system::message::{MessageError, send_async};
use crate::system::reactor::peer_closed;

impl Server {
    pub(super) async fn run(
        &self,
        mut stream: UnixStream,
        user: AttachedUser,
        command: Command,
    ) -> Result<(), MessageError> {
        send_async(&mut stream, &Reply::Connected).await?;
        let watched = stream.as_fd().try_clone_to_owned()?;
        let (_reader, writer) = stream.into_split();
        let mut outlet = LocalOutlet::new(writer);
        let task = Task::new(self.console.clone(), user);
        let done = async {
            let status = task.run(command, &mut &mut outlet).await?;
            outlet.frame(Kind::Exit, &[status]).await.ok()
        };
        tokio::select! {
            // The client has disconnected.
            _ = done => {}
            _ = peer_closed(watched, Interest::WRITABLE) => {}
        }
        Ok(())
    }
}
