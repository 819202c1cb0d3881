//! Runs the escape commands: conserver's, with conserver's letters, and our own. Their output goes only to the session that ran them.

use std::time::Duration;

use tokio::sync::oneshot;

use super::escape::{Action, Modem, Prompt};
use super::info::status_rows;
use super::roster::{WriteDenied, plain};
use super::{Context, Reply};
use crate::capture::Found;
use crate::config::EscapePrefix;
use crate::hub::{self, BreakRequest, Condition, Control, Input};
use crate::port::nearest::no_port;
use crate::port::{PortName, Sequence};
use crate::serial::ModemLine;
use crate::system::clock::clock;

/// Length of a break. (OpenSSH always requests 1 s, RFC 4335, regardless of its user.)
const BREAK_DURATION: Duration = Duration::from_millis(hub::DEFAULT_BREAK_MS as u64);
/// Each of `l1` to `l9` is this much longer than the one before.
const BREAK_STEP: Duration = Duration::from_millis(250);
/// Long enough for a modem to hang up and a board to reset.
const DTR_PULSE_TIME: Duration = Duration::from_millis(500);
/// Matches that a search prints: one terminal page.
const MAX_MATCHES: usize = 20;

pub(super) enum Outcome {
    /// Send this to the device.
    Input(Input),
    /// Done, or running in a task.
    Done,
    Detach,
    /// Completes the word that is being edited.
    Complete(String),
    /// The line was not usable, and its prompt is shown again.
    AskAgain(Prompt),
    /// End the session; the client switches to another console.
    Switch(PortName),
}

/// A break requested by SSH (RFC 4335), or by `l0` to `l9`: the break of that name, otherwise the port's own, whose length the digit selects.
pub(super) fn break_of(here: &Context, longer: u8) -> Input {
    match here.console.settings().breaks.by_key(b'0' + longer) {
        Some(sequence) => named_break(here, sequence.clone()),
        None => break_of_length(here, BREAK_DURATION + BREAK_STEP * longer.into()),
    }
}

fn named_break(here: &Context, sequence: Sequence) -> Input {
    let what = BreakRequest { length: BREAK_DURATION, sequence: Some(sequence) };
    here.console.hub.break_of(what, here.user.clone(), here.breaks.clone())
}

/// A break requested by RFC 2217.
pub(super) fn break_of_length(here: &Context, length: Duration) -> Input {
    here.console.hub.break_of(length.into(), here.user.clone(), here.breaks.clone())
}

pub(super) async fn act(here: &Context, prefix: Option<EscapePrefix>, action: Action) -> Outcome {
    let console = &here.console;
    match action {
        Action::Input(bytes) => return Outcome::Input(Input::Bytes(bytes)),
        Action::Break(longer) => return Outcome::Input(break_of(here, longer)),
        Action::NamedBreak(key) => {
            let settings = console.settings();
            match settings.breaks.by_key(key) {
                Some(sequence) => return Outcome::Input(named_break(here, sequence.clone())),
                None => {
                    let name = prefix_text(prefix);
                    let key = char::from(key);
                    here.notify(format!("{name}l{key} is not a break of this port; {name}l? lists them"));
                }
            }
        }
        Action::Detach => return Outcome::Detach,
        Action::Line(Prompt::Console, name) => return switch_console(here, &name).await,
        Action::Complete(_, begun) => return complete(here, &begun).await,
        Action::Nothing => {}
        Action::Help => here.notify(help(here, prefix)),
        Action::Breaks => here.notify(breaks(here, prefix)),
        Action::RequestWrite => {
            let taken = console.roster().request_write(here.id);
            report_write_access(
                here,
                taken,
                &format!("; {}f to take over", prefix_text(prefix)),
                "has write access",
            );
        }
        Action::TakeOver => take_over(here),
        Action::ReadOnly => {
            console.roster().release_write(here.id);
            here.notify("you are read-only".to_owned());
        }
        Action::Who => here.notify(who(here)),
        Action::Version => here.notify(format!("consoleserver {}", env!("CARGO_PKG_VERSION"))),
        Action::Information => information(here),
        Action::Replay(lines) => here.reply(Reply::Replay(lines)),
        Action::Timestamps => here.reply(Reply::Timestamps),
        Action::Reopen => reopen(here),
        Action::Modem(modem) => set_modem(here, modem),
        Action::Ask(asked) => here.reply(Reply::Echo(format!("\r\n[{}: ", prompt_text(asked)).into_bytes())),
        Action::Echo(bytes) => here.reply(Reply::Echo(bytes)),
        Action::Line(Prompt::Message, text) => message(here, &text),
        Action::Line(Prompt::Search, words) => search(here, words),
        Action::Line(Prompt::Power, text) if require_write(here) => super::power::entered(here, &text),
        Action::Line(Prompt::Power, _) => {}
        Action::Unknown(characters) => {
            let name = prefix_text(prefix);
            here.notify(format!("{name}{characters} is not a command; {name}? for help"));
        }
    }
    Outcome::Done
}

/// Makes this session the only writer.
pub(super) fn take_over(here: &Context) {
    let taken = here.console.roster().take_over(here.id);
    report_write_access(here, taken, "", "took over");
}

/// Reports to this session and the log whether it got write access.
fn report_write_access(here: &Context, taken: Result<(), WriteDenied>, how: &str, news: &str) {
    match taken {
        Ok(()) => {
            here.console.hub.note(format!("{} {news}", plain(&here.user)));
            here.notify("you have write access".to_owned());
        }
        Err(WriteDenied::ReadOnly) => here.notify(WriteDenied::ReadOnly.to_string()),
        Err(written) => here.notify(format!("{written}{how}")),
    }
}

fn prefix_text(prefix: Option<EscapePrefix>) -> String {
    prefix.map(|prefix| prefix.to_string()).unwrap_or_default()
}

fn prompt_text(asked: Prompt) -> &'static str {
    match asked {
        Prompt::Console => "console",
        Prompt::Message => "message to the other users",
        Prompt::Search => "search the log for",
        Prompt::Power => "power (on, off, cycle, status)",
    }
}

fn help(here: &Context, prefix: Option<EscapePrefix>) -> String {
    let name = prefix_text(prefix);
    let another = match here.can_switch {
        true => "switch to another console; Return lists them, Tab completes",
        false => "show how to connect to another console",
    };
    let commands = [
        (".", "detach"),
        (";", another),
        ("a", "get write access, if no client has it"),
        ("f", "take over write access"),
        ("s", "give up write access"),
        ("b", "send a message to the other users"),
        ("w u", "list the attached users"),
        ("l0", "send a break; l1 to l9, la to lz: others; l?: list them"),
        ("r p ^R", "replay the last 20 lines, 60 lines, 1 line"),
        ("/", "search the log"),
        ("t", "turn timestamps on or off"),
        ("i", "show settings, counters, modem lines"),
        ("o", "close and reopen the tty"),
        ("Mp", "pulse DTR; Md MD: DTR off, on; Mr MR: RTS off, on"),
        ("!", "power of the device: on, off, cycle, status"),
        ("\\ooo", "send the character with this octal code"),
        ("v", "show the version"),
        ("?", "show this list"),
        ("return", "cancel the command"),
    ];
    let mut text = "escape commands".to_owned();
    for (keys, meaning) in commands {
        text.push_str(&format!("\r\n {name} {keys:<7} {meaning}"));
    }
    text.push_str(match here.can_switch {
        true => "\r\n file transfers (sz, rz, sx): consolectl connect --escape none, or pipes",
        false => "\r\n file transfers (sz, rz, sx): ssh -T, or ssh -t -e none HOST connect --escape none",
    });
    text
}

fn breaks(here: &Context, prefix: Option<EscapePrefix>) -> String {
    let settings = here.console.settings();
    let name = prefix_text(prefix);
    let mut text = "breaks and their lengths".to_owned();
    for longer in 0..=9u8 {
        if longer > 0 && settings.breaks.by_key(b'0' + longer).is_some() {
            continue;
        }
        let length = BREAK_DURATION + BREAK_STEP * longer.into();
        text.push_str(&format!("\r\n {name}l{longer} {} ms", length.as_millis()));
        if !settings.break_sequence.is_serial_break() {
            text.push_str(&format!(" {}", settings.break_sequence));
        }
    }
    for (of, sequence) in settings.breaks.iter() {
        text.push_str(&format!("\r\n {name}l{} {of} {sequence}", char::from(of.key())));
    }
    text
}

fn who(here: &Context) -> String {
    let mut text = format!("users attached to {}", here.console.name());
    for (id, member) in here.console.roster().sessions() {
        let role = if member.writes { "read-write" } else { "read-only " };
        let you = if id == here.id { " (you)" } else { "" };
        text.push_str(&format!("\r\n {role} since {} {}{you}", clock(member.since), member.client));
    }
    text
}

fn message(here: &Context, text: &str) {
    let text = plain(text.trim());
    if text.is_empty() {
        return here.notify("empty message: not sent".to_owned());
    }
    let mut roster = here.console.roster();
    let Some((_, me)) = roster.sessions().find(|(id, _)| *id == here.id) else { return };
    let news = format!("{}: {text}", me.client);
    roster.notify_all(Some(here.id), &news);
    let others = roster.sessions().count() - 1;
    drop(roster);
    here.notify(match others {
        0 => "no other user is attached".to_owned(),
        1 => "message sent to 1 client".to_owned(),
        many => format!("message sent to {many} clients"),
    });
}

async fn switch_console(here: &Context, name: &str) -> Outcome {
    let neighbours = here.console.ports().await;
    let name = name.trim();
    match neighbours.iter().find(|(port, _)| port.as_str() == name).cloned() {
        None => {
            here.notify(no_port(&plain(name), neighbours.iter().map(|(port, _)| port)));
            ask_console(here, "");
            return Outcome::AskAgain(Prompt::Console);
        }
        Some((port, _)) if here.can_switch => return Outcome::Switch(port),
        Some((port, Some(tcp))) => {
            here.notify(format!("{port} is at TCP port {tcp}; to connect: {}", ssh_command(here, tcp)))
        }
        Some((port, None)) => {
            here.notify(format!("{port} has no TCP port; to connect: consolectl connect {port}"))
        }
    }
    Outcome::Done
}

fn list_consoles<'n>(
    here: &Context,
    neighbours: impl Iterator<Item = &'n (PortName, Option<u16>)>,
) -> String {
    let mut text = "consoles".to_owned();
    for (port, tcp) in neighbours {
        let address = match tcp {
            _ if *port == here.console.name() => "this console".to_owned(),
            Some(tcp) if here.can_switch => format!("TCP port {tcp}"),
            Some(tcp) => format!("TCP port {tcp}: {}", ssh_command(here, *tcp)),
            None => "no TCP port".to_owned(),
        };
        text.push_str(&format!("\r\n {:<16} {address}", port.as_str()));
    }
    text
}

/// The command with which the user connects to that TCP port.
fn ssh_command(here: &Context, tcp: u16) -> String {
    match here.reached_at {
        Some(host) => format!("ssh -p {tcp} -l {} {host}", quoted(&here.user)),
        None => format!("ssh -p {tcp}"),
    }
}

/// The user name quoted for a shell. (Names of a Windows domain have a backslash.)
fn quoted(user: &str) -> String {
    let user = plain(user);
    shlex::try_quote(&user).map_or_else(|_| user.clone(), |quoted| quoted.into_owned())
}

/// Completes a console's name that the user has begun, as far as it is unambiguous; otherwise lists the names that match.
async fn complete(here: &Context, begun: &str) -> Outcome {
    let neighbours = here.console.ports().await;
    let fit = || neighbours.iter().filter(|(port, _)| port.as_str().starts_with(begun));
    let names: Vec<&str> = fit().map(|(port, _)| port.as_str()).collect();
    let rest = names.first().map_or("", |first| &first[begun.len()..common_prefix_len(&names)]);
    if !rest.is_empty() && !begun.is_empty() {
        return Outcome::Complete(rest.to_owned());
    }
    if names.len() != 1 || begun.is_empty() {
        here.notify(match names.len() {
            0 => no_port(&plain(begun), neighbours.iter().map(|(port, _)| port)),
            _ => list_consoles(here, fit()),
        });
        ask_console(here, begun);
    }
    Outcome::Done
}

fn ask_console(here: &Context, begun: &str) {
    here.reply(Reply::Echo(format!("\r\n[{}: {begun}", prompt_text(Prompt::Console)).into_bytes()));
}

/// Length of the names' common prefix. (They are ASCII.)
fn common_prefix_len(names: &[&str]) -> usize {
    let Some((first, others)) = names.split_first() else { return 0 };
    let shared = |other: &&str| first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    others.iter().map(shared).min().unwrap_or(first.len())
}

fn information(here: &Context) {
    here.spawn_command(|here| async move {
        let condition = here.console.hub.examine().await;
        here.notify(information_text(&here, &condition));
    });
}

fn information_text(here: &Context, condition: &Condition) -> String {
    let description = here.console.settings().description;
    let mut text = match description.as_str() {
        "" => here.console.name().to_string(),
        description => format!("{}: {}", here.console.name(), plain(description)),
    };
    for (what, value) in status_rows(&here.console, condition) {
        text.push_str(&format!("\r\n {what:<8} {value}"));
    }
    text
}

/// Whether this session has write access; prints a notice if not.
fn require_write(here: &Context) -> bool {
    let writes = here.console.roster().writes(here.id);
    if !writes {
        here.notify("you are read-only: this command requires write access".to_owned());
    }
    writes
}

fn reopen(here: &Context) {
    if require_write(here) {
        match here.console.hub.control().try_send(Control::Reopen) {
            Ok(()) => {
                tracing::info!(console_user = here.user, "{} reopens the tty", here.user);
                here.console
                    .roster()
                    .notify_all(None, &format!("the tty is being reopened by {}", plain(&here.user)));
            }
            Err(_) => here.notify("the port is busy: try again".to_owned()),
        }
    }
}

fn set_modem(here: &Context, modem: Modem) {
    if !require_write(here) {
        return;
    }
    here.spawn_command(move |here| async move {
        let done = match modem {
            Modem::Dtr(on) => set(&here, ModemLine::Dtr, on).await,
            Modem::Rts(on) => set(&here, ModemLine::Rts, on).await,
            Modem::PulseDtr => pulse(&here).await,
        };
        here.notify(done.unwrap_or_else(|why| why));
    });
}

/// Sets a modem line. Returns the notice.
async fn set(here: &Context, line: ModemLine, on: bool) -> Result<String, String> {
    let (told, done) = oneshot::channel();
    let gone = |_| "the port is shutting down".to_owned();
    here.console
        .hub
        .control()
        .send(Control::Set(line, on, told))
        .await
        .map_err(|_| "the port is shutting down".to_owned())?;
    done.await.map_err(gone)??;
    let state = if on { "on" } else { "off" };
    tracing::info!(console_user = here.user, "{} sets {line} {state}", here.user);
    Ok(format!("{line} {state}"))
}

async fn pulse(here: &Context) -> Result<String, String> {
    set(here, ModemLine::Dtr, false).await?;
    tokio::time::sleep(DTR_PULSE_TIME).await;
    set(here, ModemLine::Dtr, true).await?;
    Ok(format!("DTR off for {} ms", DTR_PULSE_TIME.as_millis()))
}

fn search(here: &Context, words: String) {
    let words = words.trim().to_owned();
    if words.is_empty() {
        return here.notify("no search text".to_owned());
    }
    here.spawn_command(|here| async move {
        let log = here.console.settings().log;
        match here.console.log.search(&log, words.clone(), MAX_MATCHES).await {
            Ok(found) => here.notify(matches_text(&words, &found)),
            Err(why) => here.notify(why.to_string()),
        }
    });
}

fn matches_text(words: &str, Found { lines, more }: &Found) -> String {
    let words = plain(words);
    let mut text = match (lines.len(), more) {
        (0, _) => return format!("{words:?}: no matching line in the log"),
        (1, _) => format!("{words:?}: 1 matching line in the log"),
        (many, 0) => format!("{words:?}: {many} matching lines in the log"),
        (many, more) => format!("{words:?}: the last {many} of {} matching lines in the log", many + more),
    };
    for line in lines {
        text.push_str(&format!("\r\n {}", plain(line)));
    }
    text
}
