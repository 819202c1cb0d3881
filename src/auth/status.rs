//! The STATUS of a session's unit: user and address. `systemctl status` prints it, and console-admin reads an administrator's address from
//! it, since only console-auth can set it.

use std::net::IpAddr;

const FROM: &str = " from ";

/// `alice from 192.0.2.7`
pub fn status(user: &str, rhost: IpAddr) -> String {
    format!("{user}{FROM}{}", rhost.to_canonical())
}

pub fn address_of<'s>(status: &'s str, user: &str) -> Option<&'s str> {
    let from = status.strip_prefix(user)?.strip_prefix(FROM)?;
    from.parse::<IpAddr>().is_ok().then_some(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_for_its_own_user_only() {
        for address in ["192.0.2.7", "2001:db8::7"] {
            let text = status("alice", address.parse().unwrap());
            assert_eq!(address_of(&text, "alice"), Some(address));
            assert_eq!(address_of(&text, "ali"), None);
            assert_eq!(address_of(&text, "alice from 192.0.2.7"), None);
        }
        assert_eq!(status("bob", "::ffff:192.0.2.7".parse().unwrap()), "bob from 192.0.2.7");
        assert_eq!(address_of("", "alice"), None);
        assert_eq!(address_of("alice from here", "alice"), None);
    }
}
