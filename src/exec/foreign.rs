//! Commands that programs send to a remote shell, which does not exist here: `scp`, `rsync`, `ssh-copy-id`, Ansible. Each is rejected
//! with a sentence that names an alternative.

use thiserror::Error;

use super::words::first_word;

/// Why such a command is rejected. Display is the error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ForeignCommand {
    #[error(
        "{0}: file transfer is not supported here; to send files to a device use sz, rz or sx through ssh -T, see CLIENTS in console@.service(8)"
    )]
    FileTransfer(&'static str),
    #[error(
        "ssh-copy-id: keys cannot be installed here; run it against this machine's own SSH port, since the same authorized_keys are used here"
    )]
    CopyId,
    #[error(
        "{0}: there is no shell here; help lists the commands; for Ansible and other tools see CLIENTS in console@.service(8)"
    )]
    Shell(&'static str),
    #[error("{0}: there is no shell here; `status` succeeds if the port is open; help lists the commands")]
    Probe(&'static str),
}

const FILE_TRANSFERS: [&str; 4] = ["scp", "sftp", "sftp-server", "rsync"];
/// ssh-copy-id sends `exec`, mosh sends `mosh-server`.
const SHELLS: [&str; 7] = ["sh", "bash", "zsh", "ksh", "exec", "python3", "mosh-server"];

/// Commands by which scripts and monitors test a login. The admin CLI has a command `exit`.
const PROBES: [&str; 9] = [":", "date", "echo", "exit", "hostname", "id", "true", "uname", "uptime"];

/// Why a command line for a shell is rejected; `None` if it is not one.
pub fn foreign(line: &[u8]) -> Option<ForeignCommand> {
    // Before the length and encoding are checked, because it may be longer than our commands.
    let text = String::from_utf8_lossy(line);
    let (program, rest) = first_word(text.trim());
    let name = program.rsplit('/').next().unwrap_or(program);
    let among = |names: &[&'static str]| names.iter().copied().find(|known| *known == name);
    if let Some(name) = among(&FILE_TRANSFERS) {
        return Some(ForeignCommand::FileTransfer(name));
    }
    let shell = among(&SHELLS)?;
    Some(match rest.contains("authorized_keys") {
        true => ForeignCommand::CopyId,
        false => ForeignCommand::Shell(shell),
    })
}

/// Why a command line that only tries whether a port's login works is rejected; `None` if it is not one.
pub fn probe(line: &[u8]) -> Option<ForeignCommand> {
    let text = String::from_utf8_lossy(line);
    let (program, _) = first_word(text.trim());
    PROBES.into_iter().find(|known| *known == program).map(ForeignCommand::Probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As OpenSSH 9.2's scp -O, rsync 3.2, ssh-copy-id, Ansible 2.14, mosh 1.4 and VS Code send them.
    #[test]
    fn commands_of_other_programs_are_recognized() {
        use ForeignCommand::{CopyId, FileTransfer, Probe, Shell};
        for (line, wanted) in [
            ("scp -t /tmp/x", FileTransfer("scp")),
            ("rsync --server -e.LsfxCIvu . /tmp/", FileTransfer("rsync")),
            ("/usr/lib/openssh/sftp-server", FileTransfer("sftp-server")),
            ("exec sh -c 'cd ; umask 077 ; mkdir -p .ssh && { cat >> .ssh/authorized_keys'", CopyId),
            ("/bin/sh -c 'echo ~alice && sleep 0'", Shell("sh")),
            ("mosh-server new -s -c 8", Shell("mosh-server")),
            ("bash", Shell("bash")),
        ] {
            assert_eq!(foreign(line.as_bytes()), Some(wanted), "{line}");
        }
        for (line, wanted) in [("true", "true"), ("exit 0", "exit"), ("echo ok", "echo")] {
            assert_eq!(probe(line.as_bytes()), Some(Probe(wanted)), "{line}");
        }
        for ours in ["log -n 5", "status", "show version", "send scp\\r", "", "grep authorized_keys"] {
            assert_eq!(foreign(ours.as_bytes()), None, "{ours}");
        }
    }
}
