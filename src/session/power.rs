//! The escape `^Ec!`: a power command, which console-admin runs after polkit has decided about the session's user.

use std::time::Duration;

use super::Context;
use super::roster::plain;
use crate::port::power::PowerVerb;
use crate::system::clock::clock;
use crate::trigger::notifier::{INTERFACE, NAME, PATH};

/// Time for console-admin to start, and for the unit of the power command to end ([`crate::admin`] waits 150 s for it).
const CALL_TIMEOUT: Duration = Duration::from_secs(180);

/// A command that a user has entered.
#[derive(Debug, PartialEq, Eq)]
enum Entered {
    Run(PowerVerb),
    /// It cuts the power, and the port's name does not follow: what to enter.
    Unconfirmed(String),
    Invalid(String),
}

/// `on`, `status`; `off PORT` and `cycle PORT`, where the name confirms that the user is at the console that they mean.
fn parse(text: &str, port: &str) -> Entered {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (word, confirmation) = match words.as_slice() {
        [word] => (*word, None),
        [word, name] => (*word, Some(*name)),
        _ => {
            return Entered::Invalid(
                "enter on, status, or off or cycle and the name of the console".to_owned(),
            );
        }
    };
    match word.parse::<PowerVerb>() {
        Err(error) => Entered::Invalid(error.to_string()),
        Ok(verb) if verb.cuts_power() && confirmation != Some(port) => {
            Entered::Unconfirmed(format!("not done: to confirm, enter {verb} {port}"))
        }
        Ok(_) if confirmation.is_some_and(|name| name != port) => {
            Entered::Invalid(format!("this console is {port}"))
        }
        Ok(verb) => Entered::Run(verb),
    }
}

/// Runs what was entered at the prompt of `^Ec!`. The session has write access.
pub(super) fn entered(here: &Context, text: &str) {
    let verb = match parse(&plain(text), here.console.name().as_str()) {
        Entered::Run(verb) => verb,
        Entered::Unconfirmed(why) | Entered::Invalid(why) => return here.notify(why),
    };
    if !here.console.has_bus() {
        return here
            .notify("power commands need console-admin, which this port is not connected to".to_owned());
    }
    here.spawn_command(move |here| async move {
        let begun = clock(jiff::Timestamp::now());
        let ran = tokio::time::timeout(CALL_TIMEOUT, call(&here, verb)).await;
        here.notify(match ran {
            Ok(Ok(output)) if output.is_empty() => format!("power {verb}: done"),
            Ok(Ok(output)) => format!("power {verb}: {}", plain(&output.replace('\n', "; "))),
            Ok(Err(why)) => why,
            Err(_) => format!("power {verb} of {begun}: no reply within {} s", CALL_TIMEOUT.as_secs()),
        });
    });
}

/// A connection for this call only: those of idle ports would cost more than the ports.
async fn call(here: &Context, verb: PowerVerb) -> Result<String, String> {
    let failed = |error: zbus::Error| match error {
        zbus::Error::MethodError(_, Some(said), _) => plain(&said),
        error => format!("power {verb}: the system bus: {error}"),
    };
    let bus = zbus::Connection::system().await.map_err(failed)?;
    let port = here.console.name();
    let words = (port.as_str(), verb.as_str(), here.user.as_str());
    let reply = bus.call_method(Some(NAME), PATH, Some(INTERFACE), "Power", &words).await.map_err(failed)?;
    reply.body().deserialize::<String>().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_the_power_requires_the_name_of_the_console() {
        let unconfirmed =
            |verb: &str| Entered::Unconfirmed(format!("not done: to confirm, enter {verb} core-1"));
        for (text, expected) in [
            ("on", Entered::Run(PowerVerb::On)),
            (" status ", Entered::Run(PowerVerb::Status)),
            ("off core-1", Entered::Run(PowerVerb::Off)),
            ("cycle  core-1", Entered::Run(PowerVerb::Cycle)),
            ("off", unconfirmed("off")),
            ("cycle", unconfirmed("cycle")),
            ("off core-2", unconfirmed("off")),
            ("on core-2", Entered::Invalid("this console is core-1".to_owned())),
        ] {
            assert_eq!(parse(text, "core-1"), expected, "{text:?}");
        }
        for text in ["", "reboot", "off core-1 now", "OFF core-1"] {
            assert!(matches!(parse(text, "core-1"), Entered::Invalid(_)), "{text:?}");
        }
    }
}
