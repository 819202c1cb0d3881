//! Who somebody is. `protocol` is what the network processes and the root helper `console-auth` say to each
//! other; `client` is the network side; the other rooms run as root inside `console-auth`.

pub mod protocol;
