//! `commit`, `confirm` and `revert`.

use std::io::Write;

use clap::{Args, Subcommand};

use crate::admin::confirm::MAX_CONFIRM_SECONDS;
use crate::cli::client::{Client, print_remarks};
use crate::cli::error::Done;
use crate::cli::service::sentence;
use crate::exec;

#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Commit {
    #[command(subcommand)]
    pub trial: Option<Trial>,
}

/// `commit confirm MINUTES`, `commit mine`, `commit mine confirm MINUTES`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Trial {
    /// Commit, and roll back unless `confirm` follows within MINUTES
    Confirm {
        /// Timeout in minutes
        #[arg(value_parser = minutes)]
        minutes: u32,
    },
    /// Commit your own changes only; those of other users stay uncommitted
    #[command(disable_help_subcommand = true)]
    Mine {
        #[command(subcommand)]
        trial: Option<MineOnTrial>,
    },
}

/// `commit mine confirm MINUTES`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum MineOnTrial {
    /// Commit, and roll back unless `confirm` follows within MINUTES
    Confirm {
        /// Timeout in minutes
        #[arg(value_parser = minutes)]
        minutes: u32,
    },
}

/// The limit of console-admin, in minutes.
const MAX_MINUTES: u32 = MAX_CONFIRM_SECONDS / 60;

fn minutes(word: &str) -> Result<u32, String> {
    exec::minutes(word, 1..=MAX_MINUTES)
}

pub(in crate::cli) async fn run(Commit { trial }: Commit, client: &Client, to: &mut impl Write) -> Done {
    let manager = &client.service().await?.manager;
    let before = manager.uncommitted().await.map_err(sentence)?;
    let (minutes, is_mine) = match trial {
        None => (None, false),
        Some(Trial::Confirm { minutes }) => (Some(minutes), false),
        Some(Trial::Mine { trial: None }) => (None, true),
        Some(Trial::Mine { trial: Some(MineOnTrial::Confirm { minutes }) }) => (Some(minutes), true),
    };
    let committed = match (minutes, is_mine) {
        // Changes of other users are not committed, so they need not have been shown.
        (minutes, true) => manager.commit_mine(0, 60 * minutes.unwrap_or(0)).await,
        (None, false) => manager.commit(client.revision()).await,
        (Some(minutes), false) => manager.commit_confirmed(client.revision(), 60 * minutes).await,
    };
    print_remarks(committed.map_err(sentence)?, to)?;
    client.mark_shown().await?;
    let count = match is_mine {
        true => before.saturating_sub(manager.uncommitted().await.map_err(sentence)?),
        false => before,
    };
    let changes = match count {
        // console-admin has reported it.
        0 => return Ok(()),
        1 => "1 change".to_owned(),
        _ => format!("{count} changes"),
    };
    match minutes {
        None => writeln!(to, "{changes} committed"),
        Some(1) => writeln!(to, "{changes} committed; rolled back unless you `confirm` within 1 minute"),
        Some(n) => writeln!(to, "{changes} committed; rolled back unless you `confirm` within {n} minutes"),
    }?;
    Ok(())
}

pub(in crate::cli) async fn confirm(client: &Client, to: &mut impl Write) -> Done {
    client.service().await?.manager.confirm().await.map_err(sentence)?;
    Ok(writeln!(to, "confirmed")?)
}

pub(in crate::cli) async fn revert(client: &Client, to: &mut impl Write) -> Done {
    print_remarks(client.service().await?.manager.revert().await.map_err(sentence)?, to)?;
    client.mark_shown().await
}
