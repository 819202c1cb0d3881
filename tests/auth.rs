//! Logins as `console-auth` decides about them: the real program, real PAM, real accounts, and the protocol spoken by
//! hand. Every refusal is the same word on the wire; its reason is looked for in the program's messages.

use std::fs;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use consoleserver::auth::protocol::{Identity, Prompt, Reply, Request, Secret};
use consoleserver::config::RootLogin;
use consoleserver::message;
use nix::unistd::User;

#[path = "support/accounts.rs"]
mod accounts;

use accounts::{Accounts, HOMES};

const PROGRAM: &str = env!("CARGO_BIN_EXE_console-auth");
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKI/9gdlBNNq2lICe+kic2SLt7h+hBTAhGykEIU5PH/L";

/// `KEY`'s, as `ssh-keygen -l` prints it.
const FINGERPRINT: &str = "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ";

/// A running console-auth and the socket to it.
struct Helper {
    stream: UnixStream,
    child: Child,
}

/// What a console-auth that has ended leaves behind.
struct Ended {
    status: ExitStatus,
    journal: String,
}

impl Helper {
    fn start() -> Self {
        Self::run(Command::new(PROGRAM))
    }

    fn run(mut command: Command) -> Self {
        let (stream, theirs) = UnixStream::pair().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let child = command
            .env("LISTEN_FDS", "1")
            .env_remove("LISTEN_PID")
            .env_remove("JOURNAL_STREAM")
            .stderr(Stdio::piped())
            .fd_mappings(vec![FdMapping { parent_fd: OwnedFd::from(theirs), child_fd: 3 }])
            .unwrap()
            .spawn()
            .unwrap();
        Self { stream, child }
    }

    fn login(user: &str) -> Self {
        Self::start().begin(user, "ttyUSB0", RootLogin::Key)
    }

    fn begin(mut self, user: &str, port: &str, root: RootLogin) -> Self {
        let rhost: IpAddr = "192.0.2.7".parse().unwrap();
        self.send(&Request::Begin { user: user.to_owned(), rhost, port: port.parse().unwrap(), root });
        self
    }

    fn send(&mut self, request: &Request) {
        message::send(&mut self.stream, request).unwrap();
    }

    fn ask(&mut self, request: &Request) -> Reply {
        self.send(request);
        self.reply().expect("a reply, and the connection is closed")
    }

    fn reply(&mut self) -> Option<Reply> {
        message::receive(&mut self.stream).unwrap()
    }

    fn key(&mut self, key: &str) -> Reply {
        self.ask(&Request::Key { key: key.to_owned() })
    }

    fn offer(&mut self, key: &str) -> Reply {
        self.ask(&Request::Offer { key: key.to_owned() })
    }

    fn answer(&mut self, answer: &str) -> Reply {
        self.ask(&Request::Answers(vec![Secret(answer.to_owned())]))
    }

    /// A conversation that asks for a password and nothing else.
    fn password(&mut self, password: &str) -> Reply {
        let asked = self.ask(&Request::Converse);
        assert_eq!(asked, prompts("Password: "));
        self.answer(password)
    }

    fn end(mut self) -> Ended {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"", "nothing more on the wire");
        let output = self.child.wait_with_output().unwrap();
        Ended { status: output.status, journal: String::from_utf8(output.stderr).unwrap() }
    }

    /// Ends it and looks for the reason.
    fn ends_saying(self, reason: &str) -> String {
        let Ended { journal, .. } = self.end();
        assert!(journal.contains(reason), "{reason:?} is not in {journal:?}");
        journal
    }
}

fn prompts(text: &str) -> Reply {
    Reply::Prompts {
        instructions: String::new(),
        prompts: vec![Prompt { text: text.to_owned(), echo: false }],
    }
}

#[track_caller]
fn granted(reply: Reply) -> Identity {
    match reply {
        Reply::Granted(identity) => identity,
        other => panic!("not granted: {other:?}"),
    }
}

/// Alice, whose password is `sesame` and whose key is `KEY`.
fn alice() -> Accounts {
    let accounts = Accounts::enter();
    accounts.add("alice", Some("sesame"));
    accounts.authorize("alice", &format!("{KEY} alice@laptop\n"));
    accounts
}

#[test]
fn the_right_password_is_granted_with_all_groups() {
    let accounts = alice();
    accounts.run(&["usermod", "-aG", "dialout,adm", "alice"]);
    let mut helper = Helper::login("alice");
    let identity = granted(helper.password("sesame"));
    assert_eq!(identity.name, "alice");
    assert_eq!(identity.uid, User::from_name("alice").unwrap().unwrap().uid.as_raw());
    for group in ["alice", "dialout", "adm"] {
        assert!(identity.groups.iter().any(|name| name == group), "{group}: {:?}", identity.groups);
    }
    let ended = helper.end();
    assert!(ended.status.success());
    let line = r#"login of "alice" to ttyUSB0 from 192.0.2.7: granted as alice by password"#;
    assert!(ended.journal.contains(line), "{}", ended.journal);
    assert_eq!(ended.journal.lines().count(), 1, "{}", ended.journal);
}

#[test]
fn a_wrong_password_is_refused_and_the_right_one_may_follow() {
    let _accounts = alice();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.password("wrong"), Reply::Denied);
    granted(helper.password("sesame"));
    let journal = helper.ends_saying("refused by password: PAM authentication: Authentication failure");
    assert!(!journal.contains("wrong") && !journal.contains("sesame"), "{journal}");
}

#[test]
fn an_unknown_user_is_asked_and_delayed_like_a_known_one() {
    let _accounts = alice();
    for (user, reason) in [
        ("alice", "Authentication failure"),
        ("mallory", "there is no such user"),
        ("-oProxyCommand=x", "not one that a user can have"),
        ("../../etc/x", "not one that a user can have"),
        ("evil\n\u{1b}[2Jname", r#""evil\n\u{1b}[2Jname" to ttyUSB0"#),
    ] {
        let began = Instant::now();
        let mut helper = Helper::login(user);
        assert_eq!(helper.offer(OTHER), Reply::Denied);
        assert_eq!(helper.password("wrong"), Reply::Denied);
        // pam_unix asks for two seconds, of which libpam makes 1.5 to 2.5 and more.
        assert!(began.elapsed() > Duration::from_secs(1), "{user:?} after {:?}", began.elapsed());
        helper.ends_saying(reason);
    }
}

#[test]
fn an_answer_that_no_password_can_be_is_just_wrong() {
    let _accounts = alice();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.password("sesame\0"), Reply::Denied);
    assert_eq!(helper.password(&"x".repeat(5000)), Reply::Denied);
    granted(helper.password("sesame"));
}

#[test]
fn an_empty_password_proves_nothing() {
    let accounts = alice();
    accounts.run(&["passwd", "-d", "alice"]);
    let mut helper = Helper::login("alice");
    assert_eq!(helper.password(""), Reply::Denied);
    helper.ends_saying("PAM authentication");
}

/// Password, then a one-time password; the values are those of RFC 4226, appendix D.
const TWO_FACTORS: &str = "
auth     required  pam_unix.so
auth     required  pam_oath.so usersfile=/etc/users.oath window=2 digits=6
account  required  pam_unix.so
";

fn with_second_factor() -> Accounts {
    let accounts = alice();
    accounts.pam_service(TWO_FACTORS);
    fs::write("/etc/users.oath", "HOTP alice - 3132333435363738393031323334353637383930\n").unwrap();
    accounts.set_mode("/etc/users.oath", 0o600);
    accounts
}

#[test]
fn a_second_factor_is_asked_for_after_the_password() {
    let _accounts = with_second_factor();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.password("sesame"), prompts("One-time password (OATH) for `alice': "));
    granted(helper.answer("755224"));

    let mut helper = Helper::login("alice");
    assert_eq!(helper.password("sesame"), prompts("One-time password (OATH) for `alice': "));
    assert_eq!(helper.answer("755224"), Reply::Denied, "a one-time password is used up");
    assert_eq!(helper.password("wrong"), prompts("One-time password (OATH) for `alice': "));
    assert_eq!(helper.answer("287082"), Reply::Denied);
}

#[test]
fn an_unknown_user_is_asked_for_the_second_factor_as_well() {
    let _accounts = with_second_factor();
    // pam_oath asks those whom its file knows; mallory has left the company and not the file.
    let tokens = fs::read_to_string("/etc/users.oath").unwrap();
    fs::write("/etc/users.oath", format!("{tokens}{}", tokens.replace("alice", "mallory"))).unwrap();
    let mut helper = Helper::login("mallory");
    assert_eq!(helper.password("x"), prompts("One-time password (OATH) for `mallory': "));
    assert_eq!(helper.answer("755224"), Reply::Denied);
    helper.ends_saying("there is no such user");
}

#[test]
fn what_pam_says_comes_with_the_next_question() {
    let accounts = alice();
    fs::write("/etc/notice", "Maintenance tonight.\n").unwrap();
    accounts.pam_service("auth optional pam_echo.so file=/etc/notice\nauth required pam_unix.so\n");
    let mut helper = Helper::login("alice");
    match helper.ask(&Request::Converse) {
        Reply::Prompts { instructions, prompts } => {
            assert_eq!(instructions.trim(), "Maintenance tonight.");
            assert_eq!(prompts.len(), 1);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_listed_key_is_acceptable_and_when_signed_granted() {
    let _accounts = alice();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.offer(OTHER), Reply::Denied);
    assert_eq!(helper.offer(&format!("{KEY} another comment")), Reply::Acceptable);
    assert_eq!(granted(helper.key(KEY)).name, "alice");
    assert_eq!(helper.reply(), None, "it closes after a grant");
    helper.ends_saying(&format!("granted as alice by key {FINGERPRINT}"));
}

#[test]
fn a_key_in_authorized_keys2_counts_too() {
    let accounts = alice();
    let file = accounts.authorize("alice", "# nothing here\n");
    fs::rename(&file, file.with_file_name("authorized_keys2")).unwrap();
    accounts.authorize("alice", OTHER);
    fs::write(file.with_file_name("authorized_keys2"), KEY).unwrap();
    granted(Helper::login("alice").key(KEY));
}

#[test]
fn keys_that_are_not_listed_are_told_of_once() {
    let _accounts = alice();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.offer(OTHER), Reply::Denied);
    assert_eq!(helper.offer(OTHER), Reply::Denied);
    let journal = helper.ends_saying("none of the 2 offered keys is in the user's authorized_keys");
    assert_eq!(journal.lines().count(), 1, "{journal}");

    let mut helper = Helper::login("alice");
    assert_eq!(helper.key(OTHER), Reply::Denied);
    assert_eq!(helper.key("ssh-ed25519 rubbish"), Reply::Denied);
    helper.ends_saying("what was sent as a key is none");
}

#[test]
fn a_line_that_narrows_the_key_is_obeyed_and_named() {
    let accounts = alice();
    for (options, reason) in [
        ("from=\"10.0.0.0/8\"", "line 2: from= does not list 192.0.2.7"),
        ("from=\"*,!192.0.2.7\"", "line 2: from= does not list 192.0.2.7"),
        ("from=\"10.0.0.1/8\"", "whose bits behind the mask are not zero"),
        ("expiry-time=\"20200101\"", "line 2: the key expired at"),
        ("command=\"/bin/date\"", "line 2: option \"command\" is not known here"),
        ("restrict,frobnicate", "line 2: option \"frobnicate\" is not known here"),
        ("cert-authority", "line 2: option \"cert-authority\" is not known here"),
    ] {
        let file = accounts.authorize("alice", &format!("# keys\n{options} {KEY}\n"));
        let mut helper = Helper::login("alice");
        assert_eq!(helper.offer(KEY), Reply::Denied, "{options}");
        assert_eq!(helper.key(KEY), Reply::Denied, "{options}");
        let journal = helper.ends_saying(reason);
        assert!(journal.contains(file.to_str().unwrap()), "{journal}");
    }
    for options in ["restrict", "no-pty,from=\"192.0.2.0/24\"", "expiry-time=\"29991231Z\",port-forwarding"] {
        accounts.authorize("alice", &format!("{options} {KEY}\n"));
        granted(Helper::login("alice").key(KEY));
    }
}

/// Each breaks one thing, which must be named; put right again, the key is taken.
#[test]
fn files_that_others_could_have_written_are_not_believed() {
    let accounts = alice();
    accounts.add("bob", None);
    let home = accounts.home("alice");
    let directory = home.join(".ssh");
    let file = directory.join("authorized_keys");
    for (path, mode) in [(&file, 0o620), (&file, 0o602), (&directory, 0o770), (&home, 0o775), (&home, 0o757)]
    {
        accounts.set_mode(path, mode);
        refused_naming(path, "may be written by group or others");
        accounts.set_mode(path, 0o700);
    }
    for path in [&file, &directory, &home] {
        accounts.give(path, "bob", 0o755);
        refused_naming(path, "belongs to user id");
        accounts.give(path, "alice", 0o700);
    }
    granted(Helper::login("alice").key(KEY));
}

#[track_caller]
fn refused_naming(path: &Path, reason: &str) {
    let mut helper = Helper::login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied, "{path:?}");
    helper.ends_saying(&format!("{} {reason}", path.display()));
}

#[test]
fn files_are_read_as_their_user_and_only_if_they_are_files() {
    let accounts = alice();
    let file = accounts.home("alice").join(".ssh/authorized_keys");

    // Only root may read it, though it has the key: root must not have done so.
    let secret = Path::new(HOMES).join("secret");
    fs::write(&secret, KEY).unwrap();
    accounts.set_mode(&secret, 0o600);
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&secret, &file).unwrap();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied);
    helper.ends_saying("cannot be read: Permission denied");

    // A FIFO without a writer would hold up whoever opens it.
    fs::remove_file(&file).unwrap();
    accounts.run(&["mkfifo", file.to_str().unwrap()]);
    accounts.give(&file, "alice", 0o600);
    refused_naming(&file, "is not a regular file");

    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    accounts.give(&file, "alice", 0o700);
    refused_naming(&file, "is not a regular file");

    fs::remove_dir(&file).unwrap();
    accounts.authorize("alice", &format!("{KEY}\n{}", "#".repeat(1024 * 1024)));
    refused_naming(&file, "has ");

    accounts.authorize("alice", &format!("{KEY}\n"));
    granted(Helper::login("alice").key(KEY));
}

#[test]
fn a_link_to_a_file_in_a_safe_place_is_followed() {
    let accounts = alice();
    let file = accounts.home("alice").join(".ssh/authorized_keys");
    let elsewhere = accounts.home("alice").join("keys");
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    granted(Helper::login("alice").key(KEY));

    // Out of the home directory every directory up to the root counts.
    let shared = Path::new(HOMES).join("shared");
    fs::create_dir(&shared).unwrap();
    fs::rename(&elsewhere, shared.join("keys")).unwrap();
    accounts.set_mode(&shared, 0o777);
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(shared.join("keys"), &file).unwrap();
    refused_naming(&shared, "may be written by group or others");
}

#[test]
fn a_locked_account_is_refused_by_any_method() {
    let accounts = alice();
    accounts.run(&["usermod", "-L", "alice"]);
    let mut helper = Helper::login("alice");
    assert_eq!(helper.offer(KEY), Reply::Denied);
    assert_eq!(helper.key(KEY), Reply::Denied);
    assert_eq!(helper.password("sesame"), Reply::Denied);
    helper.ends_saying("refused by key: the account is locked");
}

#[test]
fn an_account_that_never_had_a_password_logs_in_by_key() {
    let accounts = Accounts::enter();
    accounts.add("carol", None);
    accounts.authorize("carol", KEY);
    granted(Helper::login("carol").key(KEY));
    accounts.run(&["usermod", "-p", "*", "carol"]);
    granted(Helper::login("carol").key(KEY));
}

#[test]
fn an_expired_account_is_refused_by_any_method() {
    let accounts = alice();
    accounts.run(&["chage", "-E", "2020-01-01", "alice"]);
    let mut helper = Helper::login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied);
    assert_eq!(helper.password("sesame"), Reply::Denied);
    let journal = helper.ends_saying("refused by key: PAM account: ");
    assert_eq!(journal.matches("Your account has expired").count(), 2, "{journal}");
}

#[test]
fn a_password_that_must_be_changed_is_refused() {
    let accounts = alice();
    accounts.run(&["chage", "-d", "0", "alice"]);
    let mut helper = Helper::login("alice");
    assert_eq!(helper.password("sesame"), Reply::Denied);
    helper.ends_saying("the password has expired and must be changed elsewhere first");
}

#[test]
fn while_nologin_exists_only_root_gets_in() {
    let accounts = alice();
    fs::write("/etc/nologin", "Down for repair.\n").unwrap();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied);
    assert_eq!(helper.password("sesame"), Reply::Denied);
    helper.ends_saying("refused by password: /etc/nologin exists, so only root may log in");
    accounts.set_password("root", "rootpw");
    let mut helper = Helper::start().begin("root", "ttyUSB0", RootLogin::Yes);
    granted(helper.password("rootpw"));
}

#[test]
fn nologin_counts_in_run_and_without_our_pam_service_too() {
    let accounts = alice();
    fs::remove_file("/etc/pam.d/consoleserver").unwrap();
    accounts.run(&["mount", "-t", "tmpfs", "test-run", "/run"]);
    granted(Helper::login("alice").key(KEY));
    fs::write("/run/nologin", "").unwrap();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied);
    helper.ends_saying("/run/nologin exists");
}

/// Root with the password `rootpw`, the key `KEY`, and a home that is not the machine's /root.
fn root() -> Accounts {
    let accounts = Accounts::enter();
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let moved = users.replacen(":/root:", &format!(":{HOMES}/root:"), 1);
    assert_ne!(moved, users, "root's home is /root");
    fs::write("/etc/passwd", moved).unwrap();
    accounts.set_password("root", "rootpw");
    accounts.authorize("root", KEY);
    accounts
}

#[test]
fn root_logs_in_by_key_and_by_password_only_where_that_is_allowed() {
    let _accounts = root();
    let begin = |policy| Helper::start().begin("root", "ttyUSB0", policy);

    let mut helper = begin(RootLogin::Key);
    assert_eq!(helper.password("rootpw"), Reply::Denied);
    assert_eq!(granted(helper.key(KEY)).uid, 0);
    helper.ends_saying("refused by password: root may log in by key only");

    granted(begin(RootLogin::Yes).password("rootpw"));
    granted(begin(RootLogin::Yes).key(KEY));

    let mut helper = begin(RootLogin::No);
    assert_eq!(helper.offer(KEY), Reply::Denied);
    assert_eq!(helper.key(KEY), Reply::Denied);
    assert_eq!(helper.password("rootpw"), Reply::Denied);
    helper.ends_saying("refused by key: root may not log in");
}

#[test]
fn a_second_name_of_root_is_root() {
    let accounts = root();
    accounts.run(&["useradd", "--no-log-init", "-o", "-u", "0", "-M", "toor"]);
    accounts.set_password("toor", "rootpw");
    let mut helper = Helper::login("toor");
    assert_eq!(helper.password("rootpw"), Reply::Denied);
    helper.ends_saying("root may log in by key only");
}

#[test]
fn the_demonstration_key_opens_the_demonstration_port_alone() {
    let _accounts = alice();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("demo.pub");
    fs::write(&file, format!("{OTHER} demo\n")).unwrap();
    let demo = || {
        let mut command = Command::new(PROGRAM);
        command.arg("--demo-key").arg(&file);
        Helper::run(command)
    };
    for user in ["alice", "whoever", "-x\n", "root"] {
        let mut helper = demo().begin(user, "demo", RootLogin::No);
        assert_eq!(helper.offer(OTHER), Reply::Acceptable);
        let expected = Identity { name: "demo".to_owned(), uid: 65534, groups: vec![] };
        assert_eq!(granted(helper.key(OTHER)), expected);
    }
    for port in ["ttyUSB0", "demo2", "Demo"] {
        let mut helper = demo().begin("alice", port, RootLogin::Key);
        assert_eq!(helper.offer(OTHER), Reply::Denied, "{port}");
        assert_eq!(helper.key(OTHER), Reply::Denied, "{port}");
    }
    assert_eq!(granted(demo().begin("alice", "demo", RootLogin::Key).key(KEY)).name, "alice");
    assert_eq!(granted(demo().begin("alice", "demo", RootLogin::Key).password("sesame")).name, "alice");
    assert_eq!(Helper::start().begin("alice", "demo", RootLogin::Key).key(OTHER), Reply::Denied);
}

#[test]
fn a_demonstration_key_that_is_none_is_an_error_with_its_path() {
    let Ended { status, journal } = {
        let mut command = Command::new(PROGRAM);
        command.args(["--demo-key", "/etc/hostname"]);
        Helper::run(command).end()
    };
    assert_eq!(status.code(), Some(1));
    assert!(journal.contains("/etc/hostname does not hold one OpenSSH public key"), "{journal}");
}

#[test]
fn without_root_only_the_own_user_gets_in() {
    let accounts = alice();
    accounts.add("bob", Some("bobpw"));
    accounts.authorize("bob", KEY);
    // Where the sources lie, alice may not be able to look.
    let program = &Path::new(HOMES).join("console-auth");
    fs::copy(PROGRAM, program).unwrap();
    let alice = User::from_name("alice").unwrap().unwrap();
    let login = |user| {
        let mut command = Command::new(program);
        command.uid(alice.uid.as_raw()).gid(alice.gid.as_raw());
        Helper::run(command).begin(user, "ttyUSB0", RootLogin::Yes)
    };
    assert_eq!(granted(login("alice").key(KEY)).name, "alice");
    assert_eq!(granted(login("alice").password("sesame")).name, "alice");
    assert_eq!(login("alice").password("wrong"), Reply::Denied);
    for (user, password) in [("bob", "bobpw"), ("root", "x")] {
        let mut helper = login(user);
        assert_eq!(helper.password(password), Reply::Denied);
        assert_eq!(helper.key(KEY), Reply::Denied);
        helper.ends_saying("console-auth does not run as root, so only its own user");
    }
}

#[test]
fn six_tries_are_all() {
    let _accounts = alice();
    let mut helper = Helper::login("alice");
    for _ in 0..6 {
        assert_eq!(helper.key(OTHER), Reply::Denied);
    }
    assert_eq!(helper.reply(), None);
    helper.ends_saying("ended: too many tries");
}

#[test]
fn whoever_breaks_the_protocol_is_left() {
    let converse = Request::Converse;
    let key = Request::Key { key: KEY.to_owned() };
    for first in [&converse, &key, &Request::Answers(vec![])] {
        let mut helper = Helper::start();
        helper.send(first);
        ends_out_of_turn(helper, "the first request must be Begin");
    }
    let helper = Helper::login("alice").begin("alice", "ttyUSB0", RootLogin::Yes);
    ends_out_of_turn(helper, "Begin comes once");
    let mut helper = Helper::login("alice");
    helper.send(&Request::Answers(vec![Secret("sesame".to_owned())]));
    ends_out_of_turn(helper, "nothing was asked");
}

#[test]
fn whoever_breaks_a_conversation_is_left() {
    let _accounts = alice();
    for (request, reason) in [
        (Request::Answers(vec![]), "the number of answers"),
        (Request::Answers(vec![Secret("sesame".to_owned()), Secret(String::new())]), "the number of answers"),
        (Request::Key { key: KEY.to_owned() }, "PAM waits for answers"),
        (Request::Converse, "PAM waits for answers"),
    ] {
        let mut helper = Helper::login("alice");
        assert_eq!(helper.ask(&Request::Converse), prompts("Password: "));
        helper.send(&request);
        ends_out_of_turn(helper, reason);
    }
    let mut helper = Helper::login("alice");
    assert_eq!(helper.ask(&Request::Converse), prompts("Password: "));
    helper.ends_saying("the client left before it answered");
}

#[test]
fn what_is_no_message_ends_the_login() {
    let framed = |json: &str| [&(json.len() as u32).to_be_bytes(), json.as_bytes()].concat();
    let path = r#"{"Begin":{"user":"a","rhost":"192.0.2.7","port":"../../etc/passwd","root":"yes"}}"#;
    for (bytes, reason) in [
        (framed("junk!"), "a message that this protocol does not have"),
        (framed(r#""Spawn""#), "unknown variant `Spawn`"),
        (framed(path), "port name \"../../etc/passwd\" is not valid"),
        (u32::MAX.to_be_bytes().to_vec(), "longer than the 65536 that are taken"),
        (b"\0\0\0\x05ab".to_vec(), "the peer is gone"),
    ] {
        let mut helper = Helper::start();
        helper.stream.write_all(&bytes).unwrap();
        ends_out_of_turn(helper, reason);
    }
}

#[track_caller]
fn ends_out_of_turn(helper: Helper, reason: &str) {
    let Ended { status, journal } = helper.end();
    assert_eq!(status.code(), Some(1), "{journal}");
    assert!(journal.contains(reason), "{reason:?} is not in {journal:?}");
}

#[test]
fn whoever_connects_and_leaves_is_no_error() {
    assert!(Helper::start().end().status.success());
    assert!(Helper::login("alice").end().status.success());
}

#[test]
fn started_by_hand_it_says_how_it_is_started() {
    let output = Command::new(PROGRAM).env_remove("LISTEN_FDS").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("file descriptor 3 must be a connected unix stream socket"), "{said}");
}
