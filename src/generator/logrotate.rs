//! Which logs there are, for logrotate(8): by name, since no pattern tells a log that is called `rack-7` or `jazz` from a rotated copy.

use std::path::Path;

use crate::config::{Config, LogType};

/// The list that `logrotate.conf` includes: the logs of the configured ports below `base`, under the rules that stand before it.
pub fn list(config: &Config, base: &Path) -> String {
    let mut list = String::from("# Made by console-logrotate.service each time that it runs.\n");
    for (name, port) in config.ports.iter().filter(|(_, port)| port.log.kind != LogType::None) {
        // (Neither name has a character that logrotate reads as more than itself.)
        list.push_str(&format!("{} {{\n}}\n", base.join(name.as_str()).join(&port.log.file).display()));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_log_is_named_whatever_its_name_ends_in() {
        let text = "[ports.a]\n[ports.b]\nlog.file = \"rack-7\"\n[ports.c]\nlog.type = \"none\"\n[ports.d]\nlog.file = \"x.gz\"\n";
        let config = Config::parse(text, Path::new("test.toml")).unwrap();
        let list = list(&config, Path::new("/var/log/consoleserver"));
        let logs: Vec<_> = list.lines().filter_map(|line| line.strip_suffix(" {")).collect();
        assert_eq!(
            logs,
            [
                "/var/log/consoleserver/a/console.log",
                "/var/log/consoleserver/b/rack-7",
                "/var/log/consoleserver/d/x.gz"
            ]
        );
    }
}
