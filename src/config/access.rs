//! `[access]`: who may use a console once `console-auth` has said who somebody is.

use serde::{Deserialize, Serialize};

use super::key_sources::{DEFAULT_FILES, KeysCommand, KeysCommandUser, KeysFile};

/// `[access]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    /// Who may use a console.
    pub groups: Groups,
    /// How root may log in.
    pub root: RootLogin,
    /// Files that list a user's keys; none if empty.
    pub authorized_keys_files: Vec<KeysFile>,
    /// Program that prints a user's keys, asked after the files.
    pub authorized_keys_command: Option<KeysCommand>,
    /// As whom it runs.
    pub authorized_keys_command_user: Option<KeysCommandUser>,
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
        }
    }
}

/// A list of groups; `"*"` in it means every login.
#[derive(Debug, Clone, PartialEq)]
pub enum Groups {
    /// Every login.
    Everyone,
    /// Members of one of these; an empty list admits nobody.
    Members(Vec<String>),
}

impl Groups {
    /// Whether somebody who is in `groups` is meant.
    pub fn admit<S: AsRef<str>>(&self, groups: &[S]) -> bool {
        match self {
            Self::Everyone => true,
            Self::Members(names) => {
                names.iter().any(|name| groups.iter().any(|group| group.as_ref() == name))
            }
        }
    }
}

/// Who may use one console, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Whose members may write.
    pub groups: Groups,
    /// Who may write, whatever groups they are in.
    pub users: Vec<String>,
    /// Whose members may watch.
    pub read_only: Groups,
}

/// What somebody may do at a console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Write, and watch.
    Write,
    /// Watch.
    Watch,
}

impl Rules {
    /// What a user who is in `groups` may do; `None`: nothing.
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

/// `write = "one"`: how many may write at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writers {
    /// One, and the others watch.
    #[default]
    One,
    /// Everybody who may, all at once.
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
