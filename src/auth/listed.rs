//! Searches for a key in the configured sources: the files first, then the command (user_key_allowed in OpenSSH's auth2-pubkey.c).

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use russh::keys::{HashAlg, PublicKey};

use super::account::Account;
use super::authorized_keys::{self, LoginContext};
use super::denied::Denied;
use super::keyfile;
use super::keys_command;
use super::sources::{Configured, Sources};
use crate::config::{KeyTokens, Tokens};

/// The key sources of one login. The configuration is read when the first key is offered, and again by the next login.
pub(super) struct Listed {
    configured: Configured,
    sources: Option<Option<Sources>>,
    /// Arguments and output of the command's last run: an agent offers all its keys, and most commands depend only on the user.
    printed: Option<(Vec<String>, Vec<u8>)>,
}

impl Listed {
    pub(super) fn new(configured: Configured) -> Self {
        Self { configured, sources: None, printed: None }
    }

    /// Whether the key is listed for `account`. Errors of files, lines and the command are passed to `report`.
    pub(super) fn lists(
        &mut self,
        account: &Account,
        key: &PublicKey,
        rhost: IpAddr,
        report: &dyn Fn(&str),
    ) -> Result<bool, Denied> {
        let Self { configured, sources, printed } = self;
        let sources = sources.get_or_insert_with(|| read(configured, report));
        // Reported before.
        let Some(sources) = sources else { return Ok(false) };
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let text = key.to_openssh().map_err(|_| Denied::NotAKey)?;
        let (kind, base64) = text.trim().split_once(' ').ok_or(Denied::NotAKey)?;
        let base64 = base64.split(' ').next().unwrap_or_default();
        let of_user =
            Tokens { user: account.name.as_str(), uid: account.uid.as_raw(), home: &account.home, key: None };

        let context = LoginContext { rhost, now: Timestamp::now(), zone: TimeZone::system() };
        let admits = |source: &Path, text: &[u8]| {
            let found = authorized_keys::search(text, key, &context);
            for (line, error) in &found.refused {
                report(&format!("{}, line {line}: {error}", source.display()));
            }
            found.admitted.is_some()
        };

        let files: Vec<PathBuf> = sources.files.iter().map(|file| file.expand(&of_user)).collect();
        for file in keyfile::read_all(account, &files).map_err(Denied::Become)? {
            match file {
                Ok(file) if admits(&file.path, &file.contents) => return Ok(true),
                Ok(_) => {}
                Err(error) => report(&format!("key file ignored: {error}")),
            }
        }
        let Some((command, user)) = &sources.command else { return Ok(false) };
        let of_key = KeyTokens { kind, fingerprint: &fingerprint, base64 };
        let (program, arguments) = command.expand(&Tokens { key: Some(of_key), ..of_user.clone() });
        let user = user.expand(&of_user);
        let words: Vec<String> = [user.clone()].into_iter().chain(arguments.iter().cloned()).collect();
        if printed.as_ref().is_none_or(|(before, _)| *before != words) {
            let output = keys_command::run(&program, &arguments, &user).unwrap_or_else(|error| {
                report(&format!(
                    "authorized_keys_command ({}) failed, so its keys are ignored: {error}",
                    program.display()
                ));
                Vec::new()
            });
            *printed = Some((words, output));
        }
        Ok(printed.as_ref().is_some_and(|(_, output)| admits(&program, output)))
    }
}

fn read(configured: &Configured, report: &dyn Fn(&str)) -> Option<Sources> {
    match configured.sources() {
        Ok(sources) => {
            if let Some(unconfirmed) = &sources.unconfirmed {
                report(&unconfirmed.to_string());
            }
            Some(sources)
        }
        Err(error) => {
            report(&format!(
                "no key is accepted, because the configuration of key sources is invalid: {error}"
            ));
            None
        }
    }
}
