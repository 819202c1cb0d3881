//! The configuration of a line.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;

use super::SourceConfig;
use crate::ownership::Claims;
use crate::port::{LineSettings, ModemLevels, PortName, Sequence};

#[derive(Debug, Clone, PartialEq)]
pub struct LineConfig {
    pub path: PathBuf,
    /// Which port each tty belongs to.
    pub claims: Claims,
    pub settings: LineSettings,
    /// Whether to request low latency from the driver.
    pub low_latency: bool,
    /// DTR and RTS when the device is opened.
    pub modem: ModemLevels,
    pub log_input: bool,
    pub break_sequence: Sequence,
    /// What is sent when no byte was received or sent for this time.
    pub keepalive: Option<(Duration, Sequence)>,
    /// What is connected to in place of a device.
    pub source: Option<SourceConfig>,
}

#[derive(Debug)]
pub struct Change {
    pub name: PortName,
    pub wanted: LineConfig,
    /// Receives the result: the settings that the driver refused, or why the device cannot be opened; empty if everything was applied.
    /// Dropped if a later change came before this one could be applied.
    pub told: oneshot::Sender<Vec<String>>,
}
