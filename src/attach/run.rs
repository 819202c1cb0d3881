//! Commands over the local socket.

use std::os::fd::AsFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::Reply;
use super::frame::Kind;
use super::outlet::LocalOutlet;
use crate::exec::{Command, Task};
use crate::session::{AttachedUser, Console};
use crate::system::message::{MessageError, send_async};
use crate::system::reactor::peer_closed;

pub(super) async fn run(
    console: &Arc<Console>,
    mut stream: UnixStream,
    user: AttachedUser,
    command: Command,
) -> Result<(), MessageError> {
    send_async(&mut stream, &Reply::Connected).await?;
    let watched = stream.as_fd().try_clone_to_owned()?;
    let (_reader, writer) = stream.into_split();
    let mut outlet = LocalOutlet::new(writer);
    let task = Task::new(console.clone(), user);
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
