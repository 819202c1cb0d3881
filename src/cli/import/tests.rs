//! Bounds of the readers, and their error messages.

use proptest::prelude::*;

use super::*;

fn source(text: &str) -> Source {
    Source { name: "f".into(), text: text.to_owned() }
}

fn conserver(text: &str) -> Result<Plan, ImportError> {
    // An `include` includes the file itself.
    conserver::plan(source(text), &mut |_| Ok(vec![source(text)]), "rack1")
}

fn ser2net(text: &str) -> Result<Plan, ImportError> {
    ser2net::plan(source(text), &mut |_| Ok(vec![source(text)]))
}

/// What is not carried over.
fn left(plan: &Plan) -> Vec<String> {
    let mut shown = Vec::new();
    plan.show(&crate::config::Config::default(), &mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    shown.lines().filter(|line| line.starts_with("f:")).map(str::to_owned).collect()
}

/// Random texts made of tokens of the formats.
fn hostile() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "console",
        "default",
        " * ",
        "{",
        "}",
        ";",
        "\"",
        "\\",
        "#",
        "\n",
        "include ",
        "#include x\n",
        "rw ",
        "!",
        "group",
        "users ",
        ",",
        "connection: ",
        "&a ",
        "*a",
        "*(a)",
        ": ",
        "- ",
        "[",
        "]",
        "%YAML 1.1\n---\n",
        "  ",
        "'",
        "define: ",
        "defines:\n  a: ",
        "connections:\n  a: ",
        "=(a)",
        "connector: serialdev,/dev/a,",
        "accepter: tcp,",
        "9600n81",
        "=",
        "[GLOBAL]\n",
        "CONSOLE name=a dev=",
        "GLOBAL seropts=",
        "sshport",
        "é",
        "\t",
        "|",
        "> ",
        "? ",
        "!!str ",
        "\0",
        "\u{feff}",
        "options:",
    ]);
    prop::collection::vec(parts, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_text_is_too_much_for_a_reader(text in hostile()) {
        // Valid or not, there is a result, and it can be displayed.
        for plan in [conserver(&text), ser2net(&text), former::plan(&source(&text)), ini::plan(&source(&text)), conman::plan(&source(&text))] {
            match plan {
                Ok(mut plan) => {
                    plan.number(65_000, &crate::config::Config::default());
                    plan.resolve_conflicts(&crate::config::Config::default());
                    plan.show(&crate::config::Config::default(), &mut Vec::new()).unwrap();
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}

#[test]
fn the_size_of_an_import_is_bounded() {
    let mut doubled = "define: &a0 0123456789\n".to_owned();
    for n in 1..40 {
        doubled.push_str(&format!("define: &a{n} \"*(a{})*(a{})\"\n", n - 1, n - 1));
    }
    let doubled = left(&ser2net(&doubled).unwrap());
    assert_eq!(doubled[0], "f:12: define a11: left out: a string of more than 16384 bytes");
    let wide = format!("define: &a {}\n{}", "x".repeat(16_000), "define: &b '*(a)'\n".repeat(1_000));
    assert!(matches!(ser2net(&wide), Err(ImportError::TooLong(..))));

    let deep = left(&ser2net(&format!("a: {}", "[".repeat(100_000))).unwrap());
    let begin = format!("f:1: a: {}…", "[".repeat(57));
    assert_eq!(deep, [format!("{begin}: left out: more than 16 levels: the rest of the file is read")]);

    let users: Vec<String> = (0..1025).map(|n| format!("u{n}")).collect();
    let long = conserver(&format!("group g {{ users {}; }}\n", users.join(","))).unwrap_err().to_string();
    assert_eq!(long, "f:1: a list of more than 1024 words");

    let endless = left(&conserver("#include x\n").unwrap());
    assert_eq!(endless, ["f:1: #include x: more than 10 nested files, which is conserver's limit"]);
    let endless = conserver("#include x\n#include x\n").unwrap_err().to_string();
    assert!(endless.ends_with(": more than 256 files"), "{endless}");
    let endless = left(&ser2net("include: x\n").unwrap());
    assert_eq!(endless, ["f:1: include x: not read: too many files"]);

    let many: String = (0..300).map(|n| format!("[/dev/p{n}]\n")).collect();
    assert_eq!(ini::plan(&source(&many)).unwrap_err().to_string(), "f:257: more than 256 ports");
}

#[test]
fn an_error_is_reported_with_its_line() {
    for (text, wanted) in [
        ("console a {\n  baud 9600\n}\n", "f:2: console a: baud 9600: left out: missing ; before }"),
        ("\nconsole a { baud 9600;\n", "f:2: console a: left out: missing }"),
        ("console a { motd \"x;\n}\n", "f:1: \"x; }: missing closing quote"),
        ("# x\nconsole { }\n", "f:2: console: expected console NAME {"),
        ("{ }\n", "f:1: { or }: outside of a block"),
        ("konsole a { }\n", "f:1: konsole: expected access, break, config, console, default, group or task"),
        ("console a {\n include b; }\n", "f:2: console a: include b: no such default before it"),
    ] {
        let plan = conserver(text).unwrap();
        assert!(plan.ports.is_empty(), "{text:?}");
        let left = left(&plan);
        assert!(left.iter().any(|line| line == wanted), "{text:?}: {left:?}");
    }
    for (text, wanted) in [
        (
            "connection:\n  accepter: tcp,1\n",
            "f:1: connection: left out: no name: expected connection: &NAME",
        ),
        ("x\n", "f:1: expected a key such as `connection` or `define`: nothing is read"),
        ("connection: &a x\n", "f:1: connection: left out: expected accepter: and connector:"),
        (
            "define: &a b\nconnection: &c\n  x: '*(d)'\n",
            "f:3: connection c: left out: *(d): not defined before it",
        ),
    ] {
        let plan = ser2net(text).unwrap();
        assert!(plan.ports.is_empty(), "{text:?}");
        assert_eq!(left(&plan), [wanted], "{text:?}");
    }
    let twice = ini::plan(&source("[/dev/a]\n[/dev/b/a]\n")).unwrap();
    let names: Vec<_> = twice.ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["a", "a-2"]);
    for (text, wanted) in [
        ("[/dev/a]\nbaudrate\n", "f:2: baudrate: expected KEY = VALUE, or [NAME]"),
        ("\n[x\n", "f:2: [x: left out: expected [NAME]"),
    ] {
        assert_eq!(left(&ini::plan(&source(text)).unwrap()), [wanted], "{text:?}");
    }
}

#[test]
fn the_format_is_inferred_from_the_first_line() {
    for (text, wanted) in [
        ("%YAML 1.1\n---\n", Some(Program::Ser2net)),
        ("# x\nconnection: &a\n", Some(Program::Ser2net)),
        ("default:\n  name: x\n", Some(Program::Ser2net)),
        ("BANNER:b:x\n", Some(Program::Ser2net)),
        ("# x\n\n2000:raw:0:/dev/ttyS0:9600\n", Some(Program::Ser2net)),
        ("localhost,2000:telnet:0:/dev/ttyS0:\n", Some(Program::Ser2net)),
        ("default * {\n", Some(Program::Conserver)),
        ("Console a { motd \"a:b\"; }\n", Some(Program::Conserver)),
        ("[GLOBAL]\n", Some(Program::Consoleserver)),
        ("# x\nSERVER keepalive=ON\n", Some(Program::Conman)),
        ("YAML 1.1\n---\nconnection: &a\n", Some(Program::Ser2net)),
        ("console name=\"a\" dev=\"b:1\"\n", Some(Program::Conman)),
        ("hello\n", None),
        ("", None),
    ] {
        assert_eq!(kind::by_text(text), wanted, "{text:?}");
    }
    for (text, wanted) in [
        ("BANNER:b:x\n", true),
        ("# x\n4001:telnet:600:/dev/ttyUSB0:9600\n", true),
        ("// x\n4001:telnet:600:/dev/ttyUSB0:9600\n", true),
        ("connection: &a\n", false),
        ("%YAML 1.1\n", false),
        ("---\n", false),
        ("default:\n", false),
    ] {
        assert_eq!(kind::is_former(text), wanted, "{text:?}");
    }
}

/// As conman.conf(5) and conman's own sample file have them.
#[test]
fn each_kind_of_console_of_conman_and_conserver_has_its_source() {
    let text = "CONSOLE name=a dev=ts1:2001\nCONSOLE name=b dev='ipmi:192.0.2.3' ipmiopts='U:x,P:secret'\n\
        CONSOLE name=c dev=\"unix:/run/vm/%N\"\nCONSOLE name=d dev='/usr/lib/conman/exec/x.exp host'\nCONSOLE name=e dev=/dev/ttyS1 seropts='19200,7e2'\n";
    let key = |plan: &Plan, name: &str, key: &str| {
        let port = plan
            .ports
            .iter()
            .find(|port| port.name.as_str() == name)
            .unwrap_or_else(|| panic!("no port {name}"));
        port.keys.get(key).map(|(value, _)| crate::cli::value::text(value)).unwrap_or_default()
    };
    let plan = conman::plan(&source(text)).unwrap();
    for (name, wanted) in
        [("a", "telnet:ts1:2001"), ("b", "unit"), ("c", "unix:/run/vm/c"), ("d", "unit"), ("e", "")]
    {
        assert_eq!(key(&plan, name, "source"), wanted, "{name}");
    }
    for (name, wanted) in
        [("baud", "19200"), ("bytesize", "7"), ("parity", "E"), ("stopbits", "2"), ("device", "/dev/ttyS1")]
    {
        assert_eq!(key(&plan, "e", name), wanted, "{name}");
    }
    assert!(!left(&plan).join("\n").contains("secret"), "{:?}", left(&plan));

    let text = "default * { rw *; }\nconsole a { type host; host ts1; port 4; portbase 2000; }\n\
        console b { type host; host 2001:db8::1; port 7001; protocol raw; }\nconsole c { type uds; uds /run/c; }\n\
        console d { type exec; exec ssh bmc; }\nconsole e { type ipmi; host bmc; password secret; }\nconsole f { type noop; }\n";
    let plan = conserver(text).unwrap();
    for (name, wanted) in [
        ("a", "telnet:ts1:2004"),
        ("b", "tcp:[2001:db8::1]:7001"),
        ("c", "unix:/run/c"),
        ("d", "unit"),
        ("e", "unit"),
    ] {
        assert_eq!(key(&plan, name, "source"), wanted, "{name}");
    }
    assert_eq!(plan.ports.len(), 5);
    assert!(!left(&plan).join("\n").contains("secret"), "{:?}", left(&plan));
}
