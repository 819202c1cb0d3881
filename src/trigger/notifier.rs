//! Notifies console-admin that a trigger has fired. A port connects to the bus only while it has something to send: connections of 32
//! idle ports would cost more than the ports. Only this task waits for the bus, and only for a bounded time.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::config::TriggerName;
use crate::port::PortName;

/// Time for the bus, the start of console-admin and its reply together.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Rules that have fired and are not sent yet: as many as a port may have. Further ones are in the journal only.
const NOTICE_QUEUE: usize = crate::config::MAX_TRIGGERS;

/// The recipient: `man org.consoleserver1`.
pub(crate) const NAME: &str = "org.consoleserver1";
/// Its object for ports.
pub(crate) const PATH: &str = "/org/consoleserver1";
/// Its interface for ports.
pub(crate) const INTERFACE: &str = "org.consoleserver1.Watcher";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    pub rule: TriggerName,
    /// The line, printable.
    pub line: String,
}

pub fn begin(port: watch::Receiver<PortName>) -> mpsc::Sender<Fired> {
    let (sender, news) = mpsc::channel(NOTICE_QUEUE);
    tokio::spawn(run(port, news));
    sender
}

async fn run(port: watch::Receiver<PortName>, mut news: mpsc::Receiver<Fired>) {
    while let Some(first) = news.recv().await {
        let port = port.borrow().clone();
        let told = tokio::time::timeout(CALL_TIMEOUT, notify_admin(&port, first, &mut news)).await;
        let why = match told {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", CALL_TIMEOUT.as_secs()),
        };
        tracing::warn!("console-admin was not notified of a trigger: system bus: {why}");
    }
}

/// Sends over one connection, which ends when the queue is empty.
async fn notify_admin(port: &PortName, first: Fired, more: &mut mpsc::Receiver<Fired>) -> zbus::Result<()> {
    let bus = zbus::Connection::system().await?;
    let mut next = Some(first);
    while let Some(Fired { rule, line }) = next {
        let words = (port.as_str(), rule.as_str(), line.as_str());
        match bus.call_method(Some(NAME), PATH, Some(INTERFACE), "Report", &words).await {
            Ok(_) => {}
            Err(zbus::Error::MethodError(_, Some(said), _)) => tracing::warn!("trigger {rule}: {said}"),
            Err(error) => return Err(error),
        }
        next = more.try_recv().ok();
    }
    Ok(())
}
