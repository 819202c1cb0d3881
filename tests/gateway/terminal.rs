//! The prompt, on a terminal.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::bench::Bench;
use crate::client::Client;
use crate::programs::Program;
use crate::rig::{TIMEOUT, sha256};

#[test]
fn the_window_is_the_clients_and_follows_it() {
    let bench = Bench::new();
    follows(&bench, &bench.ssh(&["-t", "alice@127.0.0.1"]));
    follows(&bench, &bench.other(Program::Plink));
    let mut client = Client::start(bench.other(Program::Paramiko));
    client.sees("at your service\r\n");
    client.type_in("size\r");
    client.sees("size 30 90\r\n");
    client.signal(Signal::SIGUSR1);
    client.sees("resized to 50 132\r\n");
    client.type_in("exit 7\r");
    client.ends_with(7);
    bench.helpers_have_ended();
}

/// A client that looks at its own terminal. The size changes until it is reported, as OpenSSH 9.2 misses a SIGWINCH that comes just before it
/// polls: to one width, and to another only after the first had time to arrive, since a terminal of the same size again sends no signal.
fn follows(bench: &Bench, client: &Command) {
    let words: Vec<_> = client.get_args().map(|word| word.to_str().unwrap()).collect();
    let script = format!(
        "set timeout {}\n\
         set stty_init {{rows 30 columns 90}}\n\
         spawn -noecho {} {}\n\
         proc await {{words}} {{\n\
           expect -ex $words {{}} timeout {{ exit 3 }} eof {{ exit 4 }}\n\
         }}\n\
         await \"at your service\"\n\
         send \"size\\r\"\n\
         await \"size 30 90\"\n\
         set seen 0\n\
         set timeout 1\n\
         for {{set tries 0}} {{!$seen && $tries < {}}} {{incr tries}} {{\n\
           stty rows 50 columns 131 < $spawn_out(slave,name)\n\
           expect -ex \"resized to 50 131\" {{}} timeout {{}} eof {{ exit 4 }}\n\
           stty rows 50 columns 132 < $spawn_out(slave,name)\n\
           expect -ex \"resized to 50 132\" {{ set seen 1 }} timeout {{}} eof {{ exit 4 }}\n\
         }}\n\
         if {{!$seen}} {{ exit 3 }}\n\
         set timeout {}\n\
         send \"exit 7\\r\"\n\
         expect eof {{}} timeout {{ exit 3 }}\n\
         exit [lindex [wait] 3]\n",
        TIMEOUT.as_secs(),
        client.get_program().to_str().unwrap(),
        words.join(" "),
        TIMEOUT.as_secs(),
        TIMEOUT.as_secs(),
    );
    let mut expect = Command::new("expect");
    expect.envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = expect.args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stdout));
    bench.helpers_have_ended();
}

#[test]
fn the_end_of_input_is_typed() {
    let bench = Bench::new();
    let mut client = bench.at_terminal();
    client.type_in("say hello\r");
    client.end_input();
    client.sees("hello\r\n");
    client.sees("the end of input\r\n");
    client.ends_with(0);
    bench.helpers_have_ended();
}

#[test]
fn a_command_may_have_a_terminal_and_ten_megabytes_are_complete() {
    let bench = Bench::new();
    let mut client = Client::start(bench.ssh(&["-tt", "alice@127.0.0.1", "flood 10000000"]));
    client.ends_with(0);
    assert_eq!(sha256(&client.shown()), sha256(&b"0123456789abcde\r\n".repeat(10_000_000 / 16)));
}

#[test]
fn a_strange_terminal_type_is_dumb() {
    let bench = Bench::new();
    let mut ssh = bench.ssh(&["-tt", "alice@127.0.0.1", "report"]);
    ssh.env("TERM", "../../etc/passwd");
    let mut client = Client::start(ssh);
    client.sees("TERM=dumb ");
    client.ends_with(0);
}
