//! What has the changes run: the plan of `apply`, done step by step and undone if a step fails, and the start and stop of a
//! port.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use futures_util::{StreamExt, stream};

use super::apply::{self, Plan, Present, Step};
use super::authorization::caller;
use super::core::{Core, Error, Remarks};
use super::port_move::instance_of;
use super::rename::{self, Renames, back, instances, renamed, under_new_names};
use super::state::{Rejected, State};
use super::units::UnitsError;
use crate::attach::client;
use crate::config::Config;
use crate::config::changes::Scope;
use crate::generator;
use crate::logdir::RenameError;
use crate::ownership;
use crate::port::PortName;

/// Jobs of systemd that are under way at once, and ports that are asked.
const AT_ONCE: usize = 16;

/// What came of a reload.
pub(super) struct Ran {
    /// A sentence each.
    pub(super) remarks: Remarks,
    /// Ports that have not taken their settings, a sentence each.
    pub(super) refused: Remarks,
    /// What runs, with the units that it runs in.
    pub(super) next: State,
}

impl Core {
    /// Applies the changes of some tables.
    pub async fn reload(&self, which: impl Fn(&Scope) -> bool) -> Result<Remarks, Error> {
        let _turn = self.turn.lock().await;
        let taken = self.state().candidate.clone().take(&which);
        let done = self.apply(&which).await;
        // A port that has not taken its settings runs with the others' changes all the same.
        if let Ok(_) | Err(Error::NotTaken(_)) = done {
            self.tell_of_reload(which, &taken).await;
        }
        done
    }

    pub(super) async fn apply(&self, which: impl Fn(&Scope) -> bool) -> Result<Remarks, Error> {
        let state = self.state();
        if let Some(fault) = &state.fault {
            return Err(Rejected::Committed(fault.clone()).into());
        }
        let next = state.reloaded(&which);
        next.check_running()?;
        let mut concerned = differing(&state.running_config, &next.running_config);
        // Asked for again, a port takes its settings again: its device may have been set by another program.
        let names = next.running_config.ports.keys();
        let asked: BTreeSet<_> = names.filter(|name| which(&Scope::Port((*name).clone()))).cloned().collect();
        concerned.extend(asked.iter().cloned());
        // `reload` without a port also applies what was edited in the file by hand. This service has read that already and sees no
        // difference, and the ports cannot know that the file has changed: each takes its settings again.
        let mut reached = concerned.clone();
        if which(&Scope::Server) && asked.is_empty() {
            reached.extend(next.running_config.ports.keys().cloned());
        }
        let renames = state.renames(&which);
        let Ran { remarks, refused, next } = self.run(&state, &next, &reached, &asked, &renames).await?;
        self.files.save_candidate(&next)?;
        self.keep(next);
        for (old, new) in &renames {
            tracing::info!(console_port = %new, console_user = caller(), "{old} was renamed to {new} by {}", caller());
        }
        for port in &concerned {
            tracing::info!(console_port = %port, console_user = caller(), "{port} was reloaded by {}", caller());
        }
        if !refused.is_empty() {
            return Err(Error::NotTaken(refused.join("; ")));
        }
        Ok(remarks)
    }

    /// Has `next` run instead of `state`, or changes nothing. Of the ports that are concerned, some were asked for by name. Those that are
    /// renamed run on.
    pub(super) async fn run(
        &self,
        state: &State,
        next: &State,
        concerned: &BTreeSet<PortName>,
        asked: &BTreeSet<PortName>,
        renames: &Renames,
    ) -> Result<Ran, Error> {
        self.live.forget().await;
        let (active, open, unknown) = match self.units_up().await {
            Ok((active, open)) => (active, open, None),
            Err(error) => (BTreeSet::new(), BTreeSet::new(), Some(error.to_string())),
        };
        let units = self.generated()?;
        let config = under_new_names(&state.running_config, renames);
        let is_up = |unit: &PortName| unknown.is_some() || active.contains(unit) || open.contains(unit);
        let next = &next.clone().with_instances(instances(&config, &next.running_config, is_up)?);
        let concerned = &rename::concerned(concerned, &next.running_config, renames);
        let named = |units: &BTreeSet<PortName>| -> BTreeSet<PortName> {
            units.iter().map(|unit| renamed(renames, state.instances.port(unit)).clone()).collect()
        };
        let (active, open) = (named(&active), named(&open));
        let now = Present {
            units: &units,
            config: &config,
            active: &active,
            open: &|name| open.contains(name),
            deaf: &|name| deaf(&next.running_config, name),
            asked,
            leads: &ownership::leads,
        };
        let plan = apply::plan(&now, &next.running_config, concerned);
        for address in &plan.probe {
            probe(*address)?;
        }
        let mut remarks = plan.remarks.clone();
        let held = match self.move_logs(renames, true).await {
            Ok(held) => held,
            // Back to what was committed, in any case. And where the whole is stopped, ports may still be renamed.
            Err(why) if next.running.is_empty() || matches!(why, RenameError::Inactive(_)) => {
                let whose = renames.iter().map(|(old, new)| format!("of {new} as {old}"));
                remarks.push(format!(
                    "{why}: the log stays where it is: {}",
                    whose.collect::<Vec<_>>().join(", ")
                ));
                None
            }
            Err(why) => return Err(Error::Port(format!("{why}; nothing was changed"))),
        };
        self.files.save_running(next)?;
        self.files.save_under_way(&plan)?;
        drop(held);
        remarks.extend(unknown);
        let (said, mut refused) = self.tell(&plan.release).await;
        remarks.extend(said);
        match self.execute(&plan).await {
            Ok(()) => {}
            Err((0, denied)) if denied.is_denied() => remarks.push(by_hand(&plan, &denied)),
            Err((done, error)) => {
                let undone = self.undo(state, next, &plan, done, error, &back(renames)).await;
                self.files.is_done()?;
                return Err(undone);
            }
        }
        let (said, more) = self.tell(&plan.apply).await;
        remarks.extend(said);
        refused.extend(more);
        self.files.is_done()?;
        Ok(Ran { remarks, refused, next: next.clone() })
    }

    /// Has running ports take their settings: what they remark, and which have not taken them.
    async fn tell(&self, ports: &[PortName]) -> (Remarks, Remarks) {
        self.live.forget().await;
        let (mut remarks, mut refused) = (Remarks::new(), Remarks::new());
        let mut asked = Vec::new();
        for port in ports {
            asked.push(async move { (port, self.settings_taken(port).await) });
        }
        let mut answers = stream::iter(asked).buffered(AT_ONCE);
        while let Some((port, answer)) = answers.next().await {
            match answer {
                Ok(said) => remarks.extend(said.into_iter().map(|remark| format!("{port}: {remark}"))),
                Err(error) => refused.push(format!("{port} has not taken the settings: {error}")),
            }
        }
        (remarks, refused)
    }

    /// Does again what an earlier life had begun: each step may be done twice, and one that is left out leaves a port deaf.
    pub async fn finish(&self) {
        let plan = match self.files.under_way() {
            Ok(None) => return,
            Ok(Some(plan)) => plan,
            Err(error) => return tracing::error!("what was under way cannot be told: {error}"),
        };
        tracing::warn!("going on with a reload that was interrupted");
        if let Err((_, error)) = self.execute(&plan).await {
            tracing::error!("an interrupted reload cannot be ended: {error}");
        }
        let (_, refused) = self.tell(&[plan.release, plan.apply].concat()).await;
        refused.iter().for_each(|refused| tracing::error!("{refused}"));
        if let Err(error) = self.files.is_done() {
            tracing::error!("{error}");
        }
    }

    /// systemd's part; with how many steps of it were done before one failed.
    pub(super) async fn execute(&self, plan: &Plan) -> Result<(), (usize, UnitsError)> {
        if plan.daemon_reload {
            self.units.daemon_reload().await.map_err(|error| (0, error))?;
        }
        // Starts depend on nothing but the stops and restarts before them, and a service on its sockets.
        let is_start = |step: &Step| matches!(step, Step::Start(_));
        let is_service = |step: &&Step| step.unit().ends_with(".service");
        for steps in plan.steps.chunk_by(|one, next| is_start(one) && is_start(next)) {
            let (services, sockets): (Vec<_>, Vec<_>) = steps.iter().partition(is_service);
            for steps in [sockets, services] {
                // If one fails, those that have begun are waited for: what is undone must have ended.
                let mut jobs = Vec::new();
                for step in steps {
                    jobs.push(async move { (step, self.units.step(step).await) });
                }
                let ended: Vec<_> = stream::iter(jobs).buffered(AT_ONCE).collect().await;
                if let Some((step, error)) =
                    ended.into_iter().find_map(|(step, result)| Some((step, result.err()?)))
                {
                    let before = plan.steps.iter().take_while(|other| *other != step).count();
                    return Err((usize::from(plan.daemon_reload) + before, error));
                }
            }
        }
        Ok(())
    }

    /// Back to `state`, as far as it was left.
    pub(super) async fn undo(
        &self,
        state: &State,
        next: &State,
        plan: &Plan,
        done: usize,
        error: UnitsError,
        renames: &Renames,
    ) -> Error {
        let back = async {
            let held = self.move_logs(renames, false).await;
            if let Err(why) = &held {
                tracing::error!("{why}");
            }
            self.files.save_running(state)?;
            drop(held);
            let units = self.generated()?;
            let named = |unit: &PortName| renamed(renames, next.instances.port(unit)).clone();
            let touched = plan.steps.iter().filter_map(|step| instance_of(step.unit()));
            let touched: BTreeSet<_> = touched.map(|unit| named(&unit)).collect();
            let (active, open) = self.units_up().await?;
            let active: BTreeSet<_> = active.iter().map(named).collect();
            let open: BTreeSet<_> = open.iter().map(named).collect();
            let config = under_new_names(&next.running_config, renames);
            let now = Present {
                units: &units,
                config: &config,
                active: &active,
                open: &|name| open.contains(name),
                deaf: &|name| deaf(&state.running_config, name),
                asked: &touched,
                leads: &ownership::leads,
            };
            let mut back = apply::plan(&now, &state.running_config, &touched);
            // The socket that failed is where nobody listens now: it is started again even if its addresses did not change.
            let failed = done.checked_sub(usize::from(plan.daemon_reload));
            let failed = failed.and_then(|failed| plan.steps.get(failed)).map(|step| step.unit().to_owned());
            if let Some(unit) = failed.filter(|unit| {
                unit.ends_with(".socket") && !back.steps.iter().any(|step| step.unit() == unit)
            }) {
                back.steps.push(Step::Restart(unit));
            }
            self.execute(&back).await.map_err(|(_, error)| Error::from(error))?;
            // Those that have let go of a device by then, and those that have got one. What they remark is as it was.
            self.tell(&[back.release, back.apply].concat()).await;
            Ok(())
        };
        match back.await {
            Ok(()) => Error::Undone(error),
            Err(worse) => Error::Stuck(error, Box::new(worse)),
        }
    }

    /// The instances of the ports whose service is active, and of those of which a socket is.
    pub(super) async fn units_up(&self) -> Result<(BTreeSet<PortName>, BTreeSet<PortName>), UnitsError> {
        Ok((self.units.active().await?, self.units.open().await?))
    }

    pub(super) async fn settings_taken(&self, port: &PortName) -> Result<Remarks, String> {
        self.live.ask(port, client::apply).await
    }

    /// Opens a port now, enabled or not, and its listeners.
    pub async fn start(&self, port: &PortName) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        self.forget_old_units().await?;
        let state = self.state();
        let Some(settings) = state.running_config.ports.get(port) else {
            return Err(Error::Port(format!("{port} does not run yet: reload it first")));
        };
        let port = state.instances.of(port);
        let listens = state.running_config.tcp_listeners(settings).next().is_some();
        let tcp = listens.then(|| format!("console@{port}.socket"));
        let path = format!("console@{port}.path");
        let watch = self.generated()?.entries.contains_key(std::path::Path::new(&path)).then_some(path);
        let attach = format!("console-attach@{port}.socket");
        let units = [Some(attach), tcp, watch, Some(format!("console@{port}.service"))];
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
        let state = self.state();
        for unit in ["console@P.path", "console@P.socket", "console-attach@P.socket", "console@P.service"] {
            self.units.step(&Step::Stop(unit.replace('P', state.instances.of(port).as_str()))).await?;
        }
        self.forget_old_units().await?;
        self.live.forget().await;
        Ok(())
    }

    pub(super) fn generated(&self) -> Result<generator::Plan, Error> {
        let directory = self.files.root.join("run/systemd/generator");
        generator::written(&directory).map_err(|error| Error::Generated(directory, error))
    }
}

/// Ports that are not the same in both: their own settings, or what they inherit.
pub(super) fn differing(old: &Config, new: &Config) -> BTreeSet<PortName> {
    let of = |config: &Config, name: &PortName| {
        let port = config.ports.get(name)?.clone();
        let (listen, rules) = (config.listen(&port).to_vec(), config.rules(&port));
        Some((config.device(name, &port), config.access.root, listen, rules, port))
    };
    let names = old.ports.keys().chain(new.ports.keys());
    names.filter(|name| of(old, name) != of(new, name)).cloned().collect()
}

/// What root has to do where polkit does not let us.
fn by_hand(plan: &Plan, denied: &UnitsError) -> String {
    let reload = plan.daemon_reload.then(|| "systemctl daemon-reload".to_owned());
    let steps: Vec<_> = reload.into_iter().chain(plan.steps.iter().map(Step::to_string)).collect();
    format!("{denied}; to be done as root: {}", steps.join("; "))
}

/// Whether nobody listens where a port is to be reached.
fn deaf(config: &Config, name: &PortName) -> bool {
    let listeners = config.ports.get(name).into_iter().flat_map(|port| config.tcp_listeners(port));
    let mut addresses = listeners.flat_map(|(listen, tcp)| apply::at(listen, tcp));
    addresses.any(|address| listen_on(address).is_ok())
}

/// Listens for a moment, as systemd does.
fn listen_on(address: SocketAddr) -> std::io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    use socket2::{Domain, Socket, Type};
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
}

/// Whether an address can be listened on as systemd will do it.
fn probe(address: SocketAddr) -> Result<(), Error> {
    match listen_on(address) {
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
        // The generator leaves it out, and says so.
        Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => Ok(()),
        Err(error) => Err(Error::Address(address, error)),
    }
}
