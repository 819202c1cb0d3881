//! What happens at a console, by the names under which `journalctl MESSAGE_ID=…` finds it. `units/consoleserver.catalog` has
//! the text that `journalctl -x` adds to each. Beside its id an event carries `console_port`, and `console_user` if
//! somebody did it. An id never changes and is never used again: people's scripts look for it.

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The device has come while its port waited for it.
    Plugged,
    /// The device has gone.
    Unplugged,
    /// The device was opened and set.
    Opened,
    /// It is there and cannot be opened.
    NotOpened,
    /// The port cannot be served: its configuration, or what else it needs, is wrong.
    NotServed,
    /// The configuration is wrong, and the port goes on with the last good one.
    NotApplied,
    /// Somebody has proven who they are.
    Login,
    /// Somebody was not let in.
    Refused,
    /// Somebody is at the console.
    Attach,
    /// And has left it.
    Detach,
    /// A break was sent.
    Break,
    /// Bytes are missing in the log.
    LogLost,
    /// The log cannot be written at present.
    LogStuck,
    /// A rule of a port has fired.
    Triggered,
    /// It has rested, and would have fired meanwhile.
    PassedOver,
    /// Somebody has changed a setting that is not in force yet.
    Set,
    /// A port has taken settings that were changed.
    Applied,
    /// The changes were written into /etc.
    Committed,
    /// What was committed was taken back.
    RolledBack,
    /// Changes are in force, and not committed.
    Reloaded,
    /// A commit on trial stays.
    Confirmed,
    /// Changes that were not committed were dropped.
    Reverted,
    /// A power command was run, or has ended.
    Power,
}

impl Event {
    /// All kinds.
    pub const ALL: [Self; 23] = [
        Self::Plugged,
        Self::Unplugged,
        Self::Opened,
        Self::NotOpened,
        Self::NotServed,
        Self::NotApplied,
        Self::Login,
        Self::Refused,
        Self::Attach,
        Self::Detach,
        Self::Break,
        Self::LogLost,
        Self::LogStuck,
        Self::Triggered,
        Self::PassedOver,
        Self::Set,
        Self::Applied,
        Self::Committed,
        Self::RolledBack,
        Self::Reloaded,
        Self::Confirmed,
        Self::Reverted,
        Self::Power,
    ];

    /// The value of the field `message_id` of its message.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Plugged => "becf2e83c51046edac519676a6e39b27",
            Self::Unplugged => "0061b3bc1e5541da92974414380a8dbc",
            Self::Opened => "750b8ffc113f4c20a4d08f05aa325946",
            Self::NotOpened => "cadd0fb6a436494d92e25bda72ea0cae",
            Self::NotServed => "d5bb3f97bd1e425eb47c519d2003b33e",
            Self::NotApplied => "e45891bf4d74482399799c9ce741517d",
            Self::Login => "a9418cd31d1d422db3240cbc8d6b51d0",
            Self::Refused => "b149474bbcb144e8923ff3b04326882b",
            Self::Attach => "371c8fefa17a412196b302f0f07a447f",
            Self::Detach => "54c5d4a72b5a42e7b8e0e9eebaf56555",
            Self::Break => "cb772a13c92b4a0abc5b05a6f1c200dd",
            Self::LogLost => "ea9b1cafb53f44bebb05a748b7567c39",
            Self::LogStuck => "617cdb077f464da686fb301126143bde",
            Self::Triggered => "31e2cc72b1f7477683c0d1008eda9de7",
            Self::PassedOver => "995a158bb2804cda971960e90c2d65f8",
            Self::Set => "f83917b68c96400f9a6a4684db449240",
            Self::Applied => "44c26bcccb91435fad65186f09da6e77",
            Self::Committed => "deb9f4439bbe4d73bb51fac1658e0336",
            Self::RolledBack => "e9612fe5ded240168d8843cc7cd6828d",
            Self::Reloaded => "53fe636484404feba5862e12b23b972b",
            Self::Confirmed => "df375f521e2e48899433c7abec2ea357",
            Self::Reverted => "48990450ed5f4f9780f2fed4d973b2c2",
            Self::Power => "66aa89b69a9847af882992dfc13a8f10",
        }
    }
}
