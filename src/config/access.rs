//! `[access]`: which users have access to a console, once `console-auth` has authenticated them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::key_sources::{DEFAULT_FILES, KeysCommand, KeysCommandUser, KeysFile};
use crate::port::nearest::either;

/// `[access]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    pub groups: Groups,
    /// How root may log in.
    pub root: RootLogin,
    /// Files with a user's keys; empty = none.
    pub authorized_keys_files: Vec<KeysFile>,
    /// Program that prints a user's keys, run after the files were searched.
    pub authorized_keys_command: Option<KeysCommand>,
    pub authorized_keys_command_user: Option<KeysCommandUser>,
    /// File with the keys of the authorities whose certificates are accepted for every user.
    pub user_ca: Option<PathBuf>,
    /// File with the principals that a user's certificate must have one of, instead of the user's name.
    pub principals: Option<KeysFile>,
    /// File with revoked keys and certificates.
    pub revoked: Option<PathBuf>,
}

impl Default for Access {
    /// The members of `dialout`, `sudo` or `root`; root itself by key.
    fn default() -> Self {
        let groups = ["dialout", "sudo", "root"].map(str::to_owned).to_vec();
        let files = DEFAULT_FILES.iter().filter_map(|file| KeysFile::parse(file).ok().flatten());
        Self {
            groups: Groups::Members(groups),
            root: RootLogin::Key,
            authorized_keys_files: files.collect(),
            authorized_keys_command: None,
            authorized_keys_command_user: None,
            user_ca: None,
            principals: None,
            revoked: None,
        }
    }
}

/// A list of groups; `"*"` in it means every user.
#[derive(Debug, Clone, PartialEq)]
pub enum Groups {
    Everyone,
    /// Members of one of these groups; an empty list admits no user.
    Members(Vec<String>),
}

impl Groups {
    /// Whether a user who is in `groups` is admitted.
    pub fn admit<S: AsRef<str>>(&self, groups: &[S]) -> bool {
        match self {
            Self::Everyone => true,
            Self::Members(names) => {
                names.iter().any(|name| groups.iter().any(|group| group.as_ref() == name))
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    pub groups: Groups,
    /// Users with write access, independent of groups.
    pub users: Vec<String>,
    pub read_only: Groups,
}

/// The kind of access that a user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Read and write.
    Write,
    /// Read-only.
    Watch,
}

impl Rules {
    /// The groups or users that have access, for the message to a user who has none.
    pub fn requirement(&self) -> String {
        let named = [&self.groups, &self.read_only].into_iter().filter_map(|groups| match groups {
            Groups::Everyone => None,
            Groups::Members(names) => Some(names),
        });
        let names: Vec<&str> = named.flatten().map(String::as_str).collect();
        match names.is_empty() {
            true => "only its listed users have access".to_owned(),
            false => format!("this requires membership in the group {}", either(&names)),
        }
    }

    /// The access of a user who is in `groups`; `None` = no access.
    pub fn right<S: AsRef<str>>(&self, user: &str, groups: &[S]) -> Option<Right> {
        match () {
            () if self.groups.admit(groups) || self.users.iter().any(|name| name == user) => {
                Some(Right::Write)
            }
            () if self.read_only.admit(groups) => Some(Right::Watch),
            () => None,
        }
    }
}

/// `write = "one"`: how many sessions have write access at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writers {
    /// One session has write access; the others are read-only.
    #[default]
    One,
    /// Every session of a user with write access.
    Shared,
}

/// `root = "key"`: how uid 0 may log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootLogin {
    /// By key only.
    Key,
    /// By any method.
    Yes,
    /// Not at all.
    No,
}
