//! Reads which paths lead to a tty, and udev's records. The kernel creates the node of a tty before udev
//! creates its links, and links and a record of the previous adapter may still exist then; so a tty is ready
//! only when its record is newer than its node. Without udev, as in containers, there is nothing to wait for.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

/// Limit of a record. Those of ttys have about 1 KB.
const RECORD_MAX: u64 = 64 * 1024;

/// The device number of the character device that a path leads to, symbolic links included.
pub fn leads(path: &Path) -> Option<u64> {
    let found = fs::metadata(path).ok()?;
    found.file_type().is_char_device().then(|| found.rdev())
}

/// udev's record of a device (`/run/udev/data/cMAJOR:MINOR`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Time of initialization (CLOCK_MONOTONIC, microseconds).
    pub since: Option<u64>,
    /// Its links, below /dev.
    pub links: Vec<PathBuf>,
    /// The USB socket (`ID_PATH`).
    pub place: Option<String>,
    /// Vendor, product and serial number (`ID_SERIAL`).
    pub serial: Option<String>,
    /// Its serial number alone (`ID_SERIAL_SHORT`).
    pub serial_short: Option<String>,
    /// The manufacturer (`ID_VENDOR`, or from udev's database by number).
    pub maker: Option<String>,
    /// The product (`ID_MODEL`).
    pub product: Option<String>,
    /// Whether our udev rules allow ports to use it (`CONSOLE_TTY`): it is not a modem, and `CONSOLE_IGNORE`
    /// is not set.
    pub for_consoles: bool,
    /// The port whose `device` led to another tty when this one appeared (`CONSOLE_CLASH`).
    pub clash: Option<String>,
}

impl Record {
    /// Its name below /dev/serial/KIND. Of several by-path links, the one that older versions of udev create
    /// too: without the speed of the socket (`usbv2-`).
    pub fn name(&self, kind: &str) -> Option<&Path> {
        let directory = Path::new("/dev/serial").join(kind);
        let names = self.links.iter().filter(|link| link.starts_with(&directory));
        names.min_by_key(|link| (link.to_string_lossy().contains("-usbv"), *link)).map(PathBuf::as_path)
    }

    fn read(from: impl Read) -> Self {
        let mut record = Self::default();
        let mut by_database = None;
        // udev replaces a space by an underscore (udev_util_replace_chars).
        let words =
            |value: &str| Some(value.replace('_', " ").trim().to_owned()).filter(|words| !words.is_empty());
        for line in BufReader::new(from.take(RECORD_MAX)).lines().map_while(Result::ok) {
            let Some((kind, value)) = line.split_once(':') else { continue };
            match (kind, value.split_once('=')) {
                ("I", _) => record.since = value.parse().ok(),
                ("S", _) => record.links.push(Path::new("/dev").join(value)),
                ("E", Some(("ID_PATH", place))) => record.place = Some(place.to_owned()),
                ("E", Some(("ID_SERIAL", serial))) => record.serial = Some(serial.to_owned()),
                ("E", Some(("ID_SERIAL_SHORT", serial))) => record.serial_short = Some(serial.to_owned()),
                ("E", Some(("ID_VENDOR", maker))) => record.maker = words(maker),
                ("E", Some(("ID_VENDOR_FROM_DATABASE", maker))) => by_database = words(maker),
                ("E", Some(("ID_MODEL", product))) => record.product = words(product),
                ("E", Some(("CONSOLE_TTY", _))) => record.for_consoles = true,
                ("E", Some(("CONSOLE_CLASH", port))) => record.clash = Some(port.to_owned()),
                _ => {}
            }
        }
        // An adapter without a manufacturer string has the vendor ID in its place: 1a86.
        let is_number =
            |maker: &String| maker.len() == 4 && maker.bytes().all(|byte| byte.is_ascii_hexdigit());
        if by_database.is_some() && record.maker.as_ref().is_none_or(is_number) {
            record.maker = by_database;
        }
        record
    }
}

/// Whether the links of a tty are final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// They are. `None` if udev does not handle this tty.
    Ready(Option<Record>),
    /// udev has not processed it yet; whether udev is busy.
    Pending(bool),
}

/// The directories of udev and sysfs.
#[derive(Debug, Clone)]
pub struct Machine {
    udev: PathBuf,
    sys: PathBuf,
}

impl Default for Machine {
    fn default() -> Self {
        Self { udev: "/run/udev".into(), sys: "/sys".into() }
    }
}

impl Machine {
    /// The path of udev's record of a tty.
    pub fn record_path(&self, tty: u64) -> PathBuf {
        self.udev.join(format!("data/c{}:{}", major(tty), minor(tty)))
    }

    pub fn record(&self, tty: u64) -> Option<Record> {
        fs::File::open(self.record_path(tty)).ok().map(Record::read)
    }

    /// Whether udev has processed `tty`, whose node (or a link to it) is at `path`.
    pub fn readiness(&self, path: &Path, tty: u64) -> Readiness {
        let handled = self.udev.join("control").exists() && self.is_present(tty);
        let record = self.record(tty);
        if !handled {
            return Readiness::Ready(record);
        }
        let made = fs::metadata(path).and_then(|node| node.created()).ok();
        let written = fs::metadata(self.record_path(tty)).and_then(|file| file.modified()).ok();
        // A file system without birth times: any record counts.
        let is_of_this_node = made.is_none() || written >= made;
        match record {
            Some(record) if record.since.is_some() && is_of_this_node => Readiness::Ready(Some(record)),
            _ => Readiness::Pending(self.udev.join("queue").exists()),
        }
    }

    /// Whether the kernel has a device of this number. (It lists no ptys.)
    fn is_present(&self, tty: u64) -> bool {
        self.sys.join(format!("dev/char/{}:{}", major(tty), minor(tty))).exists()
    }

    /// Whether it is a tty. The USB device of an adapter has a record with the same serial number too.
    fn is_tty(&self, device: u64) -> bool {
        let subsystem = self.sys.join(format!("dev/char/{}:{}/subsystem", major(device), minor(device)));
        fs::read_link(subsystem).is_ok_and(|class| class.file_name() == Some("tty".as_ref()))
    }

    pub fn kernel_name(&self, tty: u64) -> Option<String> {
        let device =
            fs::canonicalize(self.sys.join(format!("dev/char/{}:{}", major(tty), minor(tty)))).ok()?;
        Some(device.file_name()?.to_str()?.to_owned())
    }

    /// All ttys with a record, by number.
    pub fn records(&self) -> Vec<(u64, Record)> {
        let Ok(entries) = fs::read_dir(self.udev.join("data")) else { return Vec::new() };
        let number = |name: &str| {
            let (major, minor) = name.strip_prefix('c')?.split_once(':')?;
            Some(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?))
        };
        let numbers = entries.flatten().filter_map(|entry| number(entry.file_name().to_str()?));
        let ttys = numbers.filter(|number| self.is_tty(*number));
        let mut records: Vec<_> = ttys.filter_map(|tty| Some((tty, self.record(tty)?))).collect();
        records.sort_by_key(|(tty, _)| *tty);
        records
    }

    /// Other ttys that udev has assigned the link at `path`: two adapters with the same serial number have
    /// the same name in by-id, and the link can lead to one of them only. Those that were distinguished when
    /// they appeared (`CONSOLE_CLASH`) do not count.
    pub fn namesakes(&self, path: &Path, tty: u64) -> Vec<(u64, Record)> {
        let mut records = self.records();
        records.retain(|(other, record)| {
            *other != tty && record.clash.is_none() && record.links.iter().any(|link| link == path)
        });
        records
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    /// A machine with udev and the null device, whose number is 1:3, as a tty.
    fn machine() -> (tempfile::TempDir, Machine, u64) {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine { udev: dir.path().join("udev"), sys: dir.path().join("sys") };
        fs::create_dir_all(machine.udev.join("data")).unwrap();
        present(&machine, "1:3", "tty");
        (dir, machine, leads(Path::new("/dev/null")).unwrap())
    }

    /// A device in sysfs: a directory by number, with a link to its subsystem.
    fn present(machine: &Machine, number: &str, subsystem: &str) {
        let device = machine.sys.join("dev/char").join(number);
        fs::create_dir_all(&device).unwrap();
        std::os::unix::fs::symlink(format!("../../../class/{subsystem}"), device.join("subsystem")).unwrap();
    }

    const RECORD: &str = "S:serial/by-id/usb-A\nS:serial/by-path/1\nI:7180262\nE:ID_PATH=pci-1\nE:ID_SERIAL=FTDI_A\n\
                          E:CONSOLE_TTY=1\nE:CONSOLE_CLASH=one\nG:systemd\nV:1\n";

    #[test]
    fn a_record_of_udev_is_parsed() {
        let record = Record::read(RECORD.as_bytes());
        assert_eq!(record.since, Some(7_180_262));
        assert_eq!(record.links, [Path::new("/dev/serial/by-id/usb-A"), Path::new("/dev/serial/by-path/1")]);
        assert_eq!((record.place.as_deref(), record.serial.as_deref()), (Some("pci-1"), Some("FTDI_A")));
        assert_eq!((record.for_consoles, record.clash.as_deref()), (true, Some("one")));
    }

    #[test]
    fn a_tty_is_not_ready_before_its_record_is_newer_than_its_node() {
        let (_dir, machine, tty) = machine();
        let node = Path::new("/dev/null");
        let ready = |machine: &Machine| machine.readiness(node, tty);
        assert_eq!(ready(&machine), Readiness::Ready(None), "no udev runs");
        fs::write(machine.udev.join("control"), "").unwrap();
        assert_eq!(ready(&machine), Readiness::Pending(false));
        fs::write(machine.udev.join("queue"), "").unwrap();
        assert_eq!(ready(&machine), Readiness::Pending(true));
        let record = machine.record_path(tty);
        fs::write(&record, "E:ID_PATH=pci-1\n").unwrap();
        assert_eq!(ready(&machine), Readiness::Pending(true), "not initialized yet");
        fs::write(&record, RECORD).unwrap();
        assert!(matches!(ready(&machine), Readiness::Ready(Some(_))));
        if let Ok(made) = fs::metadata(node).unwrap().created() {
            let file = fs::File::options().write(true).open(&record).unwrap();
            file.set_modified(made - Duration::from_secs(1)).unwrap();
            assert_eq!(ready(&machine), Readiness::Pending(true), "the record of the adapter before");
            file.set_modified(SystemTime::now()).unwrap();
        }
        fs::remove_dir_all(machine.sys.join("dev/char/1:3")).unwrap();
        assert!(matches!(ready(&machine), Readiness::Ready(_)), "a pty: udev never hears of it");
    }

    #[test]
    fn ttys_with_the_same_link_are_found() {
        let (_dir, machine, tty) = machine();
        let link = Path::new("/dev/serial/by-id/usb-A");
        for (number, text) in [
            ("1:3", "S:serial/by-id/usb-A\nI:1\n"),
            ("1:5", "S:serial/by-id/usb-A\nI:2\n"),
            ("1:7", "S:serial/by-id/usb-B\nI:3\n"),
            ("1:8", "S:serial/by-id/usb-A\nI:4\nE:CONSOLE_CLASH=one\n"),
            ("1:9", "S:serial/by-id/usb-A\nI:5\n"),
            ("189:4", "S:serial/by-id/usb-A\nI:6\n"),
        ] {
            fs::write(machine.udev.join("data").join(format!("c{number}")), text).unwrap();
            match number {
                "1:3" | "1:9" => {}
                "189:4" => present(&machine, number, "usb"),
                _ => present(&machine, number, "tty"),
            }
        }
        let others: Vec<_> = machine.namesakes(link, tty).into_iter().map(|(tty, _)| minor(tty)).collect();
        assert_eq!(
            others,
            [5],
            "ttys that are gone, have their own link or another name, and devices that are not ttys do not count"
        );
    }
}
