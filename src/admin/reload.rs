//! Executes the plan of `apply` step by step, and undoes it if a step fails. Starts and stops ports.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use futures_util::{StreamExt, stream};

use super::apply::{self, Plan, Present, Step};
use super::authorization::caller;
use super::core::{Core, Error, Remarks};
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

/// Concurrent jobs of systemd, and concurrent requests to ports.
const AT_ONCE: usize = 16;

pub(super) struct Ran {
    pub(super) remarks: Remarks,
    /// Ports that rejected their settings, one sentence each.
    pub(super) refused: Remarks,
    /// The new state, with the units that ports run in.
    pub(super) next: State,
}

impl Core {
    /// Reloads the changes of some tables.
    pub async fn reload(&self, which: impl Fn(&Scope) -> bool) -> Result<Remarks, Error> {
        let _turn = self.turn.lock().await;
        let taken = self.state().candidate.clone().take(&which);
        let done = self.apply(&which).await;
        // If a port rejects its settings, the changes of the others take effect anyway.
        if let Ok(_) | Err(Error::NotTaken(_)) = done {
            self.report_reload(which, &taken).await;
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
        // A port that is named takes its settings even if they did not change: another program may have set
        // its device.
        let names = next.running_config.ports.keys();
        let requested: BTreeSet<_> =
            names.filter(|name| which(&Scope::Port((*name).clone()))).cloned().collect();
        concerned.extend(requested.iter().cloned());
        // `reload` without a port also applies edits of the file. This service has read them already and sees
        // no difference, and ports cannot know that the file changed: each takes its settings.
        let mut reached = concerned.clone();
        if which(&Scope::Server) && requested.is_empty() {
            reached.extend(next.running_config.ports.keys().cloned());
        }
        let renames = state.renames(&which);
        let Ran { remarks, refused, next } = self.run(&state, &next, &reached, &requested, &renames).await?;
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

    /// Makes `next` run in place of `state`, or changes nothing. `concerned` are the ports that may change,
    /// `asked` those that the user named. Renamed ports keep running.
    pub(super) async fn run(
        &self,
        state: &State,
        next: &State,
        concerned: &BTreeSet<PortName>,
        requested: &BTreeSet<PortName>,
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
        let named = |unit: &PortName| renamed(renames, state.instances.port(unit)).clone();
        // (A query that fails is of no port: it stays stopped.)
        let fresh = self.units.never_started().await.unwrap_or_default();
        let up = [active, open, fresh].map(|units| units.iter().map(named).collect());
        let plan = plan((&units, &config, up), &next.running_config, concerned, requested);
        for address in &plan.probe {
            probe(*address)?;
        }
        let mut remarks = plan.remarks.clone();
        let held = match self.move_logs(renames, true).await {
            Ok(held) => held,
            // Restores the committed state in any case. While the target is stopped, ports may still be
            // renamed.
            Err(why) if next.running.is_empty() || matches!(why, RenameError::Inactive(_)) => {
                let whose = renames.iter().map(|(old, new)| format!("of {new} as {old}"));
                remarks
                    .push(format!("{why}: the log stays in place: {}", whose.collect::<Vec<_>>().join(", ")));
                None
            }
            Err(why) => return Err(Error::Port(format!("{why}; nothing was changed"))),
        };
        self.files.save_running(next)?;
        self.files.save_under_way(&plan)?;
        drop(held);
        remarks.extend(unknown);
        let (printed, mut refused) = self.apply_settings(&plan.release).await;
        remarks.extend(printed);
        match self.execute(&plan).await {
            Ok(()) => {}
            Err((0, denied)) if denied.is_denied() => remarks.push(by_hand(&plan, &denied)),
            Err((done, error)) => {
                let undone = self.undo(state, next, &plan, done, error, &back(renames)).await;
                self.files.is_done()?;
                return Err(undone);
            }
        }
        let (printed, more) = self.apply_settings(&plan.apply).await;
        remarks.extend(printed);
        refused.extend(more);
        self.files.is_done()?;
        Ok(Ran { remarks, refused, next: next.clone() })
    }

    /// Makes running ports take their settings. Returns their remarks and the ports that rejected them.
    async fn apply_settings(&self, ports: &[PortName]) -> (Remarks, Remarks) {
        self.live.forget().await;
        let (mut remarks, mut refused) = (Remarks::new(), Remarks::new());
        let mut requested = Vec::new();
        for port in ports {
            requested.push(async move { (port, self.settings_taken(port).await) });
        }
        let mut answers = stream::iter(requested).buffered(AT_ONCE);
        while let Some((port, answer)) = answers.next().await {
            match answer {
                Ok(printed) => remarks.extend(printed.into_iter().map(|remark| format!("{port}: {remark}"))),
                Err(error) => refused.push(format!("{port} rejected its settings: {error}")),
            }
        }
        (remarks, refused)
    }

    /// Repeats the steps that an earlier process has begun: each step can be repeated, and a missing one
    /// leaves a port without a listener.
    pub async fn finish(&self) {
        let plan = match self.files.under_way() {
            Ok(None) => return,
            Ok(Some(plan)) => plan,
            Err(error) => return tracing::error!("the steps of the interrupted reload are unknown: {error}"),
        };
        tracing::warn!("continuing an interrupted reload");
        if let Err((_, error)) = self.execute(&plan).await {
            tracing::error!("cannot complete an interrupted reload: {error}");
        }
        let (_, refused) = self.apply_settings(&[plan.release, plan.apply].concat()).await;
        refused.iter().for_each(|refused| tracing::error!("{refused}"));
        if let Err(error) = self.files.is_done() {
            tracing::error!("{error}");
        }
    }

    /// Executes systemd's part. An error has the number of steps that were done.
    pub(super) async fn execute(&self, plan: &Plan) -> Result<(), (usize, UnitsError)> {
        if plan.daemon_reload {
            self.units.daemon_reload().await.map_err(|error| (0, error))?;
        }
        // Starts depend only on the stops and restarts before them, and a service on its sockets.
        let is_start = |step: &Step| matches!(step, Step::Start(_));
        let is_service = |step: &&Step| step.unit().ends_with(".service");
        for steps in plan.steps.chunk_by(|one, next| is_start(one) && is_start(next)) {
            let (services, sockets): (Vec<_>, Vec<_>) = steps.iter().partition(is_service);
            for steps in [sockets, services] {
                // If one fails, the others are waited for: they must have ended before they are undone.
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

    /// Restores `state` as far as it was changed.
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
            let touched = plan.steps.iter().filter_map(|step| PortName::of_unit(step.unit()));
            let touched: BTreeSet<_> = touched.map(|unit| named(&unit)).collect();
            let (active, open) = self.units_up().await?;
            let up = [active, open, BTreeSet::new()].map(|units| units.iter().map(named).collect());
            let config = under_new_names(&next.running_config, renames);
            let mut back = self::plan((&units, &config, up), &state.running_config, &touched, &touched);
            // The socket that failed does not listen now: it is started again even if its addresses did not
            // change.
            let failed = done.checked_sub(usize::from(plan.daemon_reload));
            let failed = failed.and_then(|failed| plan.steps.get(failed)).map(|step| step.unit().to_owned());
            if let Some(unit) = failed.filter(|unit| {
                unit.ends_with(".socket") && !back.steps.iter().any(|step| step.unit() == unit)
            }) {
                back.steps.push(Step::Restart(unit));
            }
            self.execute(&back).await.map_err(|(_, error)| Error::from(error))?;
            // Only ports that have released or opened a device in the meantime. Their remarks are the same as before.
            self.apply_settings(&[back.release, back.apply].concat()).await;
            Ok(())
        };
        match back.await {
            Ok(()) => Error::Undone(error),
            Err(worse) => Error::Stuck(error, Box::new(worse)),
        }
    }

    /// Instances of the ports with an active service, and with an active socket.
    pub(super) async fn units_up(&self) -> Result<(BTreeSet<PortName>, BTreeSet<PortName>), UnitsError> {
        Ok((self.units.active().await?, self.units.open().await?))
    }

    pub(super) async fn settings_taken(&self, port: &PortName) -> Result<Remarks, String> {
        self.live.ask(port, client::apply).await
    }

    /// Opens a port and its listeners now, even if it is not enabled.
    pub async fn start(&self, port: &PortName) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        self.forget_old_units().await?;
        let state = self.state();
        let Some(settings) = state.running_config.ports.get(port) else {
            return Err(Error::Port(format!("{port} is not in the running configuration: reload it first")));
        };
        let port = state.instances.of(port);
        let listens = state.running_config.tcp_listeners(settings).next().is_some();
        let tcp = listens.then(|| port.ssh_socket());
        let path = port.path_unit();
        let watch = self.generated()?.entries.contains_key(std::path::Path::new(&path)).then_some(path);
        let units = [Some(port.local_socket()), tcp, watch, Some(port.service())];
        let active = self.units.active().await?;
        for unit in units.into_iter().flatten() {
            // If the port runs, its socket listens already, and systemd would reject a start.
            if !(active.contains(port) && unit.ends_with(".socket")) {
                self.units.step(&Step::Start(unit)).await?;
            }
        }
        self.live.forget().await;
        Ok(())
    }

    pub async fn stop(&self, port: &PortName) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let state = self.state();
        let port = state.instances.of(port);
        for unit in [port.path_unit(), port.ssh_socket(), port.local_socket(), port.service()] {
            self.units.step(&Step::Stop(unit)).await?;
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

/// The plan that makes `next` run, from systemd's units, the running configuration, and the ports with an active service,
/// with an active socket, and with a socket that was never started.
fn plan(
    (units, config, [active, open, fresh]): (&generator::Plan, &Config, [BTreeSet<PortName>; 3]),
    next: &Config,
    concerned: &BTreeSet<PortName>,
    requested: &BTreeSet<PortName>,
) -> Plan {
    let now = Present {
        units,
        config,
        active: &active,
        up: &active.union(&open).cloned().collect(),
        fresh: &|name| fresh.contains(name),
        open: &|name| open.contains(name),
        deaf: &|name| deaf(next, name),
        requested,
        leads: &ownership::leads,
    };
    apply::plan(&now, next, concerned)
}

/// Ports whose settings differ, their own or inherited ones.
pub(super) fn differing(old: &Config, new: &Config) -> BTreeSet<PortName> {
    let of = |config: &Config, name: &PortName| {
        let port = config.ports.get(name)?.clone();
        let (listen, rules) = (config.listen(&port).to_vec(), config.rules(&port));
        Some((config.device(name, &port), config.access.root, listen, rules, port))
    };
    let names = old.ports.keys().chain(new.ports.keys());
    names.filter(|name| of(old, name) != of(new, name)).cloned().collect()
}

/// The commands for root if polkit denies them.
fn by_hand(plan: &Plan, denied: &UnitsError) -> String {
    let reload = plan.daemon_reload.then(|| "systemctl daemon-reload".to_owned());
    let steps: Vec<_> = reload.into_iter().chain(plan.steps.iter().map(Step::to_string)).collect();
    format!("{denied}; run as root: {}", steps.join("; "))
}

/// Whether a port that should listen does not.
fn deaf(config: &Config, name: &PortName) -> bool {
    let listeners = config.ports.get(name).into_iter().flat_map(|port| config.tcp_listeners(port));
    let mut addresses = listeners.flat_map(|(listen, tcp)| apply::at(listen, tcp));
    addresses.any(|address| listen_on(address).is_ok())
}

/// Binds and listens on an address like systemd, then closes it.
fn listen_on(address: SocketAddr) -> std::io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // Both families at [::], as in the generated unit: an IPv4 listener then conflicts too.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    // FreeBind=yes: an address that is assigned later.
    setsockopt(&socket.as_fd(), sockopt::IpFreebind, &true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// Whether systemd can listen on an address.
fn probe(address: SocketAddr) -> Result<(), Error> {
    match listen_on(address) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Error::Taken(address)),
        // systemd may listen where this service may not: the restart of the socket will show.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        // A kernel without IPv6, where systemd uses IPv4 only.
        Err(_) if address.ip().is_unspecified() && address.is_ipv6() => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, address.port())).map(drop).map_err(|error| {
                match error.kind() {
                    std::io::ErrorKind::AddrInUse => Error::Taken(address),
                    _ => Error::Address(address, error),
                }
            })
        }
        // The generator leaves this address out, and reports it.
        Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => Ok(()),
        Err(error) => Err(Error::Address(address, error)),
    }
}
