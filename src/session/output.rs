//! The output loop of a session: banner, replay, device output, and notices in between.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::console::closed;
use super::replay::{presentable, presentable_before_words};
use super::roster::plain;
use super::timestamps::Timestamper;
use super::{Context, Gone, Outlet, Reply, SessionEnd};
use crate::config;
use crate::hub::{Cursor, LineState, Pulled};
use crate::port::Mapping;
use crate::system::clock::{clock, reached};

/// Bytes sent at once: one SSH packet.
const READ_CHUNK: usize = 32 * 1024;
/// After this much silence a device is taken to have answered all input of a pipe.
const QUIET_TIME: Duration = Duration::from_secs(5);
/// Bytes that the driver may still have to send then.
const DRIVER_QUEUE_BYTES: u32 = 4096;

/// Longest unfinished line that is printed again after a notice: a prompt and a command, not binary data without lines.
const PROMPT_LIMIT: usize = 512;

/// Runs until the client disconnects or the port closes its sessions.
pub(super) async fn run<O: Outlet>(
    here: &Context,
    from: (Cursor, Vec<u8>),
    notices: mpsc::Receiver<String>,
    answers: mpsc::Receiver<Reply>,
    outlet: &mut O,
) -> SessionEnd {
    match show(here, from, notices, answers, outlet).await {
        Ok(ended) => ended,
        Err(Gone) => SessionEnd::Gone,
    }
}

async fn show<O: Outlet>(
    here: &Context,
    (mut cursor, replay): (Cursor, Vec<u8>),
    mut notices: mpsc::Receiver<String>,
    mut answers: mpsc::Receiver<Reply>,
    outlet: &mut O,
) -> Result<SessionEnd, Gone> {
    let console = &here.console;
    let mut closing = console.closing();
    let mut line = console.hub.line();
    let mut shown = wait_for_open(&mut line).await;
    show_banner(here, &shown, outlet).await?;
    if let Some(why) = here.ends_with_device(&shown) {
        return Ok(SessionEnd::Closed(why));
    }
    if let LineState::Failed(why) | LineState::NotOurs(why) = &shown {
        if !here.options.watch {
            return Ok(SessionEnd::Closed(why.clone()));
        }
        notify(outlet, here.terminal, why).await?;
    }
    let mut settings = console.watch_settings();
    let mut imap = imap(here, &settings.borrow_and_update());
    if !replay.is_empty() {
        outlet.send(presentable(&imap.apply(replay))).await?;
    }
    let mut stamper: Option<Timestamper> = None;
    // A notice was printed after a line that the device has not ended.
    let mut prompt_due = false;
    // After all input of a pipe was sent: how long the device may be silent, and since when it is.
    let mut quiet: Option<(Duration, Instant)> = None;

    loop {
        // In this order: notices do not wait behind a flood, and the notice that the device was unplugged follows its last output.
        tokio::select! {
            biased;
            why = closed(&mut closing) => return Ok(SessionEnd::Closed(why)),
            Some(answer) = answers.recv() => {
                prompt_due = here.terminal && !matches!(answer, Reply::Echo(_));
                match answer {
                    Reply::Notice(text) => notify(outlet, here.terminal, &text).await?,
                    Reply::Echo(bytes) => outlet.send(bytes).await?,
                    Reply::Replay(lines) => replay_lines(here, lines, cursor.position(), &imap, outlet).await?,
                    Reply::Timestamps => {
                        stamper = stamper.is_none().then(Timestamper::default);
                        let state = if stamper.is_some() { "timestamps on" } else { "timestamps off" };
                        notify(outlet, here.terminal, state).await?;
                    }
                }
            }
            Some(notice) = notices.recv() => {
                prompt_due = here.terminal;
                notify(outlet, here.terminal, &notice).await?;
            }
            // After all notices.
            () = std::future::ready(()), if prompt_due => {
                prompt_due = false;
                repeat_prompt(here, cursor.position(), &imap, outlet).await?;
            }
            () = here.input_outcome.input_ended.notified() => {
                if here.input_outcome.sent.load(Ordering::Relaxed) && !here.terminal {
                    quiet = Some((quiet_time(here), Instant::now()));
                } else {
                    // The device received nothing that it could answer, or no client waits for that; the reason was printed.
                    return Ok(here.input_outcome.session_end());
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
                        notify(outlet, here.terminal, &format!("{count} bytes skipped; see the log")).await?;
                    }
                }
                quiet = quiet.map(|(time, _)| (time, Instant::now()));
            }
            // The console owns the sender, and outlives its sessions.
            Ok(()) = settings.changed() => imap = self::imap(here, &settings.borrow_and_update()),
            () = reached(quiet.map(|(time, since)| since + time)) => return Ok(here.input_outcome.session_end()),
            _ = line.changed() => {
                let now = line.borrow_and_update().clone();
                if let Some(why) = here.ends_with_device(&now) {
                    return Ok(SessionEnd::Closed(why));
                }
                if let Some(notice) = device_notice(here, &shown, &now) {
                    notify(outlet, here.terminal, &notice).await?;
                    // Otherwise the device that printed the line is gone.
                    let stays = matches!((&shown, &now), (LineState::Open(_), LineState::Open(_)));
                    prompt_due = here.terminal && stays;
                }
                shown = now;
            }
        }
    }
}

/// How long a device must be silent: the bytes in the driver take longer on a slow line.
fn quiet_time(here: &Context) -> Duration {
    let bits = 10 * DRIVER_QUEUE_BYTES;
    QUIET_TIME + Duration::from_secs_f64(f64::from(bits) / f64::from(here.console.settings().line.baud.get()))
}

/// Without a terminal no byte is mapped.
fn imap(here: &Context, settings: &config::Port) -> Mapping {
    if here.terminal { settings.imap.clone() } else { Mapping::default() }
}

/// The last lines, up to this session's position.
fn last_lines(here: &Context, lines: usize, upto: u64) -> Vec<u8> {
    let (mut text, head) = here.console.hub.last_words(lines);
    let ahead = usize::try_from(head.saturating_sub(upto)).unwrap_or(usize::MAX);
    text.truncate(text.len().saturating_sub(ahead));
    text
}

/// Replays the last lines, up to this session's position.
async fn replay_lines<O: Outlet>(
    here: &Context,
    lines: usize,
    upto: u64,
    imap: &Mapping,
    outlet: &mut O,
) -> Result<(), Gone> {
    let text = last_lines(here, lines, upto);
    let title = match lines {
        1 => "replay of the last line".to_owned(),
        lines => format!("replay of the last {lines} lines"),
    };
    notify(outlet, here.terminal, &title).await?;
    outlet.send(presentable_before_words(&imap.apply(text))).await?;
    notify(outlet, here.terminal, "end of replay").await
}

/// Prints the line again that the device has not ended: the prompt, which a user or a program expects as the last output.
async fn repeat_prompt<O: Outlet>(
    here: &Context,
    upto: u64,
    imap: &Mapping,
    outlet: &mut O,
) -> Result<(), Gone> {
    let line = last_lines(here, 1, upto);
    if line.is_empty() || line.ends_with(b"\n") || line.len() > PROMPT_LIMIT {
        return Ok(());
    }
    outlet.send(presentable(&imap.apply(line))).await
}

/// Waits until the port has tried to open the device.
async fn wait_for_open(line: &mut watch::Receiver<LineState>) -> LineState {
    match line.wait_for(|state| *state != LineState::Starting).await {
        Ok(state) => state.clone(),
        Err(_) => LineState::Failed("the port is shutting down".to_owned()),
    }
}

async fn show_banner<O: Outlet>(here: &Context, line: &LineState, outlet: &mut O) -> Result<(), Gone> {
    for notice in banner(here, line) {
        notify(outlet, here.terminal, &notice).await?;
    }
    Ok(())
}

fn banner(here: &Context, line: &LineState) -> Vec<String> {
    let console = &here.console;
    let name = &console.name();
    let settings = console.settings();
    let escape = here.prefix(&settings).map(|prefix| prefix.to_string());
    let mut notices = Vec::new();
    notices.extend(console.restart_notice().filter(|_| here.terminal));
    if here.terminal {
        let label = match settings.description.as_str() {
            "" => String::new(),
            description => format!(" ({description})"),
        };
        let help = escape.as_ref().map(|escape| format!("; {escape}? for help")).unwrap_or_default();
        notices.push(format!("{name}{label} {}{help}", settings.line));
    }
    match (line, here.ends_with_device(line)) {
        (LineState::Away(_), None) => {
            notices.push(format!("{name} is not plugged in; waiting for the device"))
        }
        (LineState::Disconnected(_, why) | LineState::OnTrial(_, why, _), None) => {
            notices.push(format!("{name} is disconnected ({why}); waiting for the connection"));
        }
        _ => {}
    }
    let roster = console.roster();
    if let Some(writer) = roster.writer().filter(|_| !roster.writes(here.id) && !here.options.watch) {
        let how = escape.map(|escape| format!("; {escape}f to take over")).unwrap_or_default();
        notices.push(format!("{} has write access; you are read-only{how}", writer.client));
    }
    let others = roster.sessions().filter(|(id, member)| *id != here.id && !member.writes);
    let others: Vec<String> = others.map(|(_, member)| member.client.to_string()).collect();
    if here.terminal && !others.is_empty() {
        notices.push(format!("also attached, read-only: {}", others.join(", ")));
    }
    notices
}

/// The notice about a change of the device's state.
fn device_notice(here: &Context, before: &LineState, now: &LineState) -> Option<String> {
    let name = &here.console.name();
    match (before, now) {
        (LineState::Open(_), LineState::Away(at)) => Some(format!("{name} unplugged {}", clock(*at))),
        (LineState::Open(_), LineState::Disconnected(at, why) | LineState::OnTrial(at, why, _)) => {
            Some(format!("{name} disconnected {}: {why}", clock(*at)))
        }
        (LineState::Open(old), LineState::Open(new)) if old != new => {
            Some(format!("{name} is now set to {new}"))
        }
        (LineState::Open(_), LineState::Open(_)) => None,
        (_, LineState::Open(_)) => Some(format!("{name} reconnected {}", clock(jiff::Timestamp::now()))),
        (_, LineState::Failed(why) | LineState::NotOurs(why)) => Some(why.clone()),
        _ => None,
    }
}

/// Prints a notice: in brackets on a line of its own, or on the second stream. The caller has made the names in it [`plain`], so that they
/// cannot forge a line; control characters are removed here once more.
pub async fn notify<O: Outlet>(outlet: &mut O, terminal: bool, text: &str) -> Result<(), Gone> {
    let text: Vec<String> = text.split("\r\n").map(plain).collect();
    let text = text.join("\r\n");
    if terminal {
        outlet.send(format!("\r\n[{text}]\r\n").into_bytes()).await
    } else {
        outlet.notice(format!("[{text}]\n")).await
    }
}
