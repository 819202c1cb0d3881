//! Groups and users of the configuration that this machine does not have. Only a remark: a directory service may be down, or a group be made
//! later. But a mistyped group denies a whole team, which is found out at the next login.

use nix::unistd::{Group, User};

use crate::config::Value;
use crate::session::plain;

/// What to print about the value of this key; nothing if it names no groups or users, or if all of them exist.
pub(super) fn remark(key: &str, value: &Value) -> Option<String> {
    type Exists = fn(&str) -> bool;
    let (kind, exists): (_, Exists) = match key {
        // An error is that of a directory service: it is not known whether the name exists.
        "groups" | "read_only_groups" => ("group", |name| !matches!(Group::from_name(name), Ok(None))),
        "users" => ("user", |name| !matches!(User::from_name(name), Ok(None))),
        _ => return None,
    };
    let names = value.as_array()?.iter().filter_map(Value::as_str);
    let missing: Vec<String> = names.filter(|name| *name != "*" && !exists(name)).map(plain).collect();
    match missing.as_slice() {
        [] => None,
        [only] => Some(format!("{key}: there is no {kind} {only} on this machine")),
        several => Some(format!("{key}: there are no {kind}s {} on this machine", several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_users_that_do_not_exist_are_remarked() {
        let list = |names: &[&str]| Value::Array(names.iter().map(|name| (*name).into()).collect());
        for (key, names, wanted) in [
            ("groups", &["root", "*"][..], None),
            (
                "groups",
                &["root", "no-such-group"],
                Some("groups: there is no group no-such-group on this machine"),
            ),
            (
                "read_only_groups",
                &["no-1", "no-2"],
                Some("read_only_groups: there are no groups no-1, no-2 on this machine"),
            ),
            ("users", &["root"], None),
            ("users", &["no-such-user"], Some("users: there is no user no-such-user on this machine")),
            ("listen", &["no-such-group"], None),
        ] {
            assert_eq!(remark(key, &list(names)).as_deref(), wanted, "{key} {names:?}");
        }
    }
}
