//! The rules of a port: which of them a line or a silence fires. A rule fires once for a line; during its cooldown further
//! matches are counted. Pure: bytes and the time in, events out.

use std::time::Duration;

use regex_automata::{Input, meta};
use tokio::time::Instant;

use super::lines::{LinePart, Lines};
use crate::capture::escape;
use crate::config::{Trigger, TriggerName, Triggers};

/// After this silence an unfinished line, such as a prompt, is checked, as it is logged.
const IDLE_LINE_TIMEOUT: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TriggerEvent {
    Fired {
        rule: TriggerName,
        /// The line, printable; for a silence, its length.
        line: String,
        /// Whether console-admin starts a unit.
        start: bool,
    },
    /// The cooldown of a rule is over, and matches were suppressed in it.
    Suppressed {
        rule: TriggerName,
        count: u64,
        cooldown: Duration,
        /// The last line, printable.
        line: String,
    },
}

#[derive(Debug)]
struct Watched {
    name: TriggerName,
    trigger: Trigger,
    pattern: Option<meta::Regex>,
    /// The current line has fired it already.
    met: bool,
    /// The current silence has fired it.
    silent: bool,
    cooldown_until: Option<Instant>,
    suppressed: u64,
    last: String,
}

/// All rules of a port.
#[derive(Debug)]
pub struct Rules {
    watched: Vec<Watched>,
    lines: Lines,
    heard: Instant,
    /// When the unfinished line is checked.
    pause: Option<Instant>,
}

impl Rules {
    pub fn new(triggers: &Triggers, now: Instant) -> Self {
        let mut rules = Self { watched: Vec::new(), lines: Lines::default(), heard: now, pause: None };
        rules.replace(triggers);
        rules
    }

    /// Replaces the rules; those that stay keep their state.
    pub fn replace(&mut self, triggers: &Triggers) {
        let mut before = std::mem::take(&mut self.watched);
        for (name, trigger) in triggers {
            let same = |old: &Watched| old.name == *name && old.trigger == *trigger;
            let kept = before.iter().position(same).map(|at| before.swap_remove(at));
            self.watched.push(kept.unwrap_or_else(|| Watched::new(name.clone(), trigger.clone())));
        }
    }

    pub fn feed(&mut self, bytes: &[u8], now: Instant) -> Vec<TriggerEvent> {
        self.heard = now;
        let mut happenings = Vec::new();
        for rule in &mut self.watched {
            rule.silent = false;
        }
        if self.watched.iter().all(|rule| rule.pattern.is_none()) {
            return happenings;
        }
        let Self { watched, lines, .. } = self;
        lines.feed(bytes, |piece| match_rules(watched, piece, !piece.cut, now, &mut happenings));
        self.pause = self.lines.so_far().map(|_| now + IDLE_LINE_TIMEOUT);
        happenings
    }

    pub fn miss(&mut self, now: Instant) {
        self.heard = now;
        self.lines.reset();
        self.pause = None;
        for rule in &mut self.watched {
            (rule.silent, rule.met) = (false, false);
        }
    }

    /// When to call again without output.
    pub fn due(&self) -> Option<Instant> {
        let of_rules = self
            .watched
            .iter()
            .flat_map(|rule| [rule.silence_ends(self.heard), rule.suppressed_report_due()]);
        of_rules.chain([self.pause]).flatten().min()
    }

    /// Whether a rule waits for a silence that has begun already, or may begin.
    pub fn awaits_silence(&self) -> bool {
        self.watched.iter().any(|rule| rule.silence_ends(self.heard).is_some())
    }

    /// The time is `now`.
    pub fn tick(&mut self, now: Instant) -> Vec<TriggerEvent> {
        let mut happenings = Vec::new();
        if self.pause.is_some_and(|pause| pause <= now) {
            self.pause = None;
            if let Some(piece) = self.lines.so_far() {
                match_rules(&mut self.watched, piece, false, now, &mut happenings);
            }
        }
        for rule in &mut self.watched {
            if let Some(silence) = rule.trigger.silence
                && rule.silence_ends(self.heard).is_some_and(|end| end <= now)
            {
                rule.silent = true;
                rule.fire(&format!("no output for {}", people(silence)), now, &mut happenings);
            }
            rule.report_suppressed(now, &mut happenings);
        }
        happenings
    }
}

/// Matches every rule against a part of a line, after which the line `ends` or continues.
fn match_rules(
    watched: &mut [Watched],
    piece: LinePart<'_>,
    ends: bool,
    now: Instant,
    happenings: &mut Vec<TriggerEvent>,
) {
    for rule in watched {
        if rule.is_in(piece) {
            let mut line = Vec::with_capacity(piece.text.len());
            escape(piece.text.as_bytes(), &mut line);
            rule.fire(&String::from_utf8_lossy(&line), now, happenings);
            rule.met = true;
        } else if piece.cut {
            // Each part of a line that does not end may fire it again.
            rule.met = false;
        }
        if ends {
            rule.met = false;
        }
    }
}

impl Watched {
    fn new(name: TriggerName, trigger: Trigger) -> Self {
        let pattern = trigger.pattern.as_ref().map(|pattern| pattern.compiled());
        Self {
            name,
            trigger,
            pattern,
            met: false,
            silent: false,
            cooldown_until: None,
            suppressed: 0,
            last: String::new(),
        }
    }

    fn is_in(&self, piece: LinePart<'_>) -> bool {
        let Some(pattern) = &self.pattern else { return false };
        let text = piece.text;
        let first = text.chars().next().map_or(0, char::len_utf8);
        let last = text.chars().next_back().map_or(0, char::len_utf8);
        let start = match (self.met, piece.seen) {
            // The beginning of a line has fired it: the rest of that line is not checked.
            (true, 0) => return false,
            // A match in the overlap with the previous piece is not counted again.
            (true, seen) => seen,
            (false, 0) => 0,
            // The first character is context only, so that `^` does not match within a line.
            (false, _) => first,
        };
        let end = if piece.cut { text.len() - last } else { text.len() };
        start <= end && pattern.is_match(Input::new(text).range(start..end).earliest(true))
    }

    fn fire(&mut self, line: &str, now: Instant, happenings: &mut Vec<TriggerEvent>) {
        if self.cooldown_until.is_some_and(|until| now < until) {
            self.suppressed += 1;
            line.clone_into(&mut self.last);
            return;
        }
        self.report_suppressed(now, happenings);
        self.cooldown_until = Some(now + self.trigger.cooldown);
        let Self { name, trigger, .. } = self;
        happenings.push(TriggerEvent::Fired {
            rule: name.clone(),
            line: line.to_owned(),
            start: trigger.start,
        });
    }

    fn report_suppressed(&mut self, now: Instant, happenings: &mut Vec<TriggerEvent>) {
        if self.suppressed_report_due().is_some_and(|at| at <= now) {
            happenings.push(TriggerEvent::Suppressed {
                rule: self.name.clone(),
                count: std::mem::take(&mut self.suppressed),
                cooldown: self.trigger.cooldown,
                line: std::mem::take(&mut self.last),
            });
        }
    }

    /// When its cooldown is over, if suppressed matches are to be reported then.
    fn suppressed_report_due(&self) -> Option<Instant> {
        self.cooldown_until.filter(|_| self.suppressed > 0)
    }

    fn silence_ends(&self, heard: Instant) -> Option<Instant> {
        self.trigger.silence.filter(|_| !self.silent).map(|silence| heard + silence)
    }
}

/// `5 min`, `90 s`.
pub fn people(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 60 && seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Pattern;
    use crate::trigger::LONGEST_LINE;

    fn triggers(rules: &[(&str, Trigger)]) -> Triggers {
        rules.iter().map(|(name, rule)| (name.parse().unwrap(), rule.clone())).collect()
    }

    fn matching(pattern: &str) -> Trigger {
        Trigger {
            pattern: Some(Pattern::new(pattern).unwrap()),
            cooldown: Duration::from_secs(5),
            ..Trigger::default()
        }
    }

    fn fired<'h>(happenings: &'h [TriggerEvent]) -> Vec<&'h str> {
        let line = |happening: &'h TriggerEvent| match happening {
            TriggerEvent::Fired { line, .. } => Some(line.as_str()),
            TriggerEvent::Suppressed { .. } => None,
        };
        happenings.iter().filter_map(line).collect()
    }

    /// How often each of these patterns fires or is suppressed.
    fn counted(patterns: &[&str], pieces: &[&[u8]]) -> Vec<u64> {
        let now = Instant::now();
        let names: Vec<String> = (0..patterns.len()).map(|n| format!("r{n:02}")).collect();
        let rules: Vec<(&str, Trigger)> =
            names.iter().zip(patterns).map(|(name, pattern)| (name.as_str(), matching(pattern))).collect();
        let mut rules = Rules::new(&triggers(&rules), now);
        let mut counts = vec![0; patterns.len()];
        for piece in pieces {
            for happening in rules.feed(piece, now) {
                let TriggerEvent::Fired { rule, .. } = happening else { panic!("nothing is told so early") };
                counts[names.iter().position(|name| *name == rule.as_str()).unwrap()] += 1;
            }
        }
        counts.iter().zip(&rules.watched).map(|(count, rule)| count + rule.suppressed).collect()
    }

    const PATTERNS: [&str; 7] =
        ["panic", "^panic", "panic$", "(?i)PAN.C", r"\bp\w+c\b", "panic.*panic", "ö.ü|^$"];

    proptest! {
        #[test]
        fn the_same_is_found_however_the_bytes_come(
            words in proptest::collection::vec("(panic|pan|ic| |\r|\n|\x1b\\[0m|ö|ü|x|y{300}){1,12}", 1..12),
            cuts in proptest::collection::vec(0usize..4000, 0..24),
        ) {
            let bytes = (words.concat() + "\n").into_bytes();
            let whole = counted(&PATTERNS, &[&bytes]);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&counted(&PATTERNS, &single), &whole);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(&counted(&PATTERNS, &pieces), &whole);
            // Lines that are not too long: as the library finds them by itself.
            let lines: Vec<String> = String::from_utf8(bytes).unwrap().replace("\x1b[0m", "")
                .split(['\r', '\n']).filter(|line| !line.is_empty()).map(str::to_owned).collect();
            if lines.iter().all(|line| line.len() < LONGEST_LINE - 8) {
                for (pattern, count) in PATTERNS.iter().zip(&whole) {
                    let found = lines.iter().filter(|line| Pattern::new(pattern).unwrap().compiled().is_match(line.as_str()));
                    prop_assert_eq!(found.count() as u64, *count, "{}", pattern);
                }
            }
        }

        #[test]
        fn a_word_in_a_line_that_never_ends_is_found_wherever_it_stands(before in 0usize..5000, after in 0usize..3000) {
            let mut bytes = vec![b'.'; before];
            bytes.extend(b"panic");
            bytes.extend(vec![b'.'; after]);
            bytes.push(b'\n');
            prop_assert_eq!(counted(&["panic", "^panic|panic$", "^.panic", "c\\.\\n?$"], &[&bytes])[..2].to_vec(),
                [1, u64::from(before == 0 || after == 0)]);
        }
    }

    #[test]
    fn a_prompt_fires_when_it_pauses_and_its_line_not_again() {
        let start = Instant::now();
        let mut rules = Rules::new(&triggers(&[("login", matching("login: $"))]), start);
        assert_eq!(rules.due(), None, "nothing to wait for before anything was said");
        assert!(rules.feed(b"host login: ", start).is_empty());
        assert_eq!(rules.due(), Some(start + IDLE_LINE_TIMEOUT));
        assert_eq!(fired(&rules.tick(start + IDLE_LINE_TIMEOUT)), ["host login: "]);
        assert_eq!(rules.due(), None);
        assert!(rules.feed(b"\r\n", start + IDLE_LINE_TIMEOUT).is_empty());
        assert_eq!(rules.due(), None);
    }

    #[test]
    fn silence_fires_once_until_there_is_output() {
        let start = Instant::now();
        let silence = Some(Duration::from_secs(300));
        let mut rules = Rules::new(
            &triggers(&[("quiet", Trigger { silence, start: true, ..Trigger::default() })]),
            start,
        );
        let end = start + Duration::from_secs(300);
        assert_eq!(rules.due(), Some(end));
        assert!(rules.tick(end - Duration::from_millis(1)).is_empty());
        assert_eq!(fired(&rules.tick(end)), ["no output for 5 min"]);
        assert_eq!(rules.due(), None, "no wake-up while output continues");
        let later = end + Duration::from_secs(3600);
        assert!(rules.feed(b"x", later).is_empty());
        assert_eq!(rules.due(), Some(later + Duration::from_secs(300)), "and no other one while it talks");
    }

    #[test]
    fn a_storm_fires_once_a_cooldown_and_counts_suppressed_matches() {
        let start = Instant::now();
        let mut rules = Rules::new(&triggers(&[("panic", matching("panic"))]), start);
        let mut told = Vec::new();
        for second in 0..12 {
            let now = start + Duration::from_secs(second);
            told.extend(rules.tick(now));
            told.extend(rules.feed("kernel panic\n".repeat(1000).as_bytes(), now));
        }
        told.extend(rules.tick(start + Duration::from_secs(60)));
        let short: Vec<String> = told
            .iter()
            .map(|happening| match happening {
                TriggerEvent::Fired { .. } => "fired".to_owned(),
                TriggerEvent::Suppressed { count, line, .. } => format!("{count} {line}"),
            })
            .collect();
        assert_eq!(
            short,
            ["fired", "4999 kernel panic", "fired", "4999 kernel panic", "fired", "1999 kernel panic"]
        );
        assert_eq!(rules.due(), None);
    }

    #[test]
    fn unchanged_rules_keep_their_state_when_others_change() {
        let now = Instant::now();
        let mut rules = Rules::new(&triggers(&[("a", matching("x")), ("b", matching("y"))]), now);
        assert_eq!(rules.feed(b"x\n", now).len(), 1);
        rules.replace(&triggers(&[("a", matching("x")), ("c", matching("x"))]));
        assert_eq!(rules.feed(b"x\n", now).len(), 1, "a rests still, c is new");
        assert!(rules.feed(b"y\n", now).is_empty());
    }

    #[test]
    fn a_reported_line_contains_no_control_characters() {
        let now = Instant::now();
        let mut rules = Rules::new(&triggers(&[("a", matching("x"))]), now);
        assert_eq!(fired(&rules.feed("x\u{202e}\\\u{9b}\x08\n".as_bytes(), now)), [r"x\u{202e}\\\u{9b}"]);
    }

    /// The worst that a pattern of the permitted size can do, in the time of one core.
    #[test]
    fn the_cost_of_the_worst_pattern_is_bounded() {
        for bomb in [
            "(a?){100}a{100}z",
            "(a|aa|aaa)*(b|c){40}z",
            "(x+x+)+y",
            "[ab]*a[ab]{200}c",
            "(.*)(.*)(.*)(.*)(.*)z",
            "(?:a[ab]{0,60}){10}c",
            "[ab]*a[ab]{250}[c-z]",
            "(?:[a-f]?[b-g]?){120}[h-z]",
        ] {
            let Ok(pattern) = Pattern::new(bomb) else { continue };
            let trigger = Trigger { pattern: Some(pattern), ..Trigger::default() };
            let mut rules = Rules::new(&triggers(&[("bomb", trigger)]), Instant::now());
            let line: Vec<u8> = (0..LONGEST_LINE as u32 - 16)
                .map(|n| if n.wrapping_mul(2_654_435_761) >> 13 & 1 == 0 { b'a' } else { b'b' })
                .chain([b'\n'])
                .collect();
            let begun = std::time::Instant::now();
            for _ in 0..100 {
                rules.feed(&line, Instant::now());
            }
            let each = begun.elapsed() / 100;
            eprintln!("{bomb}: {each:?} a line");
            assert!(each < Duration::from_millis(100), "{bomb}: {each:?} a line");
        }
    }
}
