//! Runs helper programs with a timeout: systemd, its bus or a disk may hang. Disks are accessed by a helper for that reason alone: a
//! process with a thread in uninterruptible sleep (D) cannot be killed, so it must not be the process that the user waits for.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use thiserror::Error;

/// Bytes of an answer: more than systemctl prints for thousands of units.
const ANSWER_LIMIT: u64 = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct RunningQuery {
    child: Child,
    answer: mpsc::Receiver<io::Result<(Vec<u8>, Vec<u8>)>>,
    asked: Instant,
}

/// The output of a helper that exited.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

#[derive(Debug, Error)]
pub(super) enum NoAnswer {
    #[error(transparent)]
    Failed(#[from] io::Error),
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
}

impl RunningQuery {
    /// Starts a helper, without access to the terminal, so that it can be abandoned.
    pub(super) fn new(command: &mut Command) -> io::Result<Self> {
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (sender, answer) = mpsc::channel();
        // The thread ends with the helper or with this process: a read from a pipe is interruptible.
        std::thread::Builder::new().spawn(move || {
            let all = stdout.zip(stderr).map_or(Ok(Default::default()), |(stdout, stderr)| {
                let (mut out, mut err) = (Vec::new(), Vec::new());
                stdout.take(ANSWER_LIMIT).read_to_end(&mut out)?;
                stderr.take(ANSWER_LIMIT).read_to_end(&mut err)?;
                Ok((out, err))
            });
            // The receiver is gone after the timeout.
            let _ = sender.send(all);
        })?;
        Ok(Self { child, answer, asked: Instant::now() })
    }

    /// Waits until `limit` after the start; after that the helper is killed and abandoned.
    pub(super) fn within(mut self, limit: Duration) -> Result<Answer, NoAnswer> {
        let left = limit.saturating_sub(self.asked.elapsed());
        match self.answer.recv_timeout(left) {
            Ok(all) => {
                let (stdout, stderr) = all?;
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                Ok(Answer { status: self.child.wait()?, stdout: text(stdout), stderr: text(stderr) })
            }
            Err(_) => {
                // The process is not reaped: it may be in uninterruptible sleep.
                self.child.kill()?;
                Err(NoAnswer::Timeout(limit))
            }
        }
    }
}

/// Runs a helper for at most `limit`.
pub(super) fn ask(command: &mut Command, limit: Duration) -> Result<Answer, NoAnswer> {
    RunningQuery::new(command)?.within(limit)
}

/// Calls `ask` for each item, for `at_once` of them concurrently: one that hangs must not delay the others. `None` if it panics.
pub(super) fn each_at_once<I: Sync, T: Send>(
    items: &[I],
    at_once: usize,
    ask: impl Fn(&I) -> T + Sync,
) -> Vec<Option<T>> {
    let ask = &ask;
    let some_at_once = |some: &[I]| {
        std::thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|item| scope.spawn(move || ask(item))).collect();
            asked.into_iter().map(|asked| asked.join().ok()).collect::<Vec<_>>()
        })
    };
    items.chunks(at_once).flat_map(some_at_once).collect()
}

/// Lists a directory by a helper.
pub(super) fn names_in(directory: &Path, limit: Duration) -> Result<Vec<String>, NoAnswer> {
    let answer = ask(Command::new("ls").args(["-U1", "--"]).arg(directory), limit)?;
    match answer.status.success() {
        true => Ok(answer.stdout.lines().map(str::to_owned).collect()),
        false => Err(io::Error::other(answer.stderr.trim().to_owned()).into()),
    }
}

/// The size and free space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) size: u64,
    pub(super) free: u64,
}

/// The space of the file systems of directories: `Err` for one that hangs, `None` for a directory that does not exist.
pub(super) fn space_of(directories: &[PathBuf], limit: Duration) -> Vec<Result<Option<Space>, NoAnswer>> {
    const AT_ONCE: usize = 64;
    // One helper for all directories, unless a disk hangs.
    if let Ok(all) = space_together(directories, limit) {
        return directories.iter().map(|directory| Ok(all.get(directory).copied())).collect();
    }
    let ask = |directory: &PathBuf| {
        let format = ["--file-system", "--format=%S %b %a", "--"];
        RunningQuery::new(Command::new("stat").args(format).arg(directory))
    };
    let mut all = Vec::with_capacity(directories.len());
    for some in directories.chunks(AT_ONCE) {
        let asked: Vec<_> = some.iter().map(ask).collect();
        all.extend(asked.into_iter().map(|asked| Ok(space(&asked?.within(limit)?))));
    }
    all
}

fn space_together(directories: &[PathBuf], limit: Duration) -> Result<BTreeMap<PathBuf, Space>, NoAnswer> {
    if directories.is_empty() {
        return Ok(BTreeMap::new());
    }
    let format = ["--file-system", "--format=%S %b %a %n", "--"];
    let answer = ask(Command::new("stat").args(format).args(directories), limit)?;
    let one = |line: &str| {
        let (_, name) = line.match_indices(' ').nth(2).map(|(at, _)| line.split_at(at))?;
        Some((PathBuf::from(&name[1..]), space_in(line)?))
    };
    Ok(answer.stdout.lines().filter_map(one).collect())
}

fn space(answer: &Answer) -> Option<Space> {
    space_in(&answer.stdout)
}

fn space_in(text: &str) -> Option<Space> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (block, size, free) = (next()?, next()?, next()?);
    Some(Space { size: block * size, free: block * free })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_hangs_times_out_and_one_that_exits_is_read() {
        let answer =
            ask(Command::new("sh").args(["-c", "echo yes; exit 3"]), Duration::from_secs(60)).unwrap();
        assert_eq!((answer.stdout.as_str(), answer.status.code()), ("yes\n", Some(3)));
        let limit = Duration::from_millis(50);
        let hangs = ask(Command::new("sleep").arg("3600"), limit).unwrap_err();
        assert_eq!(hangs.to_string(), "no answer within 0.05 s");
    }

    #[test]
    fn the_space_of_a_directory_equals_statvfs_and_a_missing_one_has_none() {
        let room = tempfile::tempdir().unwrap();
        let directories = [room.path().to_owned(), room.path().join("none")];
        let spaces = space_of(&directories, Duration::from_secs(60));
        let right = nix::sys::statvfs::statvfs(room.path()).unwrap();
        let space = spaces[0].as_ref().unwrap().unwrap();
        assert_eq!(space.size, right.blocks() * right.fragment_size());
        assert_eq!(*spaces[1].as_ref().unwrap(), None);
    }
}
