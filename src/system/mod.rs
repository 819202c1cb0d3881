//! Linux and systemd: the clock and timers, descriptors that tokio watches, files that appear complete, messages
//! on unix sockets, the journal, and systemd's sockets, FD store and status. Each module does one thing for the rooms below.

pub mod byte_stream;
pub mod clock;
pub mod exit_signals;
pub mod failpoint;
pub mod lock;
pub mod memory;
pub mod outbound;
pub mod reactor;

pub mod accepting;
pub mod alarm;
pub mod journal;
pub mod message;
pub mod persist;
pub mod systemd;
