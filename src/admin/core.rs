//! The work itself, one change at a time: set, reload, commit, roll back. What was done so far lies on the disk before the next
//! step, so that a killed service goes on where it was.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Mutex;

use thiserror::Error;

use super::apply::{self, Plan, Present, Step};
use super::bouncer::caller;
use super::confirm::{LONGEST, Waiting};
use super::files::{FileError, Files, Stamp};
use super::live::Live;
use super::state::{Author, Refusal, State};
use super::units::{Units, UnitsError};
use crate::attach::client;
use crate::config::changes::{KeyPath, Scope};
use crate::config::commit::{self, COMMITTED, CommitError};
use crate::config::{Config, ConfigError, Text, Value, load_text};
use crate::event::Event;
use crate::generator;
use crate::port::PortName;

/// Why something was not done. The Display is what the administrator reads.
#[derive(Debug, Error)]
pub enum Error {
    /// A change that cannot be.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The disk.
    #[error("{0}")]
    File(#[from] FileError),
    /// /etc.
    #[error("{0}")]
    Commit(#[from] CommitError),
    /// What is committed at present.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// systemd.
    #[error("{0}")]
    Units(#[from] UnitsError),
    /// Somebody listens there already.
    #[error("{0} is taken by another program: nothing was changed")]
    Taken(SocketAddr),
    /// An address that cannot be listened on.
    #[error("{0} cannot be listened on: {1}: nothing was changed")]
    Address(SocketAddr, std::io::Error),
    /// What was done was undone.
    #[error("{0}; it is as it was before")]
    Undone(UnitsError),
    /// What was done could not even be undone.
    #[error("{0}; going back has failed too: {1}")]
    Stuck(UnitsError, Box<Error>),
    /// What the generator has made.
    #[error("{0}: cannot be read: {1}")]
    Generated(PathBuf, std::io::Error),
    /// One commit at a time.
    #[error("a commit waits for confirm until {0}: confirm or revert it first")]
    Waits(String),
    /// None does.
    #[error("no commit waits for confirm")]
    NoneWaits,
    /// How long a commit may wait.
    #[error("a commit can wait for confirm for 1 to {LONGEST} seconds, not {0}")]
    Seconds(u32),
    /// A port's own words, or that it has none.
    #[error("{0}")]
    Port(String),
}

/// Sentences about what was done.
pub type Remarks = Vec<String>;

/// The one who changes things.
pub struct Core {
    files: Files,
    units: Units,
    /// Ports that run.
    pub live: Live,
    /// Read and replaced at once, never held over a wait.
    state: Mutex<(State, Stamp)>,
    waiting: Mutex<Option<Waiting>>,
    /// One change at a time; the state above can be looked at meanwhile.
    turn: tokio::sync::Mutex<()>,
}

impl Core {
    /// From what an earlier life has left.
    pub fn new(files: Files, units: Units, live: Live) -> Self {
        files.sweep();
        let stamp = files.stamp();
        let state = files.load();
        let waiting = Waiting::load(&files).unwrap_or_else(|error| {
            tracing::error!("which commit waits for confirm cannot be told, so it stays: {error}");
            None
        });
        let core = Self {
            files,
            units,
            live,
            state: Mutex::new((state, stamp)),
            waiting: Mutex::new(waiting),
            turn: tokio::sync::Mutex::default(),
        };
        core.keep_last_good(&core.state());
        core
    }

    /// The state, with the committed file as it is now.
    pub fn state(&self) -> State {
        let stamp = self.files.stamp();
        let mut held = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if held.1 != stamp {
            let (text, fault) = self.files.committed();
            *held = (held.0.over(text, fault), stamp);
            let state = held.0.clone();
            drop(held);
            self.keep_last_good(&state);
            return state;
        }
        held.0.clone()
    }

    /// The commit that waits.
    pub fn waiting(&self) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn wait_for(&self, waiting: Option<Waiting>) {
        *self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = waiting;
    }

    fn keep(&self, state: State) {
        let mut held = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.0 = state;
    }

    /// Of a right text only, and not of one that somebody may yet roll back.
    fn keep_last_good(&self, state: &State) {
        if state.fault.is_none()
            && self.waiting().is_none()
            && !state.committed.text.is_empty()
            && let Err(error) = self.files.save_last_good(&state.committed.text)
        {
            tracing::error!("no copy of the last good configuration is kept: {error}");
        }
    }

    /// A change of the candidate.
    pub async fn change(
        &self,
        revision: u64,
        change: impl FnOnce(&State, &Author) -> Result<State, Refusal>,
    ) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let state = self.state();
        state.check_revision(revision)?;
        let author = author();
        let next = change(&state, &author)?;
        self.files.save_candidate(&next)?;
        let Author { who, .. } = author;
        let key = next.last.as_ref().map(|last| last.key.clone()).unwrap_or_default();
        let port = key.parse().ok().and_then(|path: KeyPath| path.scope.port().map(ToString::to_string));
        tracing::info!(
            message_id = Event::Set.id(),
            console_port = port,
            console_user = who,
            "{who} has changed {key}: it is in force after a reload"
        );
        self.keep(next);
        Ok(())
    }

    /// A key takes a value, or its default.
    pub async fn set(&self, path: KeyPath, value: Option<Value>, revision: u64) -> Result<(), Error> {
        self.change(revision, |state, author| state.set(path, value, author)).await
    }

    /// Applies the changes of some tables.
    pub async fn reload(&self, which: impl Fn(&Scope) -> bool) -> Result<Remarks, Error> {
        let _turn = self.turn.lock().await;
        self.apply(which).await
    }

    async fn apply(&self, which: impl Fn(&Scope) -> bool) -> Result<Remarks, Error> {
        let state = self.state();
        if let Some(fault) = &state.fault {
            return Err(Refusal::Committed(fault.clone()).into());
        }
        let next = state.reloaded(&which);
        let mut concerned = differing(&state.running_config, &next.running_config);
        // Asked for again, a port takes its settings again: its device may have been set by another program.
        concerned.extend(
            next.running_config.ports.keys().filter(|name| which(&Scope::Port((*name).clone()))).cloned(),
        );
        let remarks = self.run(&state, &next, &concerned).await?;
        self.files.save_candidate(&next)?;
        self.keep(next);
        for port in &concerned {
            tracing::info!(console_port = %port, console_user = caller(), "{port} was reloaded by {}", caller());
        }
        Ok(remarks)
    }

    /// Has `next` run instead of `state`, or changes nothing.
    async fn run(
        &self,
        state: &State,
        next: &State,
        concerned: &BTreeSet<PortName>,
    ) -> Result<Remarks, Error> {
        self.live.forget().await;
        let (active, unknown) = match self.live.active().await {
            Ok(active) => (active, None),
            Err(error) => (BTreeSet::new(), Some(error.to_string())),
        };
        let units = self.generated()?;
        let now = Present {
            units: &units,
            config: &state.running_config,
            active: &active,
            device: &|path| path.exists(),
        };
        let plan = apply::plan(&now, &next.running_config, concerned);
        for address in &plan.probe {
            probe(*address)?;
        }
        self.files.save_running(next)?;
        let mut remarks = plan.remarks.clone();
        remarks.extend(unknown);
        match self.execute(&plan).await {
            Ok(()) => {}
            Err((0, denied)) if denied.is_denied() => remarks.push(by_hand(&plan, &denied)),
            Err((done, error)) => return Err(self.undo(state, next, &plan, done, error).await),
        }
        self.live.forget().await;
        for port in &plan.apply {
            match self.settings_taken(port).await {
                Ok(said) => remarks.extend(said.into_iter().map(|remark| format!("{port}: {remark}"))),
                Err(error) => remarks.push(format!("{port} has not taken the settings: {error}")),
            }
        }
        Ok(remarks)
    }

    /// systemd's part; with how many steps of it were done before one failed.
    async fn execute(&self, plan: &Plan) -> Result<(), (usize, UnitsError)> {
        if plan.daemon_reload {
            self.units.daemon_reload().await.map_err(|error| (0, error))?;
        }
        for (done, step) in plan.steps.iter().enumerate() {
            let tried = usize::from(plan.daemon_reload) + done;
            self.units.step(step).await.map_err(|error| (tried, error))?;
        }
        Ok(())
    }

    /// Back to `state`, as far as it was left.
    async fn undo(&self, state: &State, next: &State, plan: &Plan, done: usize, error: UnitsError) -> Error {
        let back = async {
            self.files.save_running(state)?;
            let units = self.generated()?;
            let touched: BTreeSet<_> = plan.steps.iter().filter_map(|step| port_of(step.unit())).collect();
            let active = self.units.active().await?;
            let now = Present {
                units: &units,
                config: &next.running_config,
                active: &active,
                device: &|path| path.exists(),
            };
            let mut back = apply::plan(&now, &state.running_config, &touched);
            // The socket that failed is where nobody listens now: it is started again even if its addresses did not change.
            let failed = plan
                .steps
                .get(done.saturating_sub(usize::from(plan.daemon_reload)))
                .map(|step| step.unit().to_owned());
            if let Some(unit) = failed.filter(|unit| {
                unit.ends_with(".socket") && !back.steps.iter().any(|step| step.unit() == unit)
            }) {
                back.steps.push(Step::Restart(unit));
            }
            self.execute(&back).await.map_err(|(_, error)| Error::from(error))
        };
        match back.await {
            Ok(()) => Error::Undone(error),
            Err(worse) => Error::Stuck(error, Box::new(worse)),
        }
    }

    async fn settings_taken(&self, port: &PortName) -> Result<Remarks, String> {
        self.live.ask(port, client::apply).await
    }

    /// Opens a port now, enabled or not, and its listeners.
    pub async fn start(&self, port: &PortName) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let state = self.state();
        let Some(settings) = state.running_config.ports.get(port) else {
            return Err(Error::Port(format!("{port} does not run yet: reload it first")));
        };
        let ssh = settings.ssh_port.map(|_| format!("console@{port}.socket"));
        let units =
            [Some(format!("console-attach@{port}.socket")), ssh, Some(format!("console@{port}.service"))];
        let active = self.units.active().await?;
        for unit in units.into_iter().flatten() {
            // A socket whose port runs listens already, and systemd would refuse to start it.
            if !(active.contains(port) && unit.ends_with(".socket")) {
                self.units.step(&Step::Start(unit)).await?;
            }
        }
        self.live.forget().await;
        Ok(())
    }

    /// Closes a port and its listeners.
    pub async fn stop(&self, port: &PortName) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        for unit in ["console@P.path", "console@P.socket", "console-attach@P.socket", "console@P.service"] {
            self.units.step(&Step::Stop(unit.replace('P', port.as_str()))).await?;
        }
        self.live.forget().await;
        Ok(())
    }

    /// Makes every change permanent. With `confirm_within` it goes back unless confirmed in so many seconds.
    pub async fn commit(&self, revision: u64, confirm_within: Option<u32>) -> Result<Remarks, Error> {
        let _turn = self.turn.lock().await;
        if let Some(waiting) = self.waiting() {
            return Err(Error::Waits(waiting.until()));
        }
        if let Some(seconds) = confirm_within.filter(|seconds| !(1..=LONGEST).contains(seconds)) {
            return Err(Error::Seconds(seconds));
        }
        let state = self.state();
        state.check_revision(revision)?;
        no_conflicts(&state)?;
        let mut remarks = Vec::new();
        if !state.candidate.is_empty() {
            let keys: Vec<_> = state.candidate.iter().map(|(path, _)| path.to_string()).collect();
            remarks.push(format!("reloaded first: {}", keys.join(", ")));
            let named: BTreeSet<Scope> = state.candidate.iter().map(|(path, _)| path.scope.clone()).collect();
            remarks.extend(self.apply(|scope| named.contains(scope)).await?);
        }
        // The file may have been edited during the reload.
        let state = self.state();
        no_conflicts(&state)?;
        let count = state.pending().len();
        if count == 0 {
            remarks.push("nothing to commit".to_owned());
            return Ok(remarks);
        }
        let text = state.merged()?;
        if let Some(seconds) = confirm_within {
            let before = load_text(&self.files.root.join(COMMITTED))?;
            let waiting = Waiting::new(seconds, before);
            waiting.save(&self.files)?;
            self.wait_for(Some(waiting));
        }
        if let Err(error) = commit::write(&self.files.root, &text) {
            if confirm_within.is_some() {
                self.wait_for(None);
                Waiting::forget(&self.files)?;
            }
            return Err(error.into());
        }
        self.settle(&state, text)?;
        let who = caller();
        tracing::info!(
            message_id = Event::Committed.id(),
            console_user = who,
            "{who} has committed {count} changes"
        );
        Ok(remarks)
    }

    /// The committed text is all there is.
    fn settle(&self, state: &State, text: String) -> Result<(), Error> {
        let next = state.settled(Text { text, path: self.files.root.join(COMMITTED) });
        self.files.save_running(&next)?;
        self.files.save_candidate(&next)?;
        self.keep(next);
        self.keep_last_good(&self.state());
        Ok(())
    }

    /// Keeps what a commit has written.
    pub async fn confirm(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        if self.waiting().is_none() {
            return Err(Error::NoneWaits);
        }
        Waiting::forget(&self.files)?;
        self.wait_for(None);
        self.keep_last_good(&self.state());
        tracing::info!(console_user = caller(), "commit confirmed by {}", caller());
        Ok(())
    }

    /// Forgets every change that is not committed; a commit that waits is rolled back.
    pub async fn revert(&self) -> Result<Remarks, Error> {
        let _turn = self.turn.lock().await;
        match self.waiting() {
            Some(waiting) => self.roll_back(waiting, &format!("by {}", caller())).await,
            None => {
                let state = self.state();
                let next = state.settled(state.committed.clone());
                let concerned = differing(&state.running_config, &next.running_config);
                let remarks = self.run(&state, &next, &concerned).await?;
                self.files.save_candidate(&next)?;
                self.keep(next);
                Ok(remarks)
            }
        }
    }

    /// Rolls back the commit whose time is over, if there is one.
    pub async fn expire(&self) {
        let _turn = self.turn.lock().await;
        let Some(waiting) = self.waiting().filter(|waiting| waiting.left() == 0) else { return };
        match self.roll_back(waiting, "since nobody has confirmed it").await {
            Ok(remarks) => remarks.iter().for_each(|remark| tracing::warn!("{remark}")),
            Err(error) => tracing::error!("rolling back has failed: {error}"),
        }
    }

    /// Everything as it was before the commit. Each step may be done twice, if this is killed between them.
    async fn roll_back(&self, waiting: Waiting, why: &str) -> Result<Remarks, Error> {
        let old = self.state();
        commit::restore(&self.files.root, waiting.before.as_deref())?;
        let next = old.settled(self.files.committed().0);
        let concerned = differing(&old.running_config, &next.running_config);
        let ran = self.run(&old, &next, &concerned).await;
        // The file is what it was: that it does not run everywhere is said, and does not bring the commit back.
        self.files.save_running(&next)?;
        self.files.save_candidate(&next)?;
        self.keep(next);
        Waiting::forget(&self.files)?;
        self.wait_for(None);
        self.keep_last_good(&self.state());
        tracing::warn!(
            message_id = Event::RolledBack.id(),
            console_user = caller(),
            "the last commit was rolled back {why}"
        );
        ran
    }

    fn generated(&self) -> Result<generator::Plan, Error> {
        let directory = self.files.root.join("run/systemd/generator");
        generator::written(&directory).map_err(|error| Error::Generated(directory, error))
    }
}

fn author() -> Author {
    Author { who: caller(), when: jiff::Timestamp::now() }
}

fn no_conflicts(state: &State) -> Result<(), Refusal> {
    let conflicts = state.conflicts();
    match (&state.fault, conflicts.is_empty()) {
        (Some(fault), _) => Err(Refusal::Committed(fault.clone())),
        (None, false) => Err(Refusal::Conflicts(conflicts)),
        (None, true) => Ok(()),
    }
}

/// Ports that are not the same in both: their own settings, or what they inherit.
fn differing(old: &Config, new: &Config) -> BTreeSet<PortName> {
    let of = |config: &Config, name: &PortName| {
        let port = config.ports.get(name)?.clone();
        let (listen, rules) = (config.listen(&port).to_vec(), config.rules(&port));
        Some((config.device(name, &port), config.access.root, listen, rules, port))
    };
    let names = old.ports.keys().chain(new.ports.keys());
    names.filter(|name| of(old, name) != of(new, name)).cloned().collect()
}

/// The port that a unit belongs to.
fn port_of(unit: &str) -> Option<PortName> {
    let instance = unit.strip_prefix("console@").or_else(|| unit.strip_prefix("console-attach@"))?;
    instance.rsplit_once('.')?.0.parse().ok()
}

/// What root has to do where polkit does not let us.
fn by_hand(plan: &Plan, denied: &UnitsError) -> String {
    let reload = plan.daemon_reload.then(|| "systemctl daemon-reload".to_owned());
    let steps: Vec<_> = reload.into_iter().chain(plan.steps.iter().map(Step::to_string)).collect();
    format!("{denied}; to be done as root: {}", steps.join("; "))
}

/// Whether an address can be listened on as systemd will do it.
fn probe(address: SocketAddr) -> Result<(), Error> {
    use nix::sys::socket::{setsockopt, sockopt};
    use socket2::{Domain, Socket, Type};
    let tried = || -> std::io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            // Both families at [::], as the generator has it: then an IPv4 listener is in the way too.
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_reuse_address(true)?;
        // FreeBind=yes: an address that the machine gets later.
        setsockopt(&socket.as_fd(), sockopt::IpFreebind, &true)?;
        socket.bind(&address.into())?;
        socket.listen(1)
    };
    match tried() {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Error::Taken(address)),
        // Where this service may not listen, systemd may: then the move itself tells.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        // A kernel without IPv6, where systemd takes IPv4 alone.
        Err(_) if address.ip().is_unspecified() && address.is_ipv6() => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, address.port())).map(drop).map_err(|error| {
                match error.kind() {
                    std::io::ErrorKind::AddrInUse => Error::Taken(address),
                    _ => Error::Address(address, error),
                }
            })
        }
        Err(error) => Err(Error::Address(address, error)),
    }
}
