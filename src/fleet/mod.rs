//! Many servers: the names under which users reach them and their ports, and commands on all of them by OpenSSH's client.
//!
//! Nothing here is a protocol of our own, and no server knows of another one: `consolectl -H` is many `ssh -p 8022 HOST COMMAND`.

mod dial;
mod directory;
mod file;
mod former;
mod hosts;
mod identity;
mod publish;
mod remote;
mod resolve;
mod state;
mod update;

pub use dial::{DialError, dial};
pub use directory::Remark;
pub use file::{FleetFile, FleetFileError};
pub use hosts::{Host, HostError, HostGroups, HostPattern};
pub use publish::{Extent, PublishError, publish};
pub use remote::{Failure, Limits, Reply, run};
pub use state::remarks;
