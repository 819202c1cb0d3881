//! Runs the escape commands: conserver's, by conserver's letters, and our own. Their output goes only to the session that ran them.

use std::time::Duration;

use tokio::sync::oneshot;

use super::escape::{Action, Modem, Prompt};
use super::info::facts;
use super::roster::{Busy, plain};
use super::{Answer, Here};
use crate::capture::Found;
use crate::config::EscapePrefix;
use crate::hub::{self, Condition, Control, Input};
use crate::port::PortName;
use crate::port::nearest::no_port;
use crate::serial::ModemLine;
use crate::system::clock::clock;

/// A break's length. (RFC 4335 lets the client say one.)
const BREAK_DURATION: Duration = Duration::from_millis(hub::DEFAULT_BREAK_MS as u64);
/// By so much each of `l1` to `l9` is longer than the one before.
const LONGER: Duration = Duration::from_millis(250);
/// DTR off: long enough for a modem to hang up and a board to reset.
const DTR_PULSE: Duration = Duration::from_millis(500);
/// Lines of the log that a search shows: a page of a terminal.
const MAX_MATCHES: usize = 20;

/// What a command comes to.
pub(super) enum Outcome {
    /// This goes to the device.
    Input(Input),
    /// It is done, or under way.
    Done,
    /// The session ends.
    Leave,
    /// The rest of the word that is being entered.
    Complete(String),
    /// The session ends, and its viewer goes to another console.
    Move(PortName),
}

/// A break of SSH's own kind, or `l0`.
pub(super) fn break_of(here: &Here, longer: u8) -> Input {
    break_of_length(here, BREAK_DURATION + LONGER * longer.into())
}

pub(super) fn break_of_length(here: &Here, length: Duration) -> Input {
    here.console.hub.break_of(length, here.user.clone(), here.breaks.clone())
}

/// Does what an action asks for.
pub(super) async fn act(here: &Here, prefix: Option<EscapePrefix>, action: Action) -> Outcome {
    let console = &here.console;
    match action {
        Action::Type(bytes) => return Outcome::Input(Input::Bytes(bytes)),
        Action::Break(longer) => return Outcome::Input(break_of(here, longer)),
        Action::Leave => return Outcome::Leave,
        Action::Line(Prompt::Another, name) => return another(here, &name).await,
        Action::Complete(_, begun) => return complete(here, &begun).await,
        Action::Nothing => {}
        Action::Help => here.say(help(here, prefix)),
        Action::Breaks => here.say(breaks(prefix)),
        Action::Attach => {
            let taken = console.roster().attach(here.id);
            becomes_writer(here, taken, &format!("; {}f takes over", shown(prefix)), "writes now");
        }
        Action::Force => take_over(here),
        Action::Spy => {
            console.roster().spy(here.id);
            here.say("you are watching".to_owned());
        }
        Action::Who => here.say(who(here)),
        Action::Version => here.say(format!("consoleserver {}", env!("CARGO_PKG_VERSION"))),
        Action::Information => information(here),
        Action::Replay(lines) => here.tell(Answer::Replay(lines)),
        Action::Timestamps => here.tell(Answer::Timestamps),
        Action::Reopen => reopen(here),
        Action::Modem(modem) => set_modem(here, modem),
        Action::Ask(asked) => here.tell(Answer::Echo(format!("\r\n[{}: ", question(asked)).into_bytes())),
        Action::Echo(bytes) => here.tell(Answer::Echo(bytes)),
        Action::Line(Prompt::Message, text) => message(here, &text),
        Action::Line(Prompt::Search, words) => search(here, words),
        Action::Unknown(characters) => {
            let name = shown(prefix);
            here.say(format!("{name}{characters} is not a command; {name}? lists them"));
        }
    }
    Outcome::Done
}

/// Makes this session the one writer.
pub(super) fn take_over(here: &Here) {
    let taken = here.console.roster().force(here.id);
    becomes_writer(here, taken, "", "has taken over");
}

/// Tells this session, and the log, what came of asking to write.
fn becomes_writer(here: &Here, taken: Result<(), Busy>, how: &str, news: &str) {
    match taken {
        Ok(()) => {
            here.console.hub.note(format!("{} {news}", plain(&here.user)));
            here.say("you write".to_owned());
        }
        Err(Busy::MayWatch) => here.say(Busy::MayWatch.to_string()),
        Err(written) => here.say(format!("{written}{how}")),
    }
}

fn shown(prefix: Option<EscapePrefix>) -> String {
    prefix.map(|prefix| prefix.to_string()).unwrap_or_default()
}

fn question(asked: Prompt) -> &'static str {
    match asked {
        Prompt::Another => "which console",
        Prompt::Message => "message to the others",
        Prompt::Search => "look in the log for",
    }
}

fn help(here: &Here, prefix: Option<EscapePrefix>) -> String {
    let name = shown(prefix);
    let another = match here.moves {
        true => "go to another console; Return lists them, Tab completes",
        false => "how to reach another console (SSH cannot go there by itself)",
    };
    let commands = [
        (".", "leave"),
        (";", another),
        ("a", "write, if nobody does"),
        ("f", "write, taking over from whoever does"),
        ("s", "watch only"),
        ("b", "a message to the others"),
        ("w u", "who is here"),
        ("l0", "send a break; l1 to l9: longer ones; l?: how long"),
        ("r p ^R", "the last 20, 60 lines, the last line again"),
        ("/", "look in the log"),
        ("t", "the time before each line, or no longer"),
        ("i", "settings, counters, modem lines"),
        ("o", "open the line anew"),
        ("Mp", "DTR off and on; Md MD: off, on; Mr MR: RTS off, on"),
        ("\\ooo", "the character of this octal number"),
        ("v", "the version"),
        ("?", "this list"),
        ("return", "nothing"),
    ];
    let mut text = "commands".to_owned();
    for (keys, meaning) in commands {
        text.push_str(&format!("\r\n {name} {keys:<7} {meaning}"));
    }
    text.push_str(match here.moves {
        true => "\r\n files (sz, rz, sx): consolectl connect --escape none, or with pipes",
        false => "\r\n files (sz, rz, sx): ssh -T, or ssh -t -e none HOST connect --escape none",
    });
    text
}

fn breaks(prefix: Option<EscapePrefix>) -> String {
    let mut text = "breaks".to_owned();
    for longer in 0..=9u8 {
        let length = BREAK_DURATION + LONGER * longer.into();
        text.push_str(&format!("\r\n {}l{longer} {} ms", shown(prefix), length.as_millis()));
    }
    text
}

fn who(here: &Here) -> String {
    let mut text = format!("{} here", here.console.name());
    for (id, member) in here.console.roster().members() {
        let role = if member.writes { "writing " } else { "watching" };
        let you = if id == here.id { " (you)" } else { "" };
        text.push_str(&format!("\r\n {role} since {} {}{you}", clock(member.since), member.client));
    }
    text
}

fn message(here: &Here, text: &str) {
    let text = plain(text.trim());
    if text.is_empty() {
        return here.say("no message".to_owned());
    }
    let mut roster = here.console.roster();
    let Some((_, me)) = roster.members().find(|(id, _)| *id == here.id) else { return };
    let news = format!("{}: {text}", me.client);
    roster.tell_all(Some(here.id), &news);
    let others = roster.members().count() - 1;
    drop(roster);
    here.say(match others {
        0 => "nobody else is here".to_owned(),
        1 => "told 1 other".to_owned(),
        many => format!("told {many} others"),
    });
}

async fn another(here: &Here, name: &str) -> Outcome {
    let neighbours = here.console.neighbours().await;
    let Ok(name) = name.trim().parse::<PortName>() else {
        here.say(consoles(here, "consoles", neighbours.iter()));
        return Outcome::Done;
    };
    match neighbours.iter().find(|(port, _)| *port == name).cloned() {
        None => here.say(no_port(name.as_str(), neighbours.iter().map(|(port, _)| port))),
        Some((port, _)) if here.moves => return Outcome::Move(port),
        Some((port, Some(tcp))) => here.say(format!(
            "{port} is at TCP port {tcp}, where SSH does not go by itself: {}",
            ssh_command(here, tcp)
        )),
        Some((port, None)) => here.say(format!("{port} has no TCP port: consolectl connect {port}")),
    }
    Outcome::Done
}

fn consoles<'n>(
    here: &Here,
    title: &str,
    neighbours: impl Iterator<Item = &'n (PortName, Option<u16>)>,
) -> String {
    let mut text = title.to_owned();
    for (port, tcp) in neighbours {
        let place = match tcp {
            _ if *port == here.console.name() => "you are here".to_owned(),
            Some(tcp) if here.moves => format!("TCP port {tcp}"),
            Some(tcp) => format!("TCP port {tcp}: {}", ssh_command(here, *tcp)),
            None => "no TCP port".to_owned(),
        };
        text.push_str(&format!("\r\n {:<16} {place}", port.as_str()));
    }
    text
}

/// What the viewer types elsewhere.
fn ssh_command(here: &Here, tcp: u16) -> String {
    match here.reached_at {
        Some(host) => format!("ssh -p {tcp} -l {} {host}", quoted(&here.user)),
        None => format!("ssh -p {tcp}"),
    }
}

/// As a shell takes it. (Names of a Windows domain have a backslash.)
fn quoted(user: &str) -> String {
    let user = plain(user);
    shlex::try_quote(&user).map_or_else(|_| user.clone(), |quoted| quoted.into_owned())
}

/// The rest of a console's name, as far as what is entered decides it; if it does not, the names that there are.
async fn complete(here: &Here, begun: &str) -> Outcome {
    let neighbours = here.console.neighbours().await;
    let fit = || neighbours.iter().filter(|(port, _)| port.as_str().starts_with(begun));
    let names: Vec<&str> = fit().map(|(port, _)| port.as_str()).collect();
    let rest = names.first().map_or("", |first| &first[begun.len()..common(&names)]);
    if !rest.is_empty() {
        return Outcome::Complete(rest.to_owned());
    }
    if names.len() != 1 {
        here.say(match names.len() {
            0 => no_port(&plain(begun), neighbours.iter().map(|(port, _)| port)),
            _ => consoles(here, "consoles", fit()),
        });
        here.tell(Answer::Echo(format!("\r\n[{}: {begun}", question(Prompt::Another)).into_bytes()));
    }
    Outcome::Done
}

/// How many bytes the names have in common from the beginning. (They are ASCII.)
fn common(names: &[&str]) -> usize {
    let Some((first, others)) = names.split_first() else { return 0 };
    let shared = |other: &&str| first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    others.iter().map(shared).min().unwrap_or(first.len())
}

fn information(here: &Here) {
    here.errand(|here| async move {
        let condition = here.console.hub.examine().await;
        here.say(describe(&here, &condition));
    });
}

fn describe(here: &Here, condition: &Condition) -> String {
    let description = here.console.settings().description;
    let mut text = match description.as_str() {
        "" => here.console.name().to_string(),
        description => format!("{}: {}", here.console.name(), plain(description)),
    };
    for (what, value) in facts(&here.console, condition) {
        text.push_str(&format!("\r\n {what:<8} {value}"));
    }
    text
}

/// Whether this session may do something to the line; it is told if not.
fn may_handle(here: &Here) -> bool {
    let writes = here.console.roster().writes(here.id);
    if !writes {
        here.say("you are watching: only who writes may do that".to_owned());
    }
    writes
}

fn reopen(here: &Here) {
    if may_handle(here) {
        match here.console.hub.control().try_send(Control::Reopen) {
            Ok(()) => {
                tracing::info!(console_user = here.user, "{} opens the line anew", here.user);
                here.console
                    .roster()
                    .tell_all(None, &format!("the line is opened anew by {}", plain(&here.user)));
            }
            Err(_) => here.say("the line is busy: try again".to_owned()),
        }
    }
}

fn set_modem(here: &Here, modem: Modem) {
    if !may_handle(here) {
        return;
    }
    here.errand(move |here| async move {
        let done = match modem {
            Modem::Dtr(on) => set(&here, ModemLine::Dtr, on).await,
            Modem::Rts(on) => set(&here, ModemLine::Rts, on).await,
            Modem::PulseDtr => pulse(&here).await,
        };
        here.say(done.unwrap_or_else(|why| why));
    });
}

/// Sets a modem line; what the viewer is told.
async fn set(here: &Here, line: ModemLine, on: bool) -> Result<String, String> {
    let (told, done) = oneshot::channel();
    let gone = |_| "the port is gone".to_owned();
    here.console
        .hub
        .control()
        .send(Control::Set(line, on, told))
        .await
        .map_err(|_| "the port is gone".to_owned())?;
    done.await.map_err(gone)??;
    let state = if on { "on" } else { "off" };
    tracing::info!(console_user = here.user, "{} sets {line} {state}", here.user);
    Ok(format!("{line} {state}"))
}

async fn pulse(here: &Here) -> Result<String, String> {
    set(here, ModemLine::Dtr, false).await?;
    tokio::time::sleep(DTR_PULSE).await;
    set(here, ModemLine::Dtr, true).await?;
    Ok(format!("DTR off for {} ms", DTR_PULSE.as_millis()))
}

fn search(here: &Here, words: String) {
    let words = words.trim().to_owned();
    if words.is_empty() {
        return here.say("nothing to look for".to_owned());
    }
    here.errand(|here| async move {
        let log = here.console.settings().log;
        match here.console.log.search(&log, words.clone(), MAX_MATCHES).await {
            Ok(found) => here.say(list(&words, &found)),
            Err(why) => here.say(why.to_string()),
        }
    });
}

fn list(words: &str, Found { lines, more }: &Found) -> String {
    let words = plain(words);
    let mut text = match (lines.len(), more) {
        (0, _) => return format!("{words:?} is not in the log"),
        (1, _) => format!("{words:?} in the log, 1 line"),
        (many, 0) => format!("{words:?} in the log, {many} lines"),
        (many, more) => format!("{words:?} in the log, the last {many} of {} lines", many + more),
    };
    for line in lines {
        text.push_str(&format!("\r\n {}", plain(line)));
    }
    text
}
