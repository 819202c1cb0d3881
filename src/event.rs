//! The kinds of events in the journal, as found by `journalctl MESSAGE_ID=…`. `units/consoleserver.catalog`
//! has the text that `journalctl -x` adds to each. An event also has the field `console_port`, and
//! `console_user` if a user caused it. An ID never changes and is never reused: scripts search for it.

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $id:literal,)*) => {
        /// A kind of event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event {
            $($(#[$doc])* $name,)*
        }

        impl Event {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The field `message_id` of its messages.
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }
        }
    };
}

events! {
    /// The device was plugged in while the port waited for it.
    Plugged = "becf2e83c51046edac519676a6e39b27",
    /// The device was unplugged.
    Unplugged = "0061b3bc1e5541da92974414380a8dbc",
    /// The device was opened and its line settings applied.
    Opened = "750b8ffc113f4c20a4d08f05aa325946",
    /// The device exists and cannot be opened.
    NotOpened = "cadd0fb6a436494d92e25bda72ea0cae",
    /// The port cannot be served, because its configuration or something else is wrong.
    NotServed = "d5bb3f97bd1e425eb47c519d2003b33e",
    /// The configuration is invalid, and the port uses the last valid one.
    NotApplied = "e45891bf4d74482399799c9ce741517d",
    /// A user has authenticated.
    Login = "a9418cd31d1d422db3240cbc8d6b51d0",
    /// A client was denied access.
    Denied = "b149474bbcb144e8923ff3b04326882b",
    /// A session has attached.
    Attach = "371c8fefa17a412196b302f0f07a447f",
    /// A session has detached.
    Detach = "54c5d4a72b5a42e7b8e0e9eebaf56555",
    /// A break was sent.
    Break = "cb772a13c92b4a0abc5b05a6f1c200dd",
    /// Bytes are missing in the log.
    LogLost = "ea9b1cafb53f44bebb05a748b7567c39",
    /// The log cannot be written at present.
    LogStuck = "617cdb077f464da686fb301126143bde",
    /// A trigger has fired.
    Triggered = "31e2cc72b1f7477683c0d1008eda9de7",
    /// Further matches of a trigger were suppressed during its cooldown.
    TriggerSuppressed = "995a158bb2804cda971960e90c2d65f8",
    /// A setting of the candidate was changed.
    Set = "f83917b68c96400f9a6a4684db449240",
    /// A port has applied changed settings.
    Applied = "44c26bcccb91435fad65186f09da6e77",
    /// Changes were written to /etc.
    Committed = "deb9f4439bbe4d73bb51fac1658e0336",
    /// A commit was rolled back.
    RolledBack = "e9612fe5ded240168d8843cc7cd6828d",
    /// Changes were reloaded but not committed.
    Reloaded = "53fe636484404feba5862e12b23b972b",
    /// A commit that waited was confirmed.
    Confirmed = "df375f521e2e48899433c7abec2ea357",
    /// Uncommitted changes were dropped.
    Reverted = "48990450ed5f4f9780f2fed4d973b2c2",
    /// A power command was started or has ended.
    Power = "66aa89b69a9847af882992dfc13a8f10",
}
