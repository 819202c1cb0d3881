//! The sandbox of the service units. Each unit has it in full, so that `systemctl cat` shows all of it. This test compares the
//! units: a unit has each directive of the common sandbox, or says under "Left open, and why" why it has not.

use std::fs;
use std::path::Path;

/// The sandbox of a service that needs nothing, by systemd.exec(5) and systemd.resource-control(5).
const SANDBOX: [(&str, &str); 25] = [
    ("CapabilityBoundingSet", ""),
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
    ("DevicePolicy", "closed"),
    ("PrivateNetwork", "yes"),
    ("RestrictAddressFamilies", "AF_UNIX"),
    ("ProtectProc", "invisible"),
    ("ProcSubset", "pid"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("LockPersonality", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("LimitCORE", "0"),
];

/// A stricter value than that of [`SANDBOX`].
const STRICTER: [(&str, &str); 1] = [("RestrictAddressFamilies", "none")];

/// Directives that another one of the unit makes unnecessary (systemd.exec(5)).
const IMPLIED: [(&str, &str); 2] =
    [("DevicePolicy", "PrivateDevices=yes"), ("ProcSubset", "ProtectProc=invisible")];

/// Why a unit lacks directives of the sandbox: one line each.
fn lacking(name: &str, unit: &str) -> Vec<String> {
    let set = |wanted: &str| unit.lines().any(|line| line == wanted);
    let explained = unit.split_once("# Left open, and why").map_or("", |(_, end)| end);
    let mut lacking = Vec::new();
    for (directive, value) in SANDBOX {
        // Named in a comment, or set to another value below its reason.
        let is_explained = explained.contains(&format!("{directive}="));
        let is_stricter =
            STRICTER.iter().any(|(one, value)| *one == directive && set(&format!("{one}={value}")));
        let is_implied = IMPLIED.iter().any(|(one, by)| *one == directive && set(by));
        if !set(&format!("{directive}={value}")) && !is_stricter && !is_explained && !is_implied {
            lacking.push(format!("{name}: {directive}={value} is neither set nor explained"));
        }
    }
    lacking
}

fn services() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    let mut services: Vec<(String, String)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "service"))
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    services.sort();
    services
}

#[test]
fn each_service_has_the_common_sandbox_or_says_why_not() {
    let services = services();
    assert!(services.len() >= 9, "units/ has only {} services", services.len());
    let lacking: Vec<String> = services.iter().flat_map(|(name, unit)| lacking(name, unit)).collect();
    assert!(lacking.is_empty(), "\n{}", lacking.join("\n"));
}

#[test]
fn a_directive_that_a_unit_loses_is_reported() {
    for (name, unit) in services() {
        for (directive, value) in SANDBOX {
            let line = format!("{directive}={value}\n");
            if unit.contains(&format!("\n{line}")) && !IMPLIED.iter().any(|(one, _)| *one == directive) {
                let without = unit.replacen(&format!("\n{line}"), "\n", 1);
                let explained = unit
                    .split_once("# Left open, and why")
                    .is_some_and(|(_, end)| end.contains(&format!("{directive}=")));
                assert!(
                    explained || lacking(&name, &without).iter().any(|line| line.contains(directive)),
                    "{name} without {directive}"
                );
            }
        }
    }
}
