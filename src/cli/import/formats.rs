//! The formats, and their readers.

use super::error::ImportError;
use super::kind::{self, Program};
use super::lexer::Include;
use super::plan::Plan;
use super::source::Source;
use super::{conman, conserver, former, ini, ser2net};

/// Reads a text, and those that it includes, into a plan.
pub fn plan(
    program: Program,
    source: Source,
    include: &mut Include<'_>,
    this_host: &str,
) -> Result<Plan, ImportError> {
    match program {
        Program::Conserver => conserver::plan(source, include, this_host),
        Program::Ser2net if kind::is_former(&source.text) => former::plan(&source),
        Program::Ser2net => ser2net::plan(source, include),
        Program::Conman => conman::plan(&source),
        Program::Consoleserver => ini::plan(&source),
    }
}
