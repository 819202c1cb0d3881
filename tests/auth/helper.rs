//! A `console-auth` started for a test, the protocol spoken by hand, and Alice, who logs in.

use std::io::Read;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use consoleserver::auth::protocol::{Identity, Prompt, Reply, Request, Secret, Target};
use consoleserver::config::RootLogin;
use consoleserver::system::message;

use crate::accounts::Accounts;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_console-auth");
pub const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
pub const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKI/9gdlBNNq2lICe+kic2SLt7h+hBTAhGykEIU5PH/L";

/// Fingerprint of `KEY`, as `ssh-keygen -l` prints it.
pub const FINGERPRINT: &str = "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ";

/// A running console-auth and the socket to it.
pub struct Helper {
    pub stream: UnixStream,
    child: Child,
}

/// The results of a console-auth that has exited.
pub struct Ended {
    pub status: ExitStatus,
    pub journal: String,
}

impl Helper {
    pub fn start() -> Self {
        Self::run(Command::new(PROGRAM))
    }

    pub fn run(mut command: Command) -> Self {
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

    pub fn login(user: &str) -> Self {
        Self::start().begin(user, "ttyUSB0", RootLogin::Key)
    }

    pub fn begin(self, user: &str, port: &str, root: RootLogin) -> Self {
        self.at(user, Target::Port(port.parse().unwrap()), root)
    }

    pub fn at(mut self, user: &str, target: Target, root: RootLogin) -> Self {
        let rhost: IpAddr = "192.0.2.7".parse().unwrap();
        self.send(&Request::Begin { user: user.to_owned(), rhost, target, root });
        self
    }

    pub fn send(&mut self, request: &Request) {
        message::send(&mut self.stream, request).unwrap();
    }

    pub fn ask(&mut self, request: &Request) -> Reply {
        self.send(request);
        self.reply().expect("a reply, and the connection is closed")
    }

    pub fn reply(&mut self) -> Option<Reply> {
        message::receive(&mut self.stream).unwrap()
    }

    pub fn key(&mut self, key: &str) -> Reply {
        self.ask(&Request::Key { key: key.to_owned(), flags: None })
    }

    pub fn offer(&mut self, key: &str) -> Reply {
        self.ask(&Request::Offer { key: key.to_owned() })
    }

    pub fn answer(&mut self, answer: &str) -> Reply {
        self.ask(&Request::Answers(vec![Secret(answer.into())]))
    }

    /// A conversation with a password prompt only.
    pub fn password(&mut self, password: &str) -> Reply {
        let asked = self.ask(&Request::Converse);
        assert_eq!(asked, prompts("Password: "));
        self.answer(password)
    }

    pub fn end(mut self) -> Ended {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"", "nothing more on the wire");
        let output = self.child.wait_with_output().unwrap();
        Ended { status: output.status, journal: String::from_utf8(output.stderr).unwrap() }
    }

    /// The client disconnects, and reads nothing more.
    pub fn leave(self) -> Ended {
        drop(self.stream);
        let output = self.child.wait_with_output().unwrap();
        Ended { status: output.status, journal: String::from_utf8(output.stderr).unwrap() }
    }

    /// Ends it and checks the reason.
    pub fn ends_saying(self, reason: &str) -> String {
        let Ended { journal, .. } = self.end();
        assert!(journal.contains(reason), "{reason:?} is not in {journal:?}");
        journal
    }
}

pub fn prompts(text: &str) -> Reply {
    Reply::Prompts {
        instructions: String::new(),
        prompts: vec![Prompt { text: text.to_owned(), echo: false }],
    }
}

#[track_caller]
pub fn granted(reply: Reply) -> Identity {
    match reply {
        Reply::Granted(identity) => identity,
        other => panic!("not granted: {other:?}"),
    }
}

/// Alice, whose password is `sesame` and whose key is `KEY`.
pub fn alice() -> Accounts {
    let accounts = Accounts::enter();
    accounts.add("alice", Some("sesame"));
    accounts.authorize("alice", &format!("{KEY} alice@laptop\n"));
    accounts
}
