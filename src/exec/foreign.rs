//! Commands that programs send to a shell, which does not run here: `scp`, `rsync`, `ssh-copy-id`, Ansible. Each is refused with
//! a sentence that names what works instead.

use thiserror::Error;

use super::words::first_word;

/// Why the command of a program cannot be run. Its Display is what the user reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ForeignCommand {
    /// `scp`, `sftp`, `rsync`.
    #[error(
        "{0}: files cannot be transferred here; sz, rz and sx send them to a device through ssh -T, see CLIENTS in console@.service(8)"
    )]
    FileTransfer(&'static str),
    /// `ssh-copy-id`.
    #[error(
        "ssh-copy-id: keys cannot be stored here; run it at this machine's own SSH port, since the same authorized_keys count here"
    )]
    CopyId,
    /// A shell.
    #[error(
        "{0}: no shell runs here; help lists the commands, and CLIENTS in console@.service(8) what Ansible and other tools need"
    )]
    Shell(&'static str),
}

const FILE_TRANSFERS: [&str; 4] = ["scp", "sftp", "sftp-server", "rsync"];
/// `exec` is how ssh-copy-id begins, `mosh-server` how mosh does.
const SHELLS: [&str; 7] = ["sh", "bash", "zsh", "ksh", "exec", "python3", "mosh-server"];

/// What is wrong with a line that is meant for a shell.
pub fn foreign(line: &[u8]) -> Option<ForeignCommand> {
    // It may be longer than a command of ours, and its text is not looked at.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As OpenSSH 9.2's scp -O, rsync 3.2, ssh-copy-id, Ansible 2.14, mosh 1.4 and VS Code send them.
    #[test]
    fn what_programs_send_is_known() {
        use ForeignCommand::{CopyId, FileTransfer, Shell};
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
        for ours in ["log -n 5", "status", "show version", "send scp\\r", "", "grep authorized_keys"] {
            assert_eq!(foreign(ours.as_bytes()), None, "{ours}");
        }
    }
}
