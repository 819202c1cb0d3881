//! `import`: converts the configuration of another console server. Readers produce a [`Plan`] of the ports and of what is not imported:
//! `conserver` reads conserver.cf(5) by `lexer` and `blocks`, `conman` conman.conf(5), `ser2net` reads ser2net.yaml(5) by `yaml` and `former` its format before
//! 4.0, and `ini` reads config.ini of ConsoleServer. `foreign` recognizes files of other programs. They do no I/O; their caller reads included files. `carry` applies the plan.

mod blocks;
mod breaks;
mod carry;
mod conman;
mod consent;
mod conserver;
mod error;
mod foreign;
mod formats;
mod former;
mod gensio;
mod ini;
mod kind;
mod lexer;
mod options;
mod plan;
mod remote;
mod ser2net;
mod source;
mod subst;
#[cfg(test)]
mod tests;
mod words;
mod yaml;

pub use carry::ImportOptions;
pub(super) use carry::run;
pub use error::{ImportError, SourceLine};
pub use formats::plan;
pub use kind::Program;
pub use lexer::Include;
pub use plan::{Draft, Plan};
pub use source::Source;
