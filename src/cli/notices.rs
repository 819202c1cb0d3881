//! Notices of other users' changes, printed at the prompt as they happen. A separate thread subscribes to D-Bus signals while the prompt
//! reads keys; rustyline prints a notice above the prompt and redraws the edited line. Notices that arrive while a command runs, such as
//! `connect`, are printed before the next prompt.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use rustyline::ExternalPrinter;
use tokio::time::Instant;

use super::service::Service;
use crate::admin::bus::Changed;
use crate::session::plain;
use crate::system::clock::{clock, reached};
use crate::system::lock::Lock;

/// Notices kept while a command runs.
const MAX_KEPT: usize = 50;
/// Changes that are printed per [`BURST_WINDOW`]: a script may change thousands of keys.
const MAX_SHOWN: usize = 10;
const BURST_WINDOW: Duration = Duration::from_secs(5);
/// How long the first prompt waits for the subscription.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two attempts to reconnect to the bus.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Seconds before a rollback at which the remaining time is printed.
const MARKS: [u64; 6] = [600, 300, 120, 60, 30, 10];

/// The state that the prompt and the listener share.
#[derive(Debug, Clone, Default)]
pub struct Notices(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    /// Whether the prompt is reading a line.
    editing: bool,
    kept: VecDeque<String>,
    /// The number of older notices that were dropped.
    dropped: usize,
    /// The bus name of this process, whose own changes are not printed.
    own: Option<String>,
    /// When the pending `commit confirm` is rolled back.
    deadline: Option<Instant>,
}

impl Notices {
    pub fn listen(printer: impl ExternalPrinter + Send + 'static) -> std::io::Result<Self> {
        let notices = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ready, is_ready) = sync_channel(1);
        let listener = Listener {
            notices: notices.clone(),
            printer,
            shown: 0,
            suppressed: 0,
            window: None,
            ready: Some(ready),
        };
        // The thread ends with the process.
        std::thread::Builder::new()
            .name("notices".to_owned())
            .spawn(move || runtime.block_on(listener.run()))?;
        // Changes after the first prompt are not missed; without a bus the prompt starts after the timeout.
        let _ = is_ready.recv_timeout(CONNECT_TIMEOUT);
        Ok(notices)
    }

    pub fn own(&self, name: Option<String>) {
        self.0.locked().own = name;
    }

    /// The prompt starts or stops reading a line. Returns the notices that were kept.
    pub fn editing(&self, editing: bool) -> Vec<String> {
        let mut shared = self.0.locked();
        shared.editing = editing;
        if !editing {
            return Vec::new();
        }
        let dropped = std::mem::take(&mut shared.dropped);
        let first = (dropped > 0).then(|| format!("{dropped} earlier notices were dropped: see `diff`"));
        first.into_iter().chain(shared.kept.drain(..)).collect()
    }

    /// Stores the seconds that console-admin has just reported; 0 if no commit waits. The prompt calls it too, because the signal of its
    /// own commit may not have arrived yet.
    pub fn set_left(&self, seconds: u32) {
        let deadline = (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds.into()));
        self.0.locked().deadline = deadline;
    }

    /// Seconds until the pending `commit confirm` is rolled back.
    pub fn left(&self) -> Option<u64> {
        self.0.locked().deadline.map(|at| at.saturating_duration_since(Instant::now()).as_secs())
    }
}

/// A terminal that rustyline cannot redraw: the edited line stays in the kernel's line buffer.
pub struct PlainTerminal;

impl ExternalPrinter for PlainTerminal {
    fn print(&mut self, text: String) -> rustyline::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(format!("\n{text}").as_bytes())?;
        Ok(stdout.flush()?)
    }
}

struct Listener<P> {
    notices: Notices,
    printer: P,
    /// Changes printed and suppressed in this window.
    shown: usize,
    suppressed: usize,
    window: Option<Instant>,
    /// Signalled once the subscription is made or has failed.
    ready: Option<SyncSender<()>>,
}

impl<P: ExternalPrinter> Listener<P> {
    async fn run(mut self) {
        loop {
            // The next command reports why there is no bus.
            if let Ok(service) = Service::connect().await {
                let _ = self.receive(&service).await;
            }
            self.is_ready();
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    fn is_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            // The prompt may have timed out.
            let _ = ready.try_send(());
        }
    }

    /// Runs until the connection is lost.
    async fn receive(&mut self, service: &Service) -> zbus::Result<()> {
        let mut signals = service.manager.receive_changed().await?;
        self.is_ready();
        self.query_deadline(service).await?;
        loop {
            let mark = self.mark();
            let window = self.window.map(|begun| begun + BURST_WINDOW);
            tokio::select! {
                signal = signals.next() => match signal {
                    Some(signal) => self.handle(service, &signal).await?,
                    None => return Ok(()),
                },
                () = reached(mark.map(|(at, _)| at)) => {
                    if let Some((_, left)) = mark {
                        let (minutes, seconds) = (left / 60, left % 60);
                        self.notify(format!(
                            "the last commit is rolled back in {minutes}:{seconds:02} unless it is confirmed"
                        ));
                    }
                }
                () = reached(window) => self.end_window(),
            }
        }
    }

    /// Queries whether a commit waits for confirmation, and for how long.
    async fn query_deadline(&mut self, service: &Service) -> zbus::Result<()> {
        let left = service.manager.confirm_within().await?;
        self.notices.set_left(left);
        Ok(())
    }

    /// The next time at which the remaining time is printed, and the seconds that remain then.
    fn mark(&self) -> Option<(Instant, u64)> {
        let deadline = self.notices.0.locked().deadline?;
        // Strictly in the future, so that each mark is printed once.
        let marks =
            MARKS.iter().filter_map(|left| Some((deadline.checked_sub(Duration::from_secs(*left))?, *left)));
        marks.filter(|(at, _)| *at > Instant::now()).min()
    }

    async fn handle(&mut self, service: &Service, signal: &Changed) -> zbus::Result<()> {
        let change = signal.args()?;
        let is_edit = matches!(*change.action(), "set" | "unset" | "create" | "remove" | "reload");
        let is_own = self.notices.0.locked().own.as_deref() == Some(change.by().caller.as_str());
        // Before the notice, with which the prompt is redrawn: without the remaining time of a commit that no longer waits.
        let queried = if is_edit { Ok(()) } else { self.query_deadline(service).await };
        if !is_own {
            if is_edit && self.shown >= MAX_SHOWN {
                self.suppressed += 1;
            } else {
                self.shown += usize::from(is_edit);
                self.notify(plain(change.text()));
            }
            if is_edit {
                self.window.get_or_insert_with(Instant::now);
            }
        }
        queried
    }

    fn end_window(&mut self) {
        (self.shown, self.window) = (0, None);
        match std::mem::take(&mut self.suppressed) {
            0 => {}
            count => self.notify(format!("and {count} more changes: see `diff`")),
        }
    }

    fn notify(&mut self, text: String) {
        let line = format!("{} {text}\n", clock(jiff::Timestamp::now()));
        let mut shared = self.notices.0.locked();
        if shared.editing {
            // Without the lock: printing blocks until the prompt has printed the previous notice.
            drop(shared);
            // Fails only if the terminal is gone.
            let _ = self.printer.print(line);
            return;
        }
        if shared.kept.len() == MAX_KEPT {
            shared.kept.pop_front();
            shared.dropped += 1;
        }
        shared.kept.push_back(line.trim_end().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Paper(Arc<Mutex<String>>);

    impl ExternalPrinter for Paper {
        fn print(&mut self, text: String) -> rustyline::Result<()> {
            self.0.lock().unwrap().push_str(&text);
            Ok(())
        }
    }

    fn listener() -> (Listener<Paper>, Arc<Mutex<String>>) {
        let paper = Arc::<Mutex<String>>::default();
        let notices = Notices::default();
        let printer = Paper(paper.clone());
        (Listener { notices, printer, shown: 0, suppressed: 0, window: None, ready: None }, paper)
    }

    #[test]
    fn notices_are_kept_while_a_command_runs_up_to_a_limit() {
        let (mut listener, paper) = listener();
        let notices = listener.notices.clone();
        assert_eq!(notices.editing(true), [""; 0]);
        listener.notify("one".to_owned());
        assert!(paper.lock().unwrap().ends_with(" one\n"));
        notices.editing(false);
        for number in 0..MAX_KEPT + 2 {
            listener.notify(number.to_string());
        }
        assert!(paper.lock().unwrap().ends_with(" one\n"));
        let kept = notices.editing(true);
        assert_eq!(kept.len(), MAX_KEPT + 1);
        assert!(kept[0].starts_with("2 earlier notices"), "{}", kept[0]);
        assert!(kept[1].ends_with(" 2") && kept[MAX_KEPT].ends_with(&format!(" {}", MAX_KEPT + 1)));
    }

    #[test]
    fn the_remaining_time_is_printed_at_marks() {
        let (listener, _) = listener();
        let mark = |left: u64| {
            listener.notices.0.locked().deadline = Some(Instant::now() + Duration::from_secs(left));
            listener.mark().map(|(_, left)| left)
        };
        assert_eq!(mark(3600), Some(600));
        assert_eq!(mark(300), Some(120));
        assert_eq!(mark(61), Some(60));
        assert_eq!(mark(31), Some(30));
        assert_eq!(mark(9), None);
        listener.notices.0.locked().deadline = None;
        assert_eq!(listener.mark(), None);
    }
}
