//! Files of programs that are not imported, each with what to do instead. Without this, a file with sections passes for ConsoleServer's
//! config.ini, and any YAML for ser2net's.

use super::kind;

/// A program, whether a line is one of its file, and what to do.
type Foreign = (&'static str, fn(&str) -> bool, &'static str);

const ONE_DEVICE: &str =
    "it is for one device: use `create NAME device=/dev/ttyUSB0 baud=115200`, with its device and rate";
const EACH_DEVICE: &str =
    "use `create NAME device=/dev/ttyUSB0 baud=115200` for each device, with its device and rate";
const LINKS: &str =
    "udev makes these links itself: use `create NAME device=/dev/LINK` for each, or `list --unconfigured`";
const APPLIANCE: &str = "use `create p[01-48] device=/dev/ttyUSB[0-47] --first-port 8101` for all ports, and `describe` for their labels";

const FOREIGN: &[Foreign] = &[
    (
        "consoleserver itself",
        is_own_table,
        "`check FILE` checks it; it is read as /etc/consoleserver/config.toml",
    ),
    ("minicom", |line| line.starts_with("pu ") || line.starts_with("pr "), ONE_DEVICE),
    ("tio", |line| TIO.contains(&key(line)), EACH_DEVICE),
    ("labgrid", |line| LABGRID.contains(&line) || line.starts_with("cls: "), EACH_DEVICE),
    ("socat", |line| line.starts_with("socat ") || line.contains("/socat "), EACH_DEVICE),
    ("remserial", |line| line.starts_with("remserial ") || line.contains("/remserial "), EACH_DEVICE),
    ("screen", |line| line.starts_with("screen "), EACH_DEVICE),
    ("kermit", |line| line.starts_with("set line ") || line.starts_with("set port /"), ONE_DEVICE),
    ("UUCP", |line| line == "type direct", ONE_DEVICE),
    (
        "ConsolePi",
        |line| {
            line.contains("cfg_file_ver")
                || ["OUTLETS:", "HOSTS:", "POWER:"].iter().any(|key| line.starts_with(key))
        },
        "its adapters are in /etc/ser2net.yaml: import that file",
    ),
    ("goconserver", |line| line.contains("\"nodes\"") || line.starts_with("storage_type:"), EACH_DEVICE),
    ("systemd", |line| ["[Unit]", "[Service]", "[Socket]"].contains(&line), EACH_DEVICE),
    ("cu and tip", |line| line.contains(":dv=") || line.contains(":br#"), EACH_DEVICE),
    ("udev", |line| line.contains("SUBSYSTEM==") || line.contains("KERNEL=="), LINKS),
    ("init", |line| line.contains(":respawn:"), EACH_DEVICE),
    ("PuTTY", |line| line.contains("SimonTatham") || line.starts_with("SerialLine="), ONE_DEVICE),
    ("inetd", |line| line.contains(" stream tcp "), EACH_DEVICE),
    ("a Cyclades", |line| line.starts_with("all.") || line.starts_with("s1."), APPLIANCE),
    ("an Opengear", |line| line.starts_with("config.ports."), APPLIANCE),
    ("a Digi", |line| line.starts_with("set serial "), APPLIANCE),
];

/// Keys of tio's file that no other format here has.
const TIO: [&str; 9] = [
    "no-autoconnect",
    "no-reconnect",
    "log-file",
    "input-mode",
    "output-mode",
    "device",
    "tty",
    "pattern",
    "prefix-ctrl-key",
];
const LABGRID: [&str; 4] = ["USBSerialPort:", "RawSerialPort:", "NetworkSerialPort:", "resources:"];

fn key(line: &str) -> &str {
    line.split_once('=').map_or("", |(key, _)| key.trim())
}

fn is_own_table(line: &str) -> bool {
    ["[ports.", "[templates."].iter().any(|table| line.starts_with(table)) || line == "[access]"
}

/// The program and the advice, if a line identifies it.
pub fn recognized(text: &str) -> Option<(&'static str, &'static str)> {
    /// A file may begin with sections that other programs have too.
    const TRIED: usize = 50;
    let found = |line: &str| FOREIGN.iter().find(|(_, is_line, _)| is_line(line));
    kind::lines(text).take(TRIED).find_map(found).map(|(program, _, instead)| (*program, *instead))
}

#[cfg(test)]
mod tests {
    use super::recognized;

    #[test]
    fn a_file_of_another_program_is_recognized_and_an_imported_one_is_not() {
        for (text, wanted) in [
            ("[ports.ttyUSB0]\nbaud = 9600\n", Some("consoleserver itself")),
            (
                "# Machine-generated file\npu port             /dev/ttyUSB0\npu baudrate 115200\n",
                Some("minicom"),
            ),
            ("[rpi3]\ndevice = /dev/ttyUSB0\nbaudrate = 115200\n", Some("tio")),
            ("[rpi3]\nbaudrate = 115200\nno-autoconnect = enable\n", Some("tio")),
            ("[com3]\nbaudrate = 9600\ntty = /dev/ttyS3\n", Some("tio")),
            ("socat TCP-LISTEN:2001,fork FILE:/dev/ttyUSB0,b9600,raw\n", Some("socat")),
            ("#!/bin/sh\n/usr/bin/remserial -d -p 2001 /dev/ttyUSB0 &\n", Some("remserial")),
            ("rack-a:\n  console:\n    cls: USBSerialPort\n", Some("labgrid")),
            ("{\"CONFIG\": {\n  \"cfg_file_ver\": 11}}\n", Some("ConsolePi")),
            ("rack-a:\n  USBSerialPort:\n    match:\n      ID_SERIAL_SHORT: x\n", Some("labgrid")),
            ("screen -t sw1 1 /dev/ttyUSB0 9600\n", Some("screen")),
            ("set line /dev/ttyUSB0\nset speed 115200\n", Some("kermit")),
            ("port usb\ntype direct\ndevice /dev/ttyUSB0\n", Some("UUCP")),
            ("CONFIG:\n  cfg_file_ver: 10\nOUTLETS:\n", Some("ConsolePi")),
            ("{\"nodes\":[{\"name\":\"a\"}]}\n", Some("goconserver")),
            ("[Unit]\nDescription=x\n[Service]\n", Some("systemd")),
            ("7001 stream tcp nowait root /usr/sbin/sredird sredird -i /dev/ttyUSB0\n", Some("inetd")),
            ("conf.dhcp_client 0\nall.speed 9600\n", Some("a Cyclades")),
            ("config.ports.port1.speed 9600\n", Some("an Opengear")),
            ("set serial port=1 baudrate=9600\n", Some("a Digi")),
            ("core:dv=/dev/ttyUSB0:br#9600:pa=none:\n", Some("cu and tip")),
            ("# UNIX\nsw1|switch:\\\n\t:dv=/dev/ttyS1:tc=direct:\n", Some("cu and tip")),
            ("SUBSYSTEM==\"tty\", ATTRS{serial}==\"A1\", SYMLINK+=\"core\", MODE=\"0660\"\n", Some("udev")),
            ("id:2:initdefault:\nT0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n", Some("init")),
            ("[HKEY_CURRENT_USER\\Software\\SimonTatham\\PuTTY\\Sessions\\core]\n", Some("PuTTY")),
            ("[GLOBAL]\nmonitorpath = /dev\n[/dev/ttyUSB0]\nbaudrate = 9600\n", None),
            ("[ttyUSB0]\nbaudrate = 9600\n", None),
            ("console a { type device; device /dev/ttyS0; }\n", None),
            ("CONSOLE name=\"a\" dev=\"/dev/ttyS0\"\n", None),
            ("connection: &a\n  connector: serialdev,/dev/ttyS0,9600\n", None),
            ("LED:led1:sysfs:device=duckbill:green:rs485\n2000:raw:0:/dev/ttyS0:9600\n", None),
        ] {
            assert_eq!(recognized(text).map(|(program, _)| program), wanted, "{text:?}");
        }
    }
}
