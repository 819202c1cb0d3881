//! Searches for a key or a certificate in the configured sources: the files first, then the authorities, then the command
//! (user_key_allowed in OpenSSH's auth2-pubkey.c); and in what is revoked before all of them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use russh::keys::HashAlg;

use super::account::Account;
use super::authorized_keys::{self, LoginContext, Search};
use super::certificate::{Offered, RequiredOfSecurityKey, UserCertificate};
use super::denied::Denied;
use super::keyfile;
use super::keys_command;
use super::sources::{Configured, Sources};
use super::trust;
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

    /// What a security key must prove, if the key or certificate is listed for `account`. Errors of files, lines and the command are passed
    /// to `report`.
    pub(super) fn lists(
        &mut self,
        account: &Account,
        offered: &Offered,
        rhost: IpAddr,
        report: &dyn Fn(&str),
    ) -> Result<Option<RequiredOfSecurityKey>, Denied> {
        let Self { configured, sources, printed } = self;
        let sources = sources.get_or_insert_with(|| read(configured, report));
        // Reported before.
        let Some(sources) = sources else { return Ok(None) };
        if let Some(file) = &sources.revoked
            && trust::is_revoked(file, offered).map_err(Denied::Revocations)?
        {
            return Err(Denied::Revoked(offered.to_string()));
        }
        let user = account.name.as_str();
        let context =
            LoginContext { user: user.to_owned(), rhost, now: Timestamp::now(), zone: TimeZone::system() };
        offered.check(context.now, rhost)?;
        let fingerprint = offered.key().fingerprint(HashAlg::Sha256).to_string();
        let (kind, base64) = offered.type_and_base64()?;
        let of_user = Tokens { user, uid: account.uid.as_raw(), home: &account.home, key: None };

        let reported = |source: &Path, found: Search| {
            for (line, error) in &found.refused {
                report(&format!("{}, line {line}: {error}", source.display()));
            }
            found.required
        };
        let admits =
            |source: &Path, text: &[u8]| reported(source, authorized_keys::search(text, offered, &context));

        let files: Vec<PathBuf> = sources.files.iter().map(|file| file.expand(&of_user)).collect();
        for file in keyfile::read_all(account, &files).map_err(Denied::Become)? {
            match file {
                Ok(file) => {
                    if let Some(required) = admits(&file.path, &file.contents) {
                        return Ok(Some(required));
                    }
                }
                Err(error) => report(&format!("key file ignored: {error}")),
            }
        }
        if let (Some(authorities), Offered::Certificate(certificate)) = (&sources.user_ca, offered)
            && is_trusted(authorities, certificate, report)
        {
            let required = match &sources.principals {
                None => certificate.is_for(user).then(|| RequiredOfSecurityKey::of(certificate)),
                Some(file) => {
                    let mut required = None;
                    let files = [file.expand(&of_user)];
                    for file in keyfile::read_all(account, &files).map_err(Denied::Become)? {
                        match file {
                            Ok(file) => {
                                let found =
                                    authorized_keys::search_principals(&file.contents, certificate, &context);
                                required =
                                    reported(&file.path, found).map(|required| required.with(certificate));
                            }
                            Err(error) => report(&format!("file of principals ignored: {error}")),
                        }
                    }
                    required
                }
            };
            match required {
                Some(required) => return Ok(Some(required)),
                None => report(&format!("the {offered} is for none of the user's principals")),
            }
        }
        let Some((command, user)) = &sources.command else { return Ok(None) };
        let of_key = KeyTokens { kind: &kind, fingerprint: &fingerprint, base64: &base64 };
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
        Ok(printed.as_ref().and_then(|(_, output)| admits(&program, output)))
    }
}

fn is_trusted(authorities: &Path, certificate: &UserCertificate, report: &dyn Fn(&str)) -> bool {
    match trust::authorities(authorities) {
        Ok(keys) => keys.contains(certificate.authority().key_data()),
        Err(error) => {
            report(&format!("user_ca accepts no certificate: {error}"));
            false
        }
    }
}

fn read(configured: &Configured, report: &dyn Fn(&str)) -> Option<Sources> {
    match configured.sources() {
        Ok(sources) => {
            for unconfirmed in &sources.unconfirmed {
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
