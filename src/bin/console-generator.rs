//! The systemd generator (systemd.generator(7)): creates drop-ins, links and `.path` units for the configured
//! ports. Errors are reported, but never fail the boot. The udev rules ask it which port a tty belongs to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use consoleserver::admin::confirm;
use consoleserver::config::{Config, ConfigError, LAST_GOOD, Salvaged, Text, committed, load_text};
use consoleserver::generator::{self, udev};
use consoleserver::port::PortName;
use consoleserver::system::persist;

/// Create units from the consoleserver configuration. Run by systemd at boot and at each daemon-reload, and
/// by udev for each serial device.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Root directory that contains etc, usr/lib and var/lib; warnings go to stderr
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print the port of the tty with this kernel name and these links in /dev, as udev properties
    #[arg(long, value_names = ["KERNEL", "LINK"], num_args = 1..)]
    udev_tty: Option<Vec<PathBuf>>,
    /// Print whether a port may use the USB device with this ID_PATH, as udev properties
    #[arg(long, value_name = "ID_PATH", conflicts_with = "udev_tty")]
    udev_usb: Option<String>,
    /// Write the list of logs for logrotate to this file, which is kept if the configuration is invalid
    #[arg(long, value_name = "FILE", conflicts_with_all = ["udev_tty", "udev_usb"])]
    logrotate: Option<PathBuf>,
    /// Start the enabled ports whose devices exist (console-open.service)
    #[arg(long, conflicts_with_all = ["udev_tty", "udev_usb", "logrotate"])]
    open_present: bool,
    /// Directory for the units
    #[arg(required_unless_present_any = ["udev_tty", "udev_usb", "logrotate", "open_present"])]
    normal: Option<PathBuf>,
    /// Unused: no unit here takes precedence over the administrator's
    early: Option<PathBuf>,
    /// Unused
    late: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Arguments { root, udev_tty, udev_usb, logrotate, open_present, normal, .. } = Arguments::parse();
    let complaints = Complaints::new(root.is_some());
    let root = root.unwrap_or_else(|| PathBuf::from("/"));
    if let Some(list) = logrotate {
        return list_logs(&root, &list);
    }
    // The generator has reported errors in the file already.
    if open_present {
        let Salvaged { config, fault, .. } = Config::load_salvaging(&root);
        if fault.is_none() {
            keep_good(&root);
        }
        return start(&udev::present(&config));
    }
    match (udev_tty.as_deref(), udev_usb, normal) {
        (Some([kernel, links @ ..]), _, _) => {
            let config = Config::load_salvaging(&root).config;
            let clash = std::env::var("CONSOLE_CLASH").ok();
            let told = kernel.to_str().map(|kernel| udev::on_this_machine(&config, kernel, links, clash));
            answer(&told.unwrap_or_default().to_string())
        }
        (_, Some(id_path), _) => match udev::may_be_on(&Config::load_salvaging(&root).config, &id_path) {
            true => answer("CONSOLE_ADAPTER=1\n"),
            false => ExitCode::SUCCESS,
        },
        (_, _, Some(normal)) => generate(&root, &normal, complaints),
        (_, _, None) => ExitCode::from(2),
    }
}

fn list_logs(root: &Path, list: &Path) -> ExitCode {
    let config = match Config::load(root) {
        Ok(loaded) => Ok(loaded.config),
        // Without any list, nothing would be rotated.
        Err(_) if !list.exists() => Ok(Config::load_salvaging(root).config),
        Err(error) => Err(error.to_string()),
    };
    let written = config.and_then(|config| {
        let text = generator::logrotate::list(&config, &root.join("var/log/consoleserver"));
        persist::write(list, text.as_bytes(), 0o640, None)
            .map_err(|error| format!("{}: {error}", list.display()))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "console-generator: the list of logs is unchanged: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Copies a valid committed configuration as the last valid one, unless it may still be rolled back.
fn keep_good(root: &Path) {
    let copy = root.join(LAST_GOOD);
    let text = match committed(root) {
        Ok(Text { text, .. }) if !confirm::is_awaited(root) => text,
        _ => return,
    };
    if load_text(&copy).is_ok_and(|kept| kept.as_ref() == Some(&text)) {
        return;
    }
    if let Err(error) = persist::write(&copy, text.as_bytes(), 0o644, None) {
        let copy = copy.display();
        let _ = writeln!(io::stderr(), "console-generator: cannot copy the configuration to {copy}: {error}");
    }
}

/// Starts the ports without waiting for them.
fn start(ports: &[PortName]) -> ExitCode {
    if ports.is_empty() {
        return ExitCode::SUCCESS;
    }
    let units = ports.iter().map(PortName::service);
    let error = Command::new("systemctl").args(["start", "--no-block", "--"]).args(units).exec();
    // If stderr is closed, only the exit status remains.
    let _ = writeln!(io::stderr(), "console-generator: systemctl: {error}");
    ExitCode::FAILURE
}

fn answer(properties: &str) -> ExitCode {
    match io::stdout().write_all(properties.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn generate(root: &Path, normal: &Path, mut complaints: Complaints) -> ExitCode {
    let Salvaged { config, path, fault, left_out } = Config::load_salvaging(root);
    for line in left_out.iter().flat_map(|why| why.lines()) {
        complaints.warn(line);
    }
    match fault {
        // The package is removed but not purged: there are no ports.
        None | Some(ConfigError::Missing(_)) => {}
        Some(fault) => {
            for line in fault.to_string().lines() {
                complaints.warn(line);
            }
            complaints.warn(&match (&path, config.ports.len()) {
                (None, _) | (_, 0) => "no ports are used".to_owned(),
                (Some(path), 1) => format!("1 port of {} is used", path.display()),
                (Some(path), many) => format!("{many} ports of {} are used", path.display()),
            });
        }
    }
    let source = path.as_deref().map(|path| Path::new("/").join(path.strip_prefix(root).unwrap_or(path)));
    let plan = generator::plan(&config, source.as_deref(), &generator::Machine::at(root));
    for warning in &plan.warnings {
        complaints.warn(warning);
    }
    let failed = generator::write(&plan, normal);
    for error in &failed {
        complaints.warn(&error.to_string());
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Warnings to the kernel log, the only log early at boot; to stderr in a container, which cannot write
/// there.
struct Complaints(Option<File>);

impl Complaints {
    fn new(to_stderr: bool) -> Self {
        Self((!to_stderr).then(|| OpenOptions::new().write(true).open("/dev/kmsg").ok()).flatten())
    }

    fn warn(&mut self, line: &str) {
        // <3> is "err" (sd-daemon(3)); one write is one record.
        let record = format!("<3>console-generator: {line}\n");
        let logged = self.0.as_mut().is_some_and(|kmsg| kmsg.write_all(record.as_bytes()).is_ok());
        if !logged {
            // If stderr is closed, the warning is lost.
            let _ = writeln!(io::stderr(), "console-generator: {line}");
        }
    }
}
