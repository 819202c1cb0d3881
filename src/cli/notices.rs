//! What others change, told at the prompt as it happens. A thread of its own listens on the bus, as the prompt waits for keys; rustyline
//! prints what it says above the prompt and the half-typed line, and draws these again. While a command runs, a console above all, nothing is
//! printed: that comes with the next prompt.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use rustyline::ExternalPrinter;
use tokio::time::Instant;

use super::service::Service;
use crate::admin::bus::Changed;
use crate::session::plain;
use crate::system::clock::{clock, reached};

/// Lines kept while a command runs.
const MAX_KEPT: usize = 50;
/// Lines of changes that are printed in one [`BURST_WINDOW`]: a script may change thousands of keys.
const MAX_SHOWN: usize = 10;
const BURST_WINDOW: Duration = Duration::from_secs(5);
/// For the bus to take the subscription before the first prompt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts to reach a bus that is gone.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Seconds before a commit goes back at which that is told.
const MARKS: [u64; 6] = [600, 300, 120, 60, 30, 10];

/// What the prompt and the listener share.
#[derive(Debug, Clone, Default)]
pub struct Notices(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    /// Whether the prompt waits for a line.
    editing: bool,
    kept: VecDeque<String>,
    /// Older lines than those that are kept.
    dropped: usize,
    /// Our name on the bus: our own changes are not told.
    own: Option<String>,
    /// When the commit on trial goes back.
    deadline: Option<Instant>,
}

impl Notices {
    /// Listens from now on.
    pub fn listen(printer: impl ExternalPrinter + Send + 'static) -> std::io::Result<Self> {
        let notices = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ready, is_ready) = sync_channel(1);
        let listener = Listener {
            notices: notices.clone(),
            printer,
            shown: 0,
            passed_over: 0,
            window: None,
            ready: Some(ready),
        };
        // It ends with the process.
        std::thread::Builder::new()
            .name("notices".to_owned())
            .spawn(move || runtime.block_on(listener.run()))?;
        // What is changed from the first prompt on is told. Without a bus there is a prompt all the same.
        let _ = is_ready.recv_timeout(CONNECT_TIMEOUT);
        Ok(notices)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose changes are our own.
    pub fn own(&self, name: Option<String>) {
        self.lock().own = name;
    }

    /// The prompt waits for a line from now on, or does not. Returns what was kept.
    pub fn editing(&self, editing: bool) -> Vec<String> {
        let mut shared = self.lock();
        shared.editing = editing;
        if !editing {
            return Vec::new();
        }
        let dropped = std::mem::take(&mut shared.dropped);
        let first = (dropped > 0).then(|| format!("{dropped} earlier notices were not kept: see `diff`"));
        first.into_iter().chain(shared.kept.drain(..)).collect()
    }

    /// Seconds until the commit on trial goes back; `None` if none is.
    pub fn left(&self) -> Option<u64> {
        self.lock().deadline.map(|at| at.saturating_duration_since(Instant::now()).as_secs())
    }
}

/// A terminal on which nothing can be drawn again: what is half typed stays in its line, which the kernel has.
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
    /// Lines in this window, and those that were not printed.
    shown: usize,
    passed_over: usize,
    window: Option<Instant>,
    /// To be told once it listens, or has failed to.
    ready: Option<SyncSender<()>>,
}

impl<P: ExternalPrinter> Listener<P> {
    async fn run(mut self) {
        loop {
            // Why there is no bus, or no longer one, the next command says.
            if let Ok(service) = Service::connect().await {
                let _ = self.hear(&service).await;
            }
            self.is_ready();
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    fn is_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            // The prompt may not have waited so long.
            let _ = ready.try_send(());
        }
    }

    /// Until the bus is gone.
    async fn hear(&mut self, service: &Service) -> zbus::Result<()> {
        let mut signals = service.manager.receive_changed().await?;
        self.is_ready();
        self.look(service).await?;
        loop {
            let mark = self.mark();
            let window = self.window.map(|begun| begun + BURST_WINDOW);
            tokio::select! {
                signal = signals.next() => match signal {
                    Some(signal) => self.told(service, &signal).await?,
                    None => return Ok(()),
                },
                () = reached(mark.map(|(at, _)| at)) => {
                    if let Some((_, left)) = mark {
                        let (minutes, seconds) = (left / 60, left % 60);
                        self.say(format!(
                            "the last commit is rolled back in {minutes}:{seconds:02}, unless somebody says `confirm`"
                        ));
                    }
                }
                () = reached(window) => self.end_window(),
            }
        }
    }

    /// Whether a commit is on trial, and for how long.
    async fn look(&mut self, service: &Service) -> zbus::Result<()> {
        let left = service.manager.confirm_within().await?;
        let deadline = (left > 0).then(|| Instant::now() + Duration::from_secs(left.into()));
        self.notices.lock().deadline = deadline;
        Ok(())
    }

    /// The next moment at which the time that is left is told, and how much it is then.
    fn mark(&self) -> Option<(Instant, u64)> {
        let deadline = self.notices.lock().deadline?;
        // One that has just been told is not told again: its moment is over.
        let marks =
            MARKS.iter().filter_map(|left| Some((deadline.checked_sub(Duration::from_secs(*left))?, *left)));
        marks.filter(|(at, _)| *at > Instant::now()).min()
    }

    async fn told(&mut self, service: &Service, signal: &Changed) -> zbus::Result<()> {
        let told = signal.args()?;
        let is_edit = matches!(*told.action(), "set" | "unset" | "create" | "remove" | "reload");
        let is_own = self.notices.lock().own.as_deref() == Some(told.by().caller.as_str());
        if !is_own {
            if is_edit && self.shown >= MAX_SHOWN {
                self.passed_over += 1;
            } else {
                self.shown += usize::from(is_edit);
                self.say(plain(told.text()));
            }
            if is_edit {
                self.window.get_or_insert_with(Instant::now);
            }
        }
        if !is_edit {
            self.look(service).await?;
        }
        Ok(())
    }

    fn end_window(&mut self) {
        (self.shown, self.window) = (0, None);
        match std::mem::take(&mut self.passed_over) {
            0 => {}
            count => self.say(format!("and {count} more changes: `diff` shows what is not committed")),
        }
    }

    fn say(&mut self, text: String) {
        let line = format!("{} {text}\n", clock(jiff::Timestamp::now()));
        let mut shared = self.notices.lock();
        if shared.editing {
            // Not with the lock: it waits if the prompt has not printed the one before yet.
            drop(shared);
            // One that cannot be printed is one at a terminal that is gone.
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
        (Listener { notices, printer, shown: 0, passed_over: 0, window: None, ready: None }, paper)
    }

    #[test]
    fn nothing_is_printed_while_a_command_runs_and_what_is_kept_is_bounded() {
        let (mut listener, paper) = listener();
        let notices = listener.notices.clone();
        assert_eq!(notices.editing(true), [""; 0]);
        listener.say("one".to_owned());
        assert!(paper.lock().unwrap().ends_with(" one\n"));
        notices.editing(false);
        for number in 0..MAX_KEPT + 2 {
            listener.say(number.to_string());
        }
        assert!(paper.lock().unwrap().ends_with(" one\n"));
        let kept = notices.editing(true);
        assert_eq!(kept.len(), MAX_KEPT + 1);
        assert!(kept[0].starts_with("2 earlier notices"), "{}", kept[0]);
        assert!(kept[1].ends_with(" 2") && kept[MAX_KEPT].ends_with(&format!(" {}", MAX_KEPT + 1)));
    }

    #[test]
    fn the_time_that_is_left_is_told_at_marks() {
        let (listener, _) = listener();
        let mark = |left: u64| {
            listener.notices.lock().deadline = Some(Instant::now() + Duration::from_secs(left));
            listener.mark().map(|(_, left)| left)
        };
        assert_eq!(mark(3600), Some(600));
        assert_eq!(mark(300), Some(120));
        assert_eq!(mark(61), Some(60));
        assert_eq!(mark(31), Some(30));
        assert_eq!(mark(9), None);
        listener.notices.lock().deadline = None;
        assert_eq!(listener.mark(), None);
    }
}
