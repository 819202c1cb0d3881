//! Checks the log of a port: free disk space, timestamps, and whether the output is text.

use std::path::Path;

use jiff::Timestamp;
use nix::libc;

use super::device::PORT_USER;
use super::finding::{Finding, Subject};
use crate::cli::bounded::{NoAnswer, Space};

/// Minimum free space of a disk: in percent, and in bytes, the size at which a log is rotated.
const FREE_PERCENT: u64 = 5;
const FREE_BYTES: u64 = 16 * 1024 * 1024;
/// Seconds by which the clock may be set back without a finding, as NTP does.
const CLOCK_JUMP_SECONDS: i64 = 60;
/// Fewer characters are not enough to judge the line rate.
const MIN_SAMPLE: usize = 100;

pub(super) fn disk(
    directory: &Path,
    space: &Result<Option<Space>, NoAnswer>,
    subject: &Subject<'_>,
) -> Option<Finding> {
    let Space { size, free } = match space {
        Ok(space) => (*space)?,
        Err(NoAnswer::Timeout(limit)) => {
            let problem = format!(
                "the disk of its log hangs: {} did not respond within {limit:?}",
                directory.display()
            );
            return Some(subject.finding(problem, "see dmesg; findmnt -T shows the disk or server"));
        }
        Err(NoAnswer::Failed(_)) => return None,
    };
    let percent = free * 100 / size.max(1);
    (percent < FREE_PERCENT || free < FREE_BYTES.min(size / 2)).then(|| {
        let problem =
            format!("the disk of its log is nearly full: {} MB of {} MB free", free >> 20, size >> 20);
        subject.finding(
            problem,
            format!(
                "du -sh {}/*; /usr/lib/consoleserver/logrotate.conf sets how long logs are kept",
                directory.display()
            ),
        )
    })
}

/// The fix of a log that the port cannot open or write, by the error in its STATUS= ([`crate::capture::CaptureError`], `man errno`).
pub(super) fn fix_of_failure(failure: &str) -> String {
    let (path, mode) = match failure.split_once("the log ") {
        Some((_, rest)) => {
            let (rest, mode) = rest.strip_prefix("directory ").map_or((rest, 640), |rest| (rest, 750));
            let end =
                [": ", " is ", " does not ", " cannot "].iter().filter_map(|after| rest.find(after)).min();
            (&rest[..end.unwrap_or(rest.len())], mode)
        }
        None => ("", 0),
    };
    let path = shlex::try_quote(path).unwrap_or_default();
    let has = |number: i32| failure.contains(&format!("(os error {number})"));
    let says_it = ["symbolic link", "not a regular file", "not a directory", "console-logs.service"];
    let fix = if says_it.iter().any(|text| failure.contains(text)) {
        String::new()
    } else if has(libc::EACCES) {
        format!("chown {PORT_USER}:adm {path}; chmod {mode} {path}\n")
    } else if has(libc::EPERM) {
        format!("lsattr -d {path} shows whether it may be changed; then: chattr -ia {path}\n")
    } else if has(libc::ENOSPC) || has(libc::EDQUOT) {
        format!(
            "df -h {path}; df -i {path}; /usr/lib/consoleserver/logrotate.conf sets how long logs are kept\n"
        )
    } else if has(libc::EFBIG) {
        format!(
            "mv {path} {path}.1: the port begins a new file\n\
             the limit is LimitFSIZE= of its unit (systemctl show), or that of the file system (FAT: 4 GB)\n"
        )
    } else {
        format!("findmnt -T {path} shows the disk or server; see dmesg\n")
    };
    format!("{fix}until then, output is kept in memory, which is limited")
}

/// Checks the last lines of a text log.
pub(super) fn check(sample: &str, now: Timestamp, subject: &Subject<'_>) -> Vec<Finding> {
    clock(sample, now, subject).into_iter().chain(rate(sample, subject)).collect()
}

fn records(sample: &str) -> impl Iterator<Item = (Timestamp, &str)> {
    sample.lines().filter_map(|line| {
        let (time, rest) = line.split_once(' ')?;
        Some((time.parse().ok()?, rest))
    })
}

fn clock(sample: &str, now: Timestamp, subject: &Subject<'_>) -> Option<Finding> {
    let fix = "timedatectl shows whether NTP is active; \
                a machine without a battery-backed clock starts with a time in the past";
    let times: Vec<Timestamp> = records(sample).map(|(time, _)| time).collect();
    let back = times.windows(2).find(|pair| (pair[0] - pair[1]).get_seconds() > CLOCK_JUMP_SECONDS);
    if let Some(pair) = back {
        let problem = format!(
            "the clock was set back while logging, from {} to {}: earlier timestamps are wrong",
            pair[0], pair[1]
        );
        return Some(subject.finding(problem, fix));
    }
    let last = times.last().filter(|last| (**last - now).get_seconds() > CLOCK_JUMP_SECONDS)?;
    Some(subject.finding(
        format!("the last timestamp of its log, {last}, is in the future: the clock was set back to {now}"),
        fix,
    ))
}

/// With a wrong line rate, most bytes are not text.
fn rate(sample: &str, subject: &Subject<'_>) -> Option<Finding> {
    let (mut all, mut strange) = (0, 0);
    for (_, record) in records(sample) {
        let Some(text) = record.strip_prefix("< ").or_else(|| record.strip_prefix("<+")) else { continue };
        let escapes = text.matches("\\x").count() + text.matches("\\u{").count();
        all += text.chars().count().saturating_sub(3 * escapes);
        // Escape sequences for colours and cursor movement are not noise.
        strange += escapes - text.matches("\\x1b[").count();
    }
    (all >= MIN_SAMPLE && strange * 4 > all).then(|| {
        let name = subject.name;
        let problem = format!("its output is not text: check the line settings, {}", subject.settings.line);
        let fix = format!(
            "while the device sends output: consolectl autobaud {name}\n\
             if the settings are right and the output is binary: consolectl logtype {name} both"
        );
        subject.finding(problem, fix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::tests::subject;

    fn found(sample: &str) -> String {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        subject(|subject| check(sample, now, subject).into_iter().map(|finding| finding.problem).collect())
    }

    #[test]
    fn a_text_log_with_ascending_timestamps_is_no_finding() {
        let boot = "2026-11-24T11:59:00.000+00:00 # demo opened, 9600 8N1\n\
                    2026-11-24T11:59:01.000+00:00 < \\x1b[32mOK\\x1b[0m Started everything that a machine of this kind wants\n\
                    2026-11-24T11:59:02.000+00:00 <+and more text, of which there is enough to say something of its rate here\n\
                    2026-11-24T11:58:59.000+00:00 < a second that NTP took back\n";
        assert_eq!(found(boot), "");
        assert_eq!(found(""), "");
        assert_eq!(found("no record"), "");
    }

    #[test]
    fn the_fix_of_a_log_that_cannot_be_written_is_that_of_the_error() {
        for (failure, fix) in [
            (
                "cannot open the log /l/console.log: Permission denied (os error 13)",
                "chown _console-port:adm /l/console.log; chmod 640 /l/console.log\n",
            ),
            ("cannot open the log /l/a b: Operation not permitted (os error 1)", "chattr -ia '/l/a b'\n"),
            ("cannot write the log /l/c: No space left on device (os error 28)", "df -h /l/c; df -i /l/c;"),
            ("the log directory /l/c does not exist", "findmnt -T /l/c shows"),
            (
                "the log directory /l/c cannot be opened: Permission denied (os error 13)",
                "chown _console-port:adm /l/c; chmod 750 /l/c\n",
            ),
            ("console-logs.service has not provided the log directory: see systemctl", "until then"),
            ("the log /l/c is on a read-only file system", "findmnt -T /l/c shows"),
            ("cannot write the log /l/c: Input/output error (os error 5)", "see dmesg\n"),
            ("cannot write the log /l/c: File too large (os error 27)", "mv /l/c /l/c.1: the port"),
            ("the log /l/c is a symbolic link: put a regular file there, or remove the link", "until then"),
        ] {
            assert!(fix_of_failure(failure).contains(fix), "{failure}: {}", fix_of_failure(failure));
        }
    }

    #[test]
    fn output_that_is_not_text_is_a_finding() {
        let noise = format!("2026-11-24T11:59:01Z < {}\n", "a\\xff\\x00b".repeat(40));
        assert!(
            found(&noise).contains("its output is not text: check the line settings, 9600 8N1"),
            "{}",
            found(&noise)
        );
        assert_eq!(found("2026-11-24T11:59:01Z < \\xff\\xfe\n"), "", "too short to judge");
    }

    #[test]
    fn a_clock_that_was_set_back_is_a_finding() {
        let back = "2026-11-24T11:00:00Z < a\n2026-11-24T10:00:00Z < b\n";
        assert!(found(back).contains("the clock was set back while logging, from 2026-11-24T11:00:00Z"));
        assert!(found("2026-11-24T15:00:00Z < a\n").contains("is in the future"));
    }
}
