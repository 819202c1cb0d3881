//! `dial`: a ProxyCommand of ssh_config(5) that finds a console in DNS.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use clap::Args;
use tokio::runtime::Runtime;

use crate::cli::error::{CommandError, Done};
use crate::fleet;

/// Bytes of one read.
const READ_CHUNK: usize = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Dial {
    /// Name of a console: core-switch.console
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Connects standard input and output to the console's SSH server, until the server closes the connection.
pub(in crate::cli) fn run(Dial { name }: &Dial, runtime: &Runtime) -> Done {
    let stream = runtime.block_on(fleet::dial(name, Path::new("/"))).map_err(CommandError::of_command)?;
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let to_server = stream.try_clone()?;
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // It ends with this process: ssh may keep its side open.
    thread::Builder::new().spawn(move || send(input, to_server))?;
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    match copy(&mut stream, &mut output) {
        // ssh has gone.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        copied => Ok(copied?),
    }
}

/// `io::copy` would splice(2): while that waits for the socket, it holds the lock of the pipe, and ssh cannot read what is in it.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut chunk = [0; READ_CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&chunk[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn send(mut input: File, mut to_server: TcpStream) {
    // The other direction ends in either case: after the server's last bytes, or with the error of the connection.
    let _ = copy(&mut input, &mut to_server);
    let _ = to_server.shutdown(Shutdown::Write);
}
