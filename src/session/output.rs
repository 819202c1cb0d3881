//! The showing half of a session: banner, replay, the device's words as they come, and notices between them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::console::closed;
use super::replay::{presentable, presentable_before_words};
use super::roster::plain;
use super::timestamps::Stamper;
use super::{Answer, Ended, Gone, Here, Outlet};
use crate::config;
use crate::hub::{Cursor, LineState, Pulled};
use crate::port::Mapping;
use crate::system::clock::{clock, reached};

/// Bytes shown at once: one SSH packet.
const READ_CHUNK: usize = 32 * 1024;
/// After so much silence a device has answered all that a pipe has sent.
const QUIET: Duration = Duration::from_secs(5);
/// Bytes that may still be on their way to the device then, in the driver.
const UNDER_WAY: u32 = 4096;

/// Bytes of an unfinished line that are shown again behind words of ours: a prompt and what is typed at it, not binary data that has no lines.
const PROMPT_LIMIT: usize = 512;

/// Runs until the viewer is gone or the port closes its sessions.
pub(super) async fn run<O: Outlet>(
    here: &Here,
    from: (Cursor, Vec<u8>),
    notices: mpsc::Receiver<String>,
    answers: mpsc::Receiver<Answer>,
    outlet: &mut O,
) -> Ended {
    match show(here, from, notices, answers, outlet).await {
        Ok(ended) => ended,
        Err(Gone) => Ended::Gone,
    }
}

async fn show<O: Outlet>(
    here: &Here,
    (mut cursor, replay): (Cursor, Vec<u8>),
    mut notices: mpsc::Receiver<String>,
    mut answers: mpsc::Receiver<Answer>,
    outlet: &mut O,
) -> Result<Ended, Gone> {
    let console = &here.console;
    let mut closing = console.closing();
    let mut line = console.hub.line();
    let mut shown = started(&mut line).await;
    greet(here, &shown, outlet).await?;
    if let Some(why) = here.ends_with(&shown) {
        return Ok(Ended::Closed(why));
    }
    if let LineState::Failed(why) | LineState::NotOurs(why) = &shown {
        if !here.options.watch {
            return Ok(Ended::Closed(why.clone()));
        }
        say(outlet, here.terminal, why).await?;
    }
    let mut settings = console.settings_to_come();
    let mut imap = imap(here, &settings.borrow_and_update());
    if !replay.is_empty() {
        outlet.send(presentable(&imap.apply(replay))).await?;
    }
    let mut stamper: Option<Stamper> = None;
    // Words of ours stand behind a line that the device has not ended.
    let mut prompt_due = false;
    // Once a pipe has been sent: how long the device may be silent, and since when it is.
    let mut quiet: Option<(Duration, Instant)> = None;

    loop {
        // In this order: what we must say is never behind a flood, and the news that the line is gone stands after the
        // last thing that came over it.
        tokio::select! {
            biased;
            why = closed(&mut closing) => return Ok(Ended::Closed(why)),
            Some(answer) = answers.recv() => {
                prompt_due = here.terminal && !matches!(answer, Answer::Echo(_));
                match answer {
                    Answer::Said(text) => say(outlet, here.terminal, &text).await?,
                    Answer::Echo(bytes) => outlet.send(bytes).await?,
                    Answer::Replay(lines) => again(here, lines, cursor.position(), &imap, outlet).await?,
                    Answer::Timestamps => {
                        stamper = stamper.is_none().then(Stamper::default);
                        let now = if stamper.is_some() { "the time before each line" } else { "no time before lines" };
                        say(outlet, here.terminal, now).await?;
                    }
                }
            }
            Some(notice) = notices.recv() => {
                prompt_due = here.terminal;
                say(outlet, here.terminal, &notice).await?;
            }
            // Once all is said that there is to say.
            () = std::future::ready(()), if prompt_due => {
                prompt_due = false;
                unfinished(here, cursor.position(), &imap, outlet).await?;
            }
            () = here.fate.input_ended.notified() => {
                if here.fate.sent.load(Ordering::Relaxed) && !here.terminal {
                    quiet = Some((answer_time(here), Instant::now()));
                } else {
                    // Nothing has reached the device that it could answer, or nobody waits for that; the reason has been shown.
                    return Ok(here.fate.left());
                }
            }
            pulled = cursor.pull(READ_CHUNK) => {
                match pulled {
                    Pulled::Bytes(bytes) => {
                        let bytes = imap.apply(bytes);
                        outlet.send(match &mut stamper {
                            Some(stamper) => stamper.stamp(&bytes, &clock(jiff::Timestamp::now())),
                            None => bytes,
                        }).await?;
                    }
                    Pulled::Skipped(count) => {
                        say(outlet, here.terminal, &format!("{count} bytes skipped; see the log")).await?;
                    }
                }
                quiet = quiet.map(|(patience, _)| (patience, Instant::now()));
            }
            // The console holds the sender for as long as there are sessions.
            Ok(()) = settings.changed() => imap = self::imap(here, &settings.borrow_and_update()),
            () = reached(quiet.map(|(patience, since)| since + patience)) => return Ok(here.fate.left()),
            _ = line.changed() => {
                let now = line.borrow_and_update().clone();
                if let Some(why) = here.ends_with(&now) {
                    return Ok(Ended::Closed(why));
                }
                if let Some(news) = news(here, &shown, &now) {
                    say(outlet, here.terminal, &news).await?;
                    // Otherwise the device that began the line is gone.
                    let stays = matches!((&shown, &now), (LineState::Open(_), LineState::Open(_)));
                    prompt_due = here.terminal && stays;
                }
                shown = now;
            }
        }
    }
}

/// How long a device may be silent before it has said its last: what is under way takes its time on a slow line.
fn answer_time(here: &Here) -> Duration {
    let bits = 10 * UNDER_WAY;
    QUIET + Duration::from_secs_f64(f64::from(bits) / f64::from(here.console.settings().line.baud.get()))
}

/// What a viewer's terminal is shown instead of some characters. Without a terminal the bytes stay as they are.
fn imap(here: &Here, settings: &config::Port) -> Mapping {
    if here.terminal { settings.imap.clone() } else { Mapping::default() }
}

/// Shows the last lines once more, up to where this session stands.
async fn again<O: Outlet>(
    here: &Here,
    lines: usize,
    upto: u64,
    imap: &Mapping,
    outlet: &mut O,
) -> Result<(), Gone> {
    let (mut said, head) = here.console.hub.last_words(lines);
    let ahead = usize::try_from(head.saturating_sub(upto)).unwrap_or(usize::MAX);
    said.truncate(said.len().saturating_sub(ahead));
    say(outlet, here.terminal, if lines == 1 { "the last line" } else { "the last lines" }).await?;
    outlet.send(presentable_before_words(&imap.apply(said))).await?;
    say(outlet, here.terminal, "that was it").await
}

/// Shows the line again that the device has not ended: a prompt that a person, or a program, is waiting for, and that is not the last any more.
async fn unfinished<O: Outlet>(here: &Here, upto: u64, imap: &Mapping, outlet: &mut O) -> Result<(), Gone> {
    let (mut line, head) = here.console.hub.last_words(1);
    let ahead = usize::try_from(head.saturating_sub(upto)).unwrap_or(usize::MAX);
    line.truncate(line.len().saturating_sub(ahead));
    if line.is_empty() || line.ends_with(b"\n") || line.len() > PROMPT_LIMIT {
        return Ok(());
    }
    outlet.send(presentable(&imap.apply(line))).await
}

/// Waits until the device was tried.
async fn started(line: &mut watch::Receiver<LineState>) -> LineState {
    match line.wait_for(|state| *state != LineState::Starting).await {
        Ok(state) => state.clone(),
        Err(_) => LineState::Failed("the port is gone".to_owned()),
    }
}

async fn greet<O: Outlet>(here: &Here, line: &LineState, outlet: &mut O) -> Result<(), Gone> {
    for words in greeting(here, line) {
        say(outlet, here.terminal, &words).await?;
    }
    Ok(())
}

fn greeting(here: &Here, line: &LineState) -> Vec<String> {
    let console = &here.console;
    let name = &console.name();
    let settings = console.settings();
    let escape = here.prefix(&settings).map(|prefix| prefix.to_string());
    let mut words = Vec::new();
    words.extend(console.news().filter(|_| here.terminal));
    if here.terminal {
        let label = match settings.description.as_str() {
            "" => String::new(),
            description => format!(" ({description})"),
        };
        let help = escape.as_ref().map(|escape| format!("; {escape}? for help")).unwrap_or_default();
        words.push(format!("{name}{label} {}{help}", settings.line));
    }
    match (line, here.ends_with(line)) {
        (LineState::Away(_), None) => words.push(format!("{name} is not plugged in: waiting for it")),
        (LineState::Disconnected(_, why), None) => {
            words.push(format!("{name} is not connected ({why}): waiting for it"));
        }
        _ => {}
    }
    let roster = console.roster();
    if let Some(writer) = roster.writer().filter(|_| !roster.writes(here.id) && !here.options.watch) {
        let how = escape.map(|escape| format!("; {escape}f to take over")).unwrap_or_default();
        words.push(format!("{} writes; you are watching{how}", writer.client));
    }
    let watchers = roster.members().filter(|(id, member)| *id != here.id && !member.writes);
    let watchers: Vec<String> = watchers.map(|(_, member)| member.client.to_string()).collect();
    if here.terminal && !watchers.is_empty() {
        words.push(format!("also watching: {}", watchers.join(", ")));
    }
    words
}

/// What a viewer is told of a change.
fn news(here: &Here, before: &LineState, now: &LineState) -> Option<String> {
    let name = &here.console.name();
    match (before, now) {
        (LineState::Open(_), LineState::Away(at)) => Some(format!("{name} unplugged {}", clock(*at))),
        (LineState::Open(_), LineState::Disconnected(at, why)) => {
            Some(format!("{name} disconnected {}: {why}", clock(*at)))
        }
        (LineState::Open(old), LineState::Open(new)) if old != new => Some(format!("{name} is set to {new}")),
        (LineState::Open(_), LineState::Open(_)) => None,
        (LineState::Disconnected(..), LineState::Open(_)) => {
            Some(format!("{name} connected again {}", clock(jiff::Timestamp::now())))
        }
        (_, LineState::Open(_)) => Some(format!("{name} back {}", clock(jiff::Timestamp::now()))),
        (_, LineState::Failed(why) | LineState::NotOurs(why)) => Some(why.clone()),
        _ => None,
    }
}

/// Says something of ours: in brackets on a line of its own, or beside the bytes. Whoever has put names into it has made them
/// [`plain`], so that they forge no line; here, once more, whatever a terminal obeys goes.
pub async fn say<O: Outlet>(outlet: &mut O, terminal: bool, text: &str) -> Result<(), Gone> {
    let text: Vec<String> = text.split("\r\n").map(plain).collect();
    let text = text.join("\r\n");
    if terminal {
        outlet.send(format!("\r\n[{text}]\r\n").into_bytes()).await
    } else {
        outlet.aside(format!("[{text}]\n")).await
    }
}
