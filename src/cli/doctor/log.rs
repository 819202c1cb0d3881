//! What a log tells of its port: the disk that it is on, the clock by which it was written, and whether what came is text.

use std::path::Path;

use jiff::Timestamp;

use super::{Finding, Subject};
use crate::cli::bounded::{NoAnswer, Space};

/// Percent of a disk that should be free, and bytes: a log may become so large before it is rotated.
const FREE_PERCENT: u64 = 5;
const FREE_BYTES: u64 = 16 * 1024 * 1024;
/// Seconds by which the clock may be set without a word: NTP does no worse.
const CLOCK_JUMP_SECONDS: i64 = 60;
/// Characters below which nothing can be said of a line's rate.
const ENOUGH: usize = 100;

/// The disk on which the log lies.
pub(super) fn disk(
    directory: &Path,
    space: &Result<Option<Space>, NoAnswer>,
    patient: &Subject<'_>,
) -> Option<Finding> {
    let Space { size, free } = match space {
        Ok(space) => (*space)?,
        Err(NoAnswer::Timeout(limit)) => {
            let what = format!(
                "the disk of its log hangs: {} has not answered within {limit:?}",
                directory.display()
            );
            return Some(patient.finding(what, "dmesg; findmnt -T says which disk it is, or which server"));
        }
        Err(NoAnswer::Failed(_)) => return None,
    };
    let percent = free * 100 / size.max(1);
    (percent < FREE_PERCENT || free < FREE_BYTES.min(size / 2)).then(|| {
        let what =
            format!("the disk of its log is nearly full: {} MB of {} MB are free", free >> 20, size >> 20);
        patient.finding(
            what,
            format!(
                "du -sh {}/*; /usr/lib/consoleserver/logrotate.conf says what is kept",
                directory.display()
            ),
        )
    })
}

/// The last lines of a text log.
pub(super) fn look(sample: &str, now: Timestamp, patient: &Subject<'_>) -> Vec<Finding> {
    clock(sample, now, patient).into_iter().chain(rate(sample, patient)).collect()
}

fn records(sample: &str) -> impl Iterator<Item = (Timestamp, &str)> {
    sample.lines().filter_map(|line| {
        let (time, rest) = line.split_once(' ')?;
        Some((time.parse().ok()?, rest))
    })
}

fn clock(sample: &str, now: Timestamp, patient: &Subject<'_>) -> Option<Finding> {
    let mend = "timedatectl says whether the clock follows NTP; \
                a machine without a clock of its own begins at a time of long ago";
    let times: Vec<Timestamp> = records(sample).map(|(time, _)| time).collect();
    let back = times.windows(2).find(|pair| (pair[0] - pair[1]).get_seconds() > CLOCK_JUMP_SECONDS);
    if let Some(pair) = back {
        let what = format!(
            "the clock went back while it was logged, from {} to {}: times before that are wrong",
            pair[0], pair[1]
        );
        return Some(patient.finding(what, mend));
    }
    let last = times.last().filter(|last| (**last - now).get_seconds() > CLOCK_JUMP_SECONDS)?;
    Some(patient.finding(
        format!("its log was written at {last}, which is to come: the clock has been set back to {now}"),
        mend,
    ))
}

/// At a wrong rate most bytes are no text.
fn rate(sample: &str, patient: &Subject<'_>) -> Option<Finding> {
    let (mut all, mut strange) = (0, 0);
    for (_, record) in records(sample) {
        let Some(text) = record.strip_prefix("< ").or_else(|| record.strip_prefix("<+")) else { continue };
        let escapes = text.matches("\\x").count() + text.matches("\\u{").count();
        all += text.chars().count().saturating_sub(3 * escapes);
        // Colours and cursor movements are a terminal's, not noise.
        strange += escapes - text.matches("\\x1b[").count();
    }
    (all >= ENOUGH && strange * 4 > all).then(|| {
        let name = patient.name;
        let what = format!("what it says does not look like text: is {} right?", patient.settings.line);
        let mend = format!(
            "consolectl autobaud {name}, while the device talks\n\
             or, if it is right and the device sends no text: consolectl logtype {name} both"
        );
        patient.finding(what, mend)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::tests::patient;

    fn found(sample: &str) -> String {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        patient(|patient| look(sample, now, patient).into_iter().map(|finding| finding.what).collect())
    }

    #[test]
    fn a_log_of_text_by_a_good_clock_is_well() {
        let boot = "2026-11-24T11:59:00.000+00:00 # demo opened, 9600 8N1\n\
                    2026-11-24T11:59:01.000+00:00 < \\x1b[32mOK\\x1b[0m Started everything that a machine of this kind wants\n\
                    2026-11-24T11:59:02.000+00:00 <+and more text, of which there is enough to say something of its rate here\n\
                    2026-11-24T11:58:59.000+00:00 < a second that NTP took back\n";
        assert_eq!(found(boot), "");
        assert_eq!(found(""), "");
        assert_eq!(found("no record"), "");
    }

    #[test]
    fn a_wrong_rate_shows_by_bytes_that_are_no_text() {
        let noise = format!("2026-11-24T11:59:01Z < {}\n", "a\\xff\\x00b".repeat(40));
        assert!(found(&noise).contains("does not look like text: is 9600 8N1 right?"), "{}", found(&noise));
        assert_eq!(found("2026-11-24T11:59:01Z < \\xff\\xfe\n"), "", "too little to say anything");
    }

    #[test]
    fn a_clock_that_was_set_back_shows_in_the_log() {
        let back = "2026-11-24T11:00:00Z < a\n2026-11-24T10:00:00Z < b\n";
        assert!(found(back).contains("the clock went back while it was logged, from 2026-11-24T11:00:00Z"));
        assert!(found("2026-11-24T15:00:00Z < a\n").contains("which is to come"));
    }
}
