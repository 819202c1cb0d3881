#![allow(dead_code)] // Each test program uses its own part of this.
//! A real terminal: tmux's, in which a client runs. It obeys and answers control sequences, and shows the resulting screen.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::rig::{run, until};

/// The state of a terminal that a device can change: cursor, modes, mouse, scrolling, tabs, titles.
const STATE: &str = "#{cursor_flag} #{insert_flag} #{keypad_cursor_flag} #{keypad_flag} #{mouse_any_flag} #{mouse_sgr_flag} \
                     #{mouse_utf8_flag} #{origin_flag} #{wrap_flag} #{alternate_on} #{scroll_region_upper} \
                     #{scroll_region_lower} #{pane_tabs} #{pane_title} #{window_name}";

/// One terminal, with a client in it.
pub struct Tmux {
    dir: TempDir,
}

impl Tmux {
    pub fn start(client: &Command) -> Self {
        let dir = tempfile::Builder::new().prefix("tmux").tempdir().unwrap();
        let terminal = Self { dir };
        std::fs::write(
            terminal.path("conf"),
            "set -g status off\nset -g allow-rename on\nset -g automatic-rename off\nset -g set-clipboard on\nset -g allow-passthrough on\n",
        )
        .unwrap();
        let mut start = terminal.tmux(&["new-session", "-d", "-n", "judge", "-x", "100", "-y", "40", "--"]);
        run(start.arg(client.get_program()).args(client.get_args()));
        run(&mut terminal.tmux(&["select-pane", "-T", "untitled"]));
        terminal
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tmux(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        // Without a locale of UTF-8 it takes no characters of it.
        command.env_remove("TMUX").env("LC_ALL", "C.UTF-8").arg("-u");
        command.arg("-S").arg(self.path("socket")).arg("-f").arg(self.path("conf")).args(words);
        command
    }

    fn asks(&self, words: &[&str]) -> String {
        let output = self.tmux(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until these words are on the screen.
    #[track_caller]
    pub fn shows(&self, words: &str) {
        let caller = std::panic::Location::caller();
        until(&format!("{words:?} on the screen ({caller})"), || {
            self.asks(&["capture-pane", "-p", "-J"]).contains(words).then_some(())
        });
    }

    /// Waits until these words are in its last row.
    #[track_caller]
    pub fn shows_at_the_bottom(&self, words: &str) {
        let caller = std::panic::Location::caller();
        until(&format!("{words:?} in the last row ({caller})"), || {
            let screen = self.asks(&["capture-pane", "-p"]);
            let rows: usize = self.asks(&["display-message", "-p", "#{pane_height}"]).trim().parse().unwrap();
            screen.lines().nth(rows - 1)?.contains(words).then_some(())
        });
    }

    /// The text on the screen.
    pub fn screen(&self) -> String {
        self.asks(&["capture-pane", "-p"]).trim_end().to_owned()
    }

    /// The same with its colours.
    pub fn coloured_screen(&self) -> String {
        self.asks(&["capture-pane", "-p", "-e"]).trim_end().to_owned()
    }

    /// Its state: its modes, whether the last line has colours left over, and its clipboard.
    pub fn state(&self) -> String {
        let screen = self.asks(&["capture-pane", "-p", "-e"]);
        let last = screen.trim_end().lines().last().unwrap_or_default();
        let coloured = if last.contains('\x1b') { "coloured" } else { "plain" };
        let buffers = self.asks(&["list-buffers"]);
        format!("{} {coloured} clipboard: {buffers}", self.asks(&["display-message", "-p", STATE]).trim_end())
    }

    /// Resizes its window.
    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        run(&mut self.tmux(&["resize-window", "-x", &columns, "-y", &rows]));
    }

    /// Types these characters.
    pub fn types(&self, keys: &str) {
        for key in keys.bytes() {
            run(&mut self.tmux(&["send-keys", "-H", &format!("{key:02x}")]));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("on the screen:\n{}", self.asks(&["capture-pane", "-p"]));
        }
        // It may have ended already, with its client.
        let _ = self.tmux(&["kill-server"]).output();
    }
}
