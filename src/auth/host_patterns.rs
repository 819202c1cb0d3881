//! The `from=` option of authorized_keys: a list of address patterns, matched as sshd does without DNS (`PATTERNS` in ssh_config(5),
//! addr_match_list in OpenSSH's addrmatch.c). Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use crate::port::pattern;

/// Why a list is invalid. A list with one invalid pattern matches no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FromError {
    #[error("from= has an empty pattern")]
    Empty,
    /// As in sshd: `10.0.0.1/8` is more likely a mistake than a network.
    #[error("invalid from= pattern {0:?}: host bits are set, or the mask is too long")]
    Mask(String),
    /// Ignoring `!bad.example.org` would admit the host that it excludes.
    #[error("from= excludes {0:?}, but host names are not resolved: use addresses")]
    NegatedName(String),
    /// In a certificate.
    #[error("{0:?} is not a list of addresses and networks")]
    NotANetwork(String),
}

/// A parsed `from=` list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPatterns(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    negated: bool,
    what: PatternKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternKind {
    Network(IpNet),
    /// `192.168.1?.*`, in lower case. A host name is a wildcard too, and never matches an address.
    Wildcard(String),
}

impl HostPatterns {
    pub fn parse(list: &str) -> Result<Self, FromError> {
        list.split(',').map(Pattern::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Parses a certificate's `source-address`: addresses and networks only (addr_match_cidr_list in OpenSSH's addrmatch.c).
    pub fn networks(list: &str) -> Result<Self, FromError> {
        let parsed = Self::parse(list)?;
        let other = |pattern: &&Pattern| pattern.negated || !matches!(pattern.what, PatternKind::Network(_));
        match parsed.0.iter().find(other) {
            // sshd accepts no blanks there either.
            None if !list.contains(char::is_whitespace) => Ok(parsed),
            _ => Err(FromError::NotANetwork(list.to_owned())),
        }
    }

    /// Whether at least one pattern matches `address`, and no negated one.
    pub fn matches(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut matching = self.0.iter().filter(|pattern| pattern.what.matches(address)).peekable();
        matching.peek().is_some() && matching.all(|pattern| !pattern.negated)
    }
}

impl Pattern {
    fn parse(word: &str) -> Result<Self, FromError> {
        let word = word.to_ascii_lowercase();
        // sshd does not trim either, so a pattern with a blank matches nothing. One that is meant to exclude still does.
        let (negated, pattern) = match word.trim().strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, word.as_str()),
        };
        if pattern.is_empty() {
            return Err(FromError::Empty);
        }
        let what = match pattern.find('/') {
            // As sshd, which rejects bits behind the mask.
            Some(_) => match pattern.parse::<IpNet>() {
                Ok(network) if network == network.trunc() => PatternKind::Network(network),
                _ => return Err(FromError::Mask(word.clone())),
            },
            None => match pattern.parse::<IpAddr>() {
                // `::ffff:192.0.2.7` is an IPv6 address, and no client's: clients' mapped addresses are IPv4 addresses (addr_netmatch).
                Ok(address) => PatternKind::Network(address.into()),
                Err(_) => PatternKind::Wildcard(pattern.to_owned()),
            },
        };
        match &what {
            PatternKind::Wildcard(pattern) if negated && !is_address_pattern(pattern) => {
                Err(FromError::NegatedName(pattern.clone()))
            }
            _ => Ok(Self { negated, what }),
        }
    }
}

impl PatternKind {
    fn matches(&self, address: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(&address),
            Self::Wildcard(pattern) => pattern::matches(pattern, &address.to_string()),
        }
    }
}

/// Whether nothing but an address could match, by its text. `127.1` and `0177.0.0.1` are addresses to sshd (inet_aton(3)), and without a
/// wildcard would match none here.
fn is_address_pattern(pattern: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return false;
    }
    let only =
        |allowed: fn(char) -> bool| pattern.chars().all(|c| allowed(c) || matches!(c, '.' | '*' | '?'));
    only(|c| c.is_ascii_digit()) || pattern.contains(':') && only(|c| c.is_ascii_hexdigit() || c == ':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admits(list: &str, address: &str) -> bool {
        HostPatterns::parse(list).unwrap().matches(address.parse().unwrap())
    }

    #[test]
    fn addresses_networks_and_wildcards_match() {
        assert!(admits("10.1.2.3", "10.1.2.3"));
        assert!(!admits("10.1.2.3", "10.1.2.30"));
        assert!(admits("192.0.2.0/24,10.0.0.0/8", "10.200.0.1"));
        assert!(!admits("192.0.2.0/24", "192.0.3.1"));
        assert!(admits("192.168.1?.*", "192.168.17.200"));
        assert!(!admits("192.168.1?.*", "192.168.1.200"));
        assert!(admits("2001:DB8::/32", "2001:db8:1::1"));
        assert!(admits("2001:db8::*", "2001:db8::17"));
        assert!(admits("*", "::1"));
        assert!(admits("0.0.0.0/0", "1.2.3.4"));
        assert!(!admits("0.0.0.0/0", "::1"));
        assert!(admits("::/0", "fe80::1"));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        assert!(admits("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(
            !admits("::ffff:10.1.1.1", "10.1.1.1"),
            "as in sshd, an IPv6 address in a list is no IPv4 address"
        );
    }

    #[test]
    fn one_negated_match_shuts_out_wherever_it_stands() {
        assert!(!admits("!10.0.0.7,10.0.0.0/8", "10.0.0.7"));
        assert!(!admits("10.0.0.0/8,!10.0.0.7", "10.0.0.7"));
        assert!(admits("10.0.0.0/8,!10.0.0.7", "10.0.0.8"));
        assert!(!admits("!10.0.0.7", "10.0.0.8"), "negation alone admits nobody");
        assert!(!admits("*,!2001:db8:*", "2001:db8::1"));
    }

    #[test]
    fn a_host_name_never_matches_and_cannot_shut_out() {
        assert!(!admits("router.example.org,*.example.org", "10.0.0.1"));
        assert_eq!(
            HostPatterns::parse("*,!*.example.org"),
            Err(FromError::NegatedName("*.example.org".to_owned()))
        );
        assert!(HostPatterns::parse("*,!face.de").is_err(), "a name of hexadecimal digits is a name");
        for address in ["!10.1", "!0177.0.0.1", "!2130706433", "!0x7f.1"] {
            assert!(HostPatterns::parse(&format!("*,{address}")).is_err(), "{address} is an address to sshd");
        }
    }

    #[test]
    fn a_blank_is_part_of_a_pattern_unless_it_excludes() {
        assert!(!admits("10.0.0.1, 10.0.0.2", "10.0.0.2"));
        assert!(!admits("10.0.0.2 ,10.0.0.1", "10.0.0.2"));
        assert!(!admits("10.0.0.*, !10.0.0.2", "10.0.0.2"));
    }

    #[test]
    fn a_list_that_is_not_understood_is_an_error() {
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "/8", "host/24", "::1/64", "10.0.0.0/-1"] {
            assert_eq!(HostPatterns::parse(bad), Err(FromError::Mask(bad.to_owned())), "{bad}");
        }
        for bad in ["", ",", "10.0.0.1,", "!"] {
            assert_eq!(HostPatterns::parse(bad), Err(FromError::Empty), "{bad}");
        }
    }

    #[test]
    fn a_source_address_is_networks_only() {
        for (list, address, right) in [
            ("192.0.2.0/24,2001:db8::/32", "192.0.2.7", true),
            ("192.0.2.0/24,2001:db8::/32", "2001:db8::7", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
        ] {
            assert_eq!(
                HostPatterns::networks(list).unwrap().matches(address.parse().unwrap()),
                right,
                "{list}"
            );
        }
        for bad in [
            "*",
            "192.0.2.*",
            "!10.0.0.1",
            "192.0.2.7,host",
            "192.0.2.7, 10.0.0.1",
            "",
            "10.0.0.1/8",
            "10.0.0.1,",
        ] {
            assert!(HostPatterns::networks(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_list_and_no_address_panics(list in "[0-9a-f.:*?!/, x]{0,40}", address: [u8; 16]) {
            if let Ok(from) = HostPatterns::parse(&list) {
                from.matches(IpAddr::from(address));
                from.matches(IpAddr::from([address[0], address[1], address[2], address[3]]));
            }
        }

        #[test]
        fn an_address_matches_itself_and_every_network_around_it(address: [u8; 4], length in 0u8..=32) {
            let address = std::net::Ipv4Addr::from(address);
            prop_assert!(admits(&address.to_string(), &address.to_string()));
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            let network = std::net::Ipv4Addr::from(address.to_bits() & mask);
            let network = format!("{network}/{length}");
            prop_assert!(admits(&network, &address.to_string()));
        }

        #[test]
        fn many_stars_do_not_take_for_ever(stars in 1usize..2000) {
            let pattern = "*1".repeat(stars);
            admits(&pattern, "1111:1111:1111:1111:1111:1111:1111:1112");
        }
    }
}
