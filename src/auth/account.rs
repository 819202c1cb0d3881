#![allow(unsafe_code)]
//! Looks up accounts in the name service (nsswitch.conf(5)): user, groups, and whether the account is locked.

use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;
use std::ptr;

use nix::libc;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use thiserror::Error;

use super::protocol::Identity;

/// Bytes of the longest name that is looked up; longer than `useradd` or a directory allows.
const NAME_LIMIT: usize = 256;

/// Bytes for one shadow entry; longer than any password hash.
const SHADOW_BUFFER: usize = 16 * 1024;

/// Accounts that are looked through for the members of a group: a directory may have very many, and a login waits.
const MAX_ACCOUNTS: usize = 100_000;

/// Why an account was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AccountError {
    #[error("invalid user name")]
    Name,
    #[error("no such user")]
    Unknown,
    #[error("user database lookup failed: {0}")]
    User(nix::Error),
    #[error("group database lookup failed: {0}")]
    Group(nix::Error),
    #[error("shadow database lookup failed: {0}")]
    Shadow(nix::Error),
}

/// A user name that is safe to pass to libraries. It need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginName(CString);

impl LoginName {
    /// The name that is passed to PAM when the real one is unsafe. No account can have it: a colon ends the field in passwd(5).
    pub const IMPOSSIBLE: &str = "no:body";

    /// Truncates a name that is too long for any account, which would fill messages and the journal.
    pub fn cut(typed: &str) -> &str {
        let end = typed.char_indices().map(|(at, _)| at).find(|at| *at > NAME_LIMIT);
        &typed[..end.unwrap_or(typed.len())]
    }

    /// `None` for a name that a PAM module or its script could take for an option, a path or a second line.
    pub fn parse(name: &str) -> Option<Self> {
        let hostile = name.is_empty()
            || name.len() > NAME_LIMIT
            || name.starts_with(['-', '.'])
            || name.contains(|c: char| c.is_control() || matches!(c, '/' | ':'));
        if hostile { None } else { CString::new(name).ok().map(Self) }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().expect("was made from a str")
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

#[derive(Debug, Clone)]
pub struct Account {
    /// The name as the name service spells it.
    pub name: LoginName,
    pub uid: Uid,
    pub gid: Gid,
    /// Home directory, which need not exist.
    pub home: PathBuf,
    /// The password field of passwd(5), `x` if there is a shadow entry.
    password: CString,
}

impl Account {
    pub fn look_up(name: &str) -> Result<Self, AccountError> {
        let name = LoginName::parse(name).ok_or(AccountError::Name)?;
        let user =
            User::from_name(name.as_str()).map_err(AccountError::User)?.ok_or(AccountError::Unknown)?;
        Self::of(user)
    }

    pub fn of_uid(uid: Uid) -> Result<Self, AccountError> {
        Self::of(User::from_uid(uid).map_err(AccountError::User)?.ok_or(AccountError::Unknown)?)
    }

    fn of(user: User) -> Result<Self, AccountError> {
        Ok(Self {
            name: LoginName::parse(&user.name).ok_or(AccountError::Name)?,
            uid: user.uid,
            gid: user.gid,
            home: user.dir,
            password: user.passwd,
        })
    }

    /// An account without rights and without a home, whose keys are searched for an unknown user, so that it takes as long as for a known
    /// one.
    pub fn nobody() -> Self {
        Self {
            name: LoginName(CString::from(c"nobody")),
            uid: Uid::from_raw(65534),
            gid: Gid::from_raw(65534),
            home: PathBuf::from("/nonexistent"),
            password: CString::from(c"x"),
        }
    }

    /// Identity with all groups, the primary one included. A group id without a name is ignored, because no list in the configuration
    /// can contain it.
    pub fn identity(&self) -> Result<Identity, AccountError> {
        let ids = getgrouplist(&self.name.0, self.gid).map_err(AccountError::Group)?;
        let names = ids.into_iter().map(|id| Group::from_gid(id).map_err(AccountError::Group));
        let groups = names.filter_map(Result::transpose).map(|group| group.map(|group| group.name));
        Ok(Identity {
            name: self.name.as_str().to_owned(),
            uid: self.uid.as_raw(),
            groups: groups.collect::<Result<_, _>>()?,
        })
    }

    /// Whether an administrator has locked the password (`usermod -L`, `passwd -l`), which disables keys as well. Requires root.
    pub fn is_locked(&self) -> Result<bool, AccountError> {
        if self.password.as_bytes() != b"x" {
            return Ok(locks(self.password.as_bytes()));
        }
        Ok(shadow_password(&self.name)?.is_some_and(|password| locks(&password)))
    }
}

/// Whether `group` has one member, the owner of a file of `user` that it may write: the group that adduser(8) makes for each user, with
/// which the umask 002 is safe. As sshd of Debian decides (`user-group-modes.patch`, `secure_permissions` in OpenSSH's misc.c).
pub(super) fn is_private_group(group: Gid, owner: Uid, user: Uid) -> bool {
    let Ok(Some(group)) = Group::from_gid(group) else { return false };
    let Ok(Some(owner)) = User::from_uid(owner) else { return false };
    let is_primary = match primary_members(group.gid) {
        Some(members) if members.iter().any(|member| *member != user) => return false,
        Some(members) => !members.is_empty(),
        None => return false,
    };
    match group.mem.as_slice() {
        [] => is_primary,
        [only] => *only == owner.name,
        _ => false,
    }
}

/// The users whose primary group this is; `None` if there are more than [`MAX_ACCOUNTS`].
fn primary_members(group: Gid) -> Option<Vec<Uid>> {
    let mut members = Vec::new();
    // SAFETY: no arguments, and this process has one thread.
    unsafe { libc::setpwent() };
    let complete = (0..MAX_ACCOUNTS).any(|_| {
        // SAFETY: this process has one thread, so that nothing else overwrites the entry before it is read.
        let entry = unsafe { libc::getpwent() };
        // SAFETY: null, or an entry that stays valid until the next call.
        match unsafe { entry.as_ref() } {
            Some(entry) if entry.pw_gid == group.as_raw() => members.push(Uid::from_raw(entry.pw_uid)),
            Some(_) => {}
            None => return true,
        }
        false
    });
    // SAFETY: as above.
    unsafe { libc::endpwent() };
    complete.then_some(members)
}

/// A mark before a hash is a lock. A mark alone (`!`, `*`, `!*`) is an account that never had a password, as accounts for login by key
/// only have it.
fn locks(password: &[u8]) -> bool {
    let hash = password.iter().position(|byte| !b"!*".contains(byte));
    hash.is_some_and(|marks| marks > 0)
}

/// The password field of shadow(5); `None` if the account has no entry.
fn shadow_password(name: &LoginName) -> Result<Option<Vec<u8>>, AccountError> {
    let mut buffer = vec![0 as c_char; SHADOW_BUFFER];
    // SAFETY: spwd is plain data of pointers and integers, for which all zeros is a value.
    let mut entry: libc::spwd = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::spwd = ptr::null_mut();
    // SAFETY: the name ends with NUL; entry, buffer and found outlive the call, and the length is the buffer's.
    let code = unsafe {
        libc::getspnam_r(name.0.as_ptr(), &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found)
    };
    match code {
        0 if found.is_null() => Ok(None),
        // SAFETY: found, so sp_pwdp is a NUL-terminated string inside buffer, which is still alive.
        0 => Ok(Some(unsafe { CStr::from_ptr(entry.sp_pwdp) }.to_bytes().to_owned())),
        libc::ENOENT => Ok(None),
        code => Err(AccountError::Shadow(nix::Error::from_raw(code))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_libraries_could_misinterpret_are_rejected() {
        for bad in ["", "-f", "--", "a\nb", "a\0b", "\u{85}", "../x", ".", "a/b", "a:b", &"x".repeat(257)] {
            assert_eq!(LoginName::parse(bad), None, "{bad:?}");
        }
        for good in ["alice", "DOMAIN\\alice", "alice@example.org", "jürgen", "a b", "machine$"] {
            assert_eq!(LoginName::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(LoginName::parse(LoginName::IMPOSSIBLE), None);
    }

    #[test]
    fn a_truncated_name_is_still_too_long() {
        for name in ["x".repeat(300), "\u{80}".repeat(200), "\u{20ac}".repeat(100), "\u{1f600}".repeat(100)] {
            let cut = LoginName::cut(&name);
            assert!(cut.len() < name.len() && cut.len() <= NAME_LIMIT + 4, "{}", cut.len());
            assert_eq!(LoginName::parse(cut), None);
        }
        assert_eq!(LoginName::cut("alice"), "alice");
        assert_eq!(LoginName::cut(&"x".repeat(NAME_LIMIT)).len(), NAME_LIMIT);
    }

    #[test]
    fn only_a_mark_before_a_hash_is_a_lock() {
        for locked in ["!$y$j9T$abc", "*$6$abc", "!!$y$x", "*LK*", "!a"] {
            assert!(locks(locked.as_bytes()), "{locked}");
        }
        for open in ["", "!", "*", "!*", "!!", "$y$j9T$abc", "$6$a!b*"] {
            assert!(!locks(open.as_bytes()), "{open}");
        }
    }

    #[test]
    fn root_is_found_with_its_primary_group_and_unknown_users_are_not() {
        let root = Account::look_up("root").unwrap();
        let identity = root.identity().unwrap();
        assert_eq!((identity.name.as_str(), identity.uid), ("root", 0));
        assert!(identity.groups.iter().any(|group| group == "root"), "{:?}", identity.groups);
        assert_eq!(Account::of_uid(Uid::from_raw(0)).unwrap().identity().unwrap(), identity);
        assert_eq!(Account::look_up("no-such-user-here").unwrap_err(), AccountError::Unknown);
        assert_eq!(Account::of_uid(Uid::from_raw(4_000_000_000)).unwrap_err(), AccountError::Unknown);
    }
}
