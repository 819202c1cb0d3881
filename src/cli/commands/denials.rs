//! The ports that a user may not use, of a command that asks all ports. They are skipped, unless there is no other.

/// The denials of the ports.
#[derive(Debug, Default)]
pub(super) struct Denials {
    first: Option<String>,
    count: usize,
}

impl Denials {
    pub(super) fn add(&mut self, why: String) {
        self.first.get_or_insert(why);
        self.count += 1;
    }

    /// The reason, if all ports have denied access.
    pub(super) fn of_all(&self, ports: usize) -> Option<String> {
        let first = self.first.as_ref().filter(|_| self.count == ports)?;
        Some(match self.count {
            1 => first.clone(),
            count => format!("{first}; other ports that deny access: {}", count - 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_given_only_if_no_port_is_left() {
        let mut denials = Denials::default();
        assert_eq!(denials.of_all(0), None);
        denials.add("bob has no access to a".to_owned());
        assert_eq!(denials.of_all(2), None);
        assert_eq!(denials.of_all(1).unwrap(), "bob has no access to a");
        denials.add("bob has no access to b".to_owned());
        assert_eq!(denials.of_all(2).unwrap(), "bob has no access to a; other ports that deny access: 1");
    }
}
