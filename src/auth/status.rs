//! What a session's unit has as its STATUS: whose it is, and from where. `systemctl status` shows it, and console-admin takes the
//! address of an administrator from it, since nothing but console-auth can set it.

use std::net::IpAddr;

const FROM: &str = " from ";

/// `alice from 192.0.2.7`
pub fn status(user: &str, rhost: IpAddr) -> String {
    format!("{user}{FROM}{}", rhost.to_canonical())
}

/// The address in a STATUS that is this user's.
pub fn whose<'s>(status: &'s str, user: &str) -> Option<&'s str> {
    let from = status.strip_prefix(user)?.strip_prefix(FROM)?;
    from.parse::<IpAddr>().is_ok().then_some(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_again_by_its_own_user_only() {
        for address in ["192.0.2.7", "2001:db8::7"] {
            let said = status("alice", address.parse().unwrap());
            assert_eq!(whose(&said, "alice"), Some(address));
            assert_eq!(whose(&said, "ali"), None);
            assert_eq!(whose(&said, "alice from 192.0.2.7"), None);
        }
        assert_eq!(status("bob", "::ffff:192.0.2.7".parse().unwrap()), "bob from 192.0.2.7");
        assert_eq!(whose("", "alice"), None);
        assert_eq!(whose("alice from here", "alice"), None);
    }
}
