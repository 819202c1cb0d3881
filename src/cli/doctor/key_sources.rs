//! Compares the sources of public keys with those of sshd, whose settings the consoles do not use: a key that works at one may be rejected
//! at the other. Keys that the configuration sets explicitly are not reported.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::unistd::geteuid;

use super::finding::Finding;
use crate::auth::sources::Configured;
use crate::auth::trust;
use crate::cli::bounded::RunningQuery;
use crate::config::changes::{KeyPath, Scope, stated};
use crate::config::{self, Access};

const SSHD: &str = "/usr/sbin/sshd";

const TIMEOUT: Duration = Duration::from_secs(5);

/// `file` is the configuration that `access` is from.
pub(super) fn check(access: &Access, file: &Path) -> Vec<Finding> {
    // `sshd -T` reads the host keys, and only root can check whether root confirmed the command.
    if !geteuid().is_root() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let configured = Configured { file: None, root: "/".into() };
    for unconfirmed in configured.unconfirmed() {
        findings.push(Finding::everywhere(unconfirmed.to_string(), unconfirmed.command()));
    }
    findings.extend(unusable_files(access));
    if let Some(settings) = settings_of_sshd() {
        let text = config::load_text(file).ok().flatten().unwrap_or_default();
        let is_stated = |key| stated(&text, &KeyPath { scope: Scope::Access, key: Some(key) }).is_some();
        findings.extend(compare(access, &settings, is_stated));
    }
    findings
}

/// Files about certificates that `console-auth` cannot use.
fn unusable_files(access: &Access) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(file) = &access.user_ca
        && let Err(error) = trust::authorities(file)
    {
        let problem = format!("user_ca accepts no certificate: {error}");
        let remedy = "write the CA's public key to it, as root and with mode 644, or set user_ca = \"none\"";
        findings.push(Finding::everywhere(problem, remedy));
    }
    if let Some(file) = &access.revoked
        && let Err(error) = trust::check_revoked(file)
    {
        let problem = format!("no key and no certificate is accepted, because of revoked: {error}");
        let remedy = format!("write a new list, such as by ssh-keygen -k -f {}", file.display());
        findings.push(Finding::everywhere(problem, remedy));
    }
    findings
}

/// sshd's settings for a user that no `Match` names; `None` without sshd, or if it fails.
fn settings_of_sshd() -> Option<BTreeMap<String, String>> {
    if !Path::new(SSHD).exists() {
        return None;
    }
    let answer = RunningQuery::new(Command::new(SSHD).arg("-T")).ok()?.within(TIMEOUT).ok()?;
    answer.status.success().then(|| parse(&answer.stdout))
}

pub(super) fn parse(printed: &str) -> BTreeMap<String, String> {
    let lines = printed.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

pub(super) fn compare(
    access: &Access,
    sshd: &BTreeMap<String, String>,
    is_stated: impl Fn(&'static str) -> bool,
) -> Vec<Finding> {
    let setting =
        |key: &str| sshd.get(key).map(String::as_str).filter(|value| !value.eq_ignore_ascii_case("none"));
    let mut findings = Vec::new();
    if let Some(command) = setting("authorizedkeyscommand")
        && access.authorized_keys_command.is_none()
        && !is_stated("authorized_keys_command")
    {
        let user = setting("authorizedkeyscommanduser").unwrap_or("nobody");
        findings.push(Finding::everywhere(
            format!("sshd uses AuthorizedKeysCommand {command}, and the consoles do not"),
            format!(
                "to use it here too, set in [access]:\n\
                 authorized_keys_command = {}\nauthorized_keys_command_user = {}\n\
                 otherwise: authorized_keys_command = \"none\"",
                config::Value::from(command),
                config::Value::from(user),
            ),
        ));
    }
    for (keyword, key, is_set) in [
        ("TrustedUserCAKeys", "user_ca", access.user_ca.is_some()),
        ("AuthorizedPrincipalsFile", "principals", access.principals.is_some()),
        ("RevokedKeys", "revoked", access.revoked.is_some()),
    ] {
        if let Some(file) = setting(&keyword.to_ascii_lowercase())
            && !is_set
            && !is_stated(key)
        {
            findings.push(Finding::everywhere(
                format!("sshd uses {keyword} {file}, and the consoles do not"),
                format!(
                    "to use it here too, set in [access]:\n{key} = {}\notherwise: {key} = \"none\"",
                    config::Value::from(file)
                ),
            ));
        }
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
            format!("sshd reads AuthorizedKeysFile {named}, and the consoles read {}", ours.join(" ")),
            format!(
                "to use the same files here, set in [access]:\n\
                 authorized_keys_files = {}\notherwise: authorized_keys_files = {}",
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
        findings.into_iter().map(|finding| finding.problem).collect()
    }

    /// The lines that concern keys, as `sshd -T` of OpenSSH 9.2 prints them on Debian 12 as installed.
    const AS_INSTALLED: &str = "port 22\nauthorizedkeyscommand none\nauthorizedkeyscommanduser none\n\
         authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2\n";

    #[test]
    fn the_default_sshd_configuration_is_no_finding() {
        assert!(found(AS_INSTALLED, &[]).is_empty());
        let longer = AS_INSTALLED.replace(".ssh/authorized_keys ", "%h/.ssh/authorized_keys ");
        assert!(found(&longer, &[]).is_empty());
    }

    #[test]
    fn certificates_of_sshd_alone_are_reported_until_the_configuration_sets_them() {
        for (keyword, key) in [
            ("TrustedUserCAKeys", "user_ca"),
            ("AuthorizedPrincipalsFile", "principals"),
            ("RevokedKeys", "revoked"),
        ] {
            let printed = format!("{} /etc/ssh/x\n", keyword.to_ascii_lowercase());
            assert_eq!(
                found(&printed, &[]),
                [format!("sshd uses {keyword} /etc/ssh/x, and the consoles do not")]
            );
            assert!(found(&printed, &[key]).is_empty());
            assert!(found(&printed.replace("/etc/ssh/x", "none"), &[]).is_empty());
        }
    }

    #[test]
    fn a_file_about_certificates_that_cannot_be_used_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("revoked");
        std::fs::write(&file, "SSHKRL\n\0\0").unwrap();
        let access = Access {
            user_ca: Some("/nonexistent/ca.pub".into()),
            revoked: Some(file.clone()),
            ..Access::default()
        };
        let problems: Vec<String> =
            unusable_files(&access).into_iter().map(|finding| finding.problem).collect();
        assert_eq!(
            problems,
            [
                "user_ca accepts no certificate: cannot read /nonexistent/ca.pub: No such file or directory (os error 2)"
                    .to_owned(),
                format!(
                    "no key and no certificate is accepted, because of revoked: {}: it ends within a field",
                    file.display()
                ),
            ]
        );
    }

    #[test]
    fn a_real_sshd_prints_its_settings() {
        // (sshd wants this directory, which its unit makes.)
        std::fs::create_dir_all("/run/sshd").unwrap();
        let settings =
            settings_of_sshd().expect("sshd -T, as root, with host keys (openssh-server is a test package)");
        for key in ["authorizedkeysfile", "authorizedkeyscommand", "authorizedkeyscommanduser"] {
            assert!(settings.contains_key(key), "{key}: {settings:?}");
        }
    }

    #[test]
    fn key_sources_of_sshd_alone_are_reported_until_the_configuration_sets_them() {
        let command =
            "authorizedkeyscommand /usr/bin/sss_ssh_authorizedkeys\nauthorizedkeyscommanduser nobody\n";
        let problem =
            "sshd uses AuthorizedKeysCommand /usr/bin/sss_ssh_authorizedkeys, and the consoles do not";
        assert_eq!(found(command, &[]), [problem]);
        assert!(found(command, &["authorized_keys_command"]).is_empty());

        let files = "authorizedkeysfile /etc/ssh/keys/%u\n";
        let problem = "sshd reads AuthorizedKeysFile /etc/ssh/keys/%u, and the consoles read \
                    .ssh/authorized_keys .ssh/authorized_keys2";
        assert_eq!(found(files, &[]), [problem]);
        assert!(found(files, &["authorized_keys_files"]).is_empty());
        assert_eq!(found("authorizedkeysfile none\n", &[]).len(), 1);
    }
}
