//! Where sshd takes users' keys from and the consoles do not: sshd's settings are not read by us, so whoever logs in by one of those
//! keys elsewhere is refused here, or the other way round. What the configuration says in so many words is no mistake.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::unistd::geteuid;

use super::{Finding, RunningQuery};
use crate::auth::sources::Configured;
use crate::config::changes::{KeyPath, Scope, stated};
use crate::config::{self, Access};

const SSHD: &str = "/usr/sbin/sshd";

/// For sshd to print its settings.
const TIMEOUT: Duration = Duration::from_secs(5);

/// `file` is the configuration that `access` comes from.
pub(super) fn look(access: &Access, file: &Path) -> Vec<Finding> {
    // sshd reads its host keys before it says anything, and whether a file is root's word only root can tell.
    if !geteuid().is_root() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let configured = Configured { file: None, root: "/".into() };
    if let Some(unconfirmed) = configured.unconfirmed() {
        findings.push(Finding::everywhere(unconfirmed.to_string(), unconfirmed.command()));
    }
    if let Some(settings) = settings_of_sshd() {
        let text = config::load_text(file).ok().flatten().unwrap_or_default();
        let is_stated = |key| stated(&text, &KeyPath { scope: Scope::Access, key: Some(key) }).is_some();
        findings.extend(compare(access, &settings, is_stated));
    }
    findings
}

/// What sshd would do for a user whom no `Match` names; `None` where there is none, or one that does not tell.
fn settings_of_sshd() -> Option<BTreeMap<String, String>> {
    if !Path::new(SSHD).exists() {
        return None;
    }
    let answer = RunningQuery::new(Command::new(SSHD).arg("-T")).ok()?.within(TIMEOUT).ok()?;
    answer.status.success().then(|| parse(&answer.stdout))
}

fn parse(printed: &str) -> BTreeMap<String, String> {
    let lines = printed.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

fn compare(
    access: &Access,
    sshd: &BTreeMap<String, String>,
    is_stated: impl Fn(&'static str) -> bool,
) -> Vec<Finding> {
    let setting = |key| sshd.get(key).map(String::as_str).filter(|value| !value.eq_ignore_ascii_case("none"));
    let mut findings = Vec::new();
    if let Some(command) = setting("authorizedkeyscommand")
        && access.authorized_keys_command.is_none()
        && !is_stated("authorized_keys_command")
    {
        let user = setting("authorizedkeyscommanduser").unwrap_or("nobody");
        findings.push(Finding::everywhere(
            format!("sshd takes keys from AuthorizedKeysCommand {command}, and the consoles do not"),
            format!(
                "in [access] of the configuration, if it is to count here, too:\n\
                 authorized_keys_command = {}\nauthorized_keys_command_user = {}\n\
                 and if not: authorized_keys_command = \"none\"",
                config::Value::from(command),
                config::Value::from(user),
            ),
        ));
    }
    let theirs: Vec<&str> =
        sshd.get("authorizedkeysfile").map(|files| files.split_whitespace().collect()).unwrap_or_default();
    let theirs: Vec<&str> = theirs.into_iter().filter(|file| !file.eq_ignore_ascii_case("none")).collect();
    let ours: Vec<&str> = access.authorized_keys_files.iter().map(|file| file.as_str()).collect();
    let below_home = |files: &[&str]| -> Vec<String> {
        files.iter().map(|file| file.strip_prefix("%h/").unwrap_or(file).to_owned()).collect()
    };
    let differ = sshd.contains_key("authorizedkeysfile") && below_home(&theirs) != below_home(&ours);
    if differ && !is_stated("authorized_keys_files") {
        let list = |files: &[&str]| config::Value::Array(files.iter().map(|file| (*file).into()).collect());
        let named = if theirs.is_empty() { "none".to_owned() } else { theirs.join(" ") };
        findings.push(Finding::everywhere(
            format!(
                "sshd reads keys from AuthorizedKeysFile {named}, and the consoles from {}",
                ours.join(" ")
            ),
            format!(
                "in [access] of the configuration, if it is to be the same here:\n\
                 authorized_keys_files = {}\nand if not: authorized_keys_files = {}",
                list(&theirs),
                list(&ours),
            ),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(printed: &str, stated: &[&str]) -> Vec<String> {
        let findings = compare(&Access::default(), &parse(printed), |key| stated.contains(&key));
        findings.into_iter().map(|finding| finding.what).collect()
    }

    /// The lines that concern keys, as `sshd -T` of OpenSSH 9.2 prints them on Debian 12 as installed.
    const AS_INSTALLED: &str = "port 22\nauthorizedkeyscommand none\nauthorizedkeyscommanduser none\n\
         authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2\n";

    #[test]
    fn an_sshd_as_installed_is_no_finding() {
        assert!(found(AS_INSTALLED, &[]).is_empty());
        let longer = AS_INSTALLED.replace(".ssh/authorized_keys ", "%h/.ssh/authorized_keys ");
        assert!(found(&longer, &[]).is_empty());
    }

    #[test]
    fn a_real_sshd_tells_its_settings() {
        // (sshd wants this directory, which its unit makes.)
        std::fs::create_dir_all("/run/sshd").unwrap();
        let settings =
            settings_of_sshd().expect("sshd -T, as root, with host keys (openssh-server is a test package)");
        for key in ["authorizedkeysfile", "authorizedkeyscommand", "authorizedkeyscommanduser"] {
            assert!(settings.contains_key(key), "{key}: {settings:?}");
        }
    }

    #[test]
    fn keys_that_only_sshd_takes_are_named_until_the_configuration_says_so() {
        let command =
            "authorizedkeyscommand /usr/bin/sss_ssh_authorizedkeys\nauthorizedkeyscommanduser nobody\n";
        let what = "sshd takes keys from AuthorizedKeysCommand /usr/bin/sss_ssh_authorizedkeys, and the consoles do not";
        assert_eq!(found(command, &[]), [what]);
        assert!(found(command, &["authorized_keys_command"]).is_empty());

        let files = "authorizedkeysfile /etc/ssh/keys/%u\n";
        let what = "sshd reads keys from AuthorizedKeysFile /etc/ssh/keys/%u, and the consoles from \
                    .ssh/authorized_keys .ssh/authorized_keys2";
        assert_eq!(found(files, &[]), [what]);
        assert!(found(files, &["authorized_keys_files"]).is_empty());
        assert_eq!(found("authorizedkeysfile none\n", &[]).len(), 1);
    }
}
