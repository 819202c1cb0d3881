//! The sandbox of the service units. Each unit has it in full, so that `systemctl cat` shows all of it. This test compares the
//! units: a unit has each directive of the common sandbox, or states under "Left open, and why" why it has not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

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
        // The directive is named in a comment, or set to another value below a comment with the reason.
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

/// Alert rules by Prometheus' own checker and test runner, from Debian's package.
/// systemd.preset(5): what no preset names is enabled by Debian's `preset-all` and first boot, and disabled where the default is `disable *`.
#[test]
fn the_preset_names_each_unit_that_can_be_enabled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let preset = fs::read_to_string(root.join("units/system-preset/80-consoleserver.preset")).unwrap();
    let named: BTreeSet<_> =
        preset.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let mut wanted = BTreeSet::new();
    for entry in fs::read_dir(root.join("units")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_file() && fs::read_to_string(&path).unwrap().contains("\n[Install]\n") {
            // Every local user can read the figures: an administrator enables them.
            let verb = if name == "console-metrics.socket" { "disable" } else { "enable" };
            wanted.insert(format!("{verb} {name}"));
        }
    }
    assert_eq!(named, wanted);
}

#[test]
fn promtool_accepts_the_alert_rules_and_their_tests() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus");
    for arguments in
        [["check", "rules", "consoleserver.rules.yml"], ["test", "rules", "consoleserver.test.yml"]]
    {
        let output = Command::new("promtool")
            .args(arguments)
            .current_dir(&directory)
            .output()
            .expect("promtool is in Debian's package prometheus");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
    let rules = fs::read_to_string(directory.join("consoleserver.rules.yml")).unwrap();
    let tests = fs::read_to_string(directory.join("consoleserver.test.yml")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let tested = format!("alertname: {alert}\n        exp_alerts:\n          - exp_labels");
        assert!(tests.contains(&tested), "no test makes {alert} fire");
    }
}

/// A metric that is renamed would leave alert rules that never fire, and empty panels.
#[test]
fn rules_and_dashboard_use_metrics_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("src/metrics/text.rs")).unwrap();
    let code = text.split_once("#[cfg(test)]").unwrap().0;
    let names = |text: &str| -> BTreeSet<String> {
        let ends = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let metrics = text.split(ends).filter(|word| word.starts_with("consoleserver_"));
        metrics.map(|name| name.trim_end_matches("_total").to_owned()).collect()
    };
    let exported = names(code);
    assert!(exported.len() >= 14, "{exported:?}");
    for file in ["consoleserver.rules.yml", "consoleserver.dashboard.json"] {
        let text = fs::read_to_string(root.join("prometheus").join(file)).unwrap();
        let missing: Vec<_> = names(&text).difference(&exported).cloned().collect();
        assert!(missing.is_empty(), "{file} uses {missing:?}");
    }
    let dashboard = fs::read_to_string(root.join("prometheus/consoleserver.dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    // Every panel has a query.
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(panel["targets"][0]["expr"].as_str().is_some_and(|query| query.contains("consoleserver_")));
    }
}
