//! authorized_keys and its `from=`. Input: the client's address, then the file, in which \x01 is the client's key and \x02
//! another one.

use std::net::IpAddr;
use std::sync::LazyLock;

use consoleserver::auth::authorized_keys::{LINE_LIMIT, LoginContext, search};
use consoleserver::auth::certificate::Offered;
use consoleserver::auth::host_patterns::HostPatterns;
use jiff::tz::TimeZone;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKI/9gdlBNNq2lICe+kic2SLt7h+hBTAhGykEIU5PH/L";
/// Invalid lines that are reported.
const TOLD_MAX: usize = 8;

static PUBLIC: LazyLock<Offered> = LazyLock::new(|| Offered::parse(KEY).expect("a key"));

/// See the module.
pub fn run(data: &[u8]) {
    let Some((address, text)) = data.split_first_chunk::<5>() else { return };
    let rhost = match address {
        [0, a, b, c, d] => IpAddr::from([*a, *b, *c, *d]),
        [a, b, c, d, e] => IpAddr::from([*a, *b, *c, *d, *e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).to_canonical(),
    };
    let file: Vec<u8> = text
        .iter()
        .flat_map(|byte| match byte {
            1 => KEY.as_bytes(),
            2 => OTHER.as_bytes(),
            _ => std::slice::from_ref(byte),
        })
        .copied()
        .collect();
    search_is_line_by_line(&file, rhost);
    for line in file.split(|byte| *byte == b'\n').take(4) {
        options_only_narrow(line, rhost);
        if let Ok(list) = std::str::from_utf8(line) {
            list_is_right(list, rhost);
        }
    }
}

fn admitted(file: &[u8], rhost: IpAddr) -> Option<usize> {
    let now = "2026-11-22T12:00:00Z".parse().expect("a time");
    let circumstances = LoginContext { user: "alice".to_owned(), rhost, now, zone: TimeZone::UTC };
    let found = search(file, &PUBLIC, &circumstances);
    assert!(found.refused.len() <= TOLD_MAX);
    for (line, refusal) in &found.refused {
        assert!(found.admitted.is_none_or(|admitted| *line < admitted), "{line}");
        assert!(!refusal.to_string().is_empty());
    }
    found.admitted
}

fn search_is_line_by_line(file: &[u8], rhost: IpAddr) {
    let lines = || file.split(|byte| *byte == b'\n');
    let first = lines().position(|line| admitted(line, rhost).is_some());
    assert_eq!(admitted(file, rhost), first.map(|index| index + 1), "the first line that admits");
    let shifted = [b"# a comment\n", file].concat();
    assert_eq!(admitted(&shifted, rhost), first.map(|index| index + 2));
    if !file.windows(40).any(|window| KEY.as_bytes()[20..].starts_with(window)) {
        assert_eq!(first, None, "without the key nobody is let in");
    }
}

fn options_only_narrow(line: &[u8], rhost: IpAddr) {
    let admits = |line: &[u8]| admitted(line, rhost).is_some();
    let was = admits(line);
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let trimmed = &line[line.iter().position(|byte| !blank(byte)).unwrap_or(line.len())..];
    let has_options = !trimmed.starts_with(KEY.as_bytes());
    let with = |option: &str| {
        let separator: &[u8] = if has_options { b"," } else { b" " };
        [option.as_bytes(), separator, trimmed].concat()
    };
    for option in ["restrict", "no-pty", "from=\"*\""] {
        let with = with(option);
        assert!(
            was || !admits(&with) || trimmed.is_empty() || trimmed.starts_with(b"#"),
            "{option} opens nothing"
        );
        // The line may be too long with it, and a comment ends to be one.
        if was && with.len() <= LINE_LIMIT {
            assert!(admits(&with), "{option} closes nothing");
        }
    }
    for option in
        ["command=\"x\"", "cert-authority", "from=\"!*\"", "from=\"\"", "expiry-time=\"20200101Z\"", "zzz"]
    {
        assert!(!admits(&with(option)), "{option}");
    }
}

fn list_is_right(list: &str, rhost: IpAddr) {
    let parse = |list: &str| HostPatterns::parse(list);
    let alone: Result<Vec<_>, _> = list.split(',').map(parse).collect();
    let whole = parse(list);
    assert_eq!(whole.is_ok(), alone.is_ok(), "a list is right if each of it is");
    let Ok(whole) = whole else { return };
    if !list.contains('!') {
        let any = alone.expect("right").iter().any(|one| one.matches(rhost));
        assert_eq!(whole.matches(rhost), any);
    }
    if let IpAddr::V4(address) = rhost {
        assert_eq!(
            whole.matches(rhost),
            whole.matches(address.to_ipv6_mapped().into()),
            "mapped is the same"
        );
    }
    for (more, opens) in [(format!("{list},{rhost}"), true), (format!("{list},!{rhost}"), false)] {
        let more = parse(&more).expect("right");
        assert!(if opens { more.matches(rhost) || list.contains('!') } else { !more.matches(rhost) });
    }
    let reversed: Vec<_> = list.split(',').rev().collect();
    assert_eq!(
        parse(&reversed.join(",")).expect("right").matches(rhost),
        whole.matches(rhost),
        "in any order"
    );
}
