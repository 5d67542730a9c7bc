//! The commands on the store: check it, copy it, read its events.

use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use switch::clock::{Clock, SystemClock};
use switch::config::Config;
use switch::control::{self, Command, Reply};
use switch::store::embedded::{backup as copy, check as read};

use super::{CliError, ask_and_print, no_store};

/// The words of `events`.
#[derive(Args)]
pub(crate) struct EventWords {
    /// After this event; without it, and without a reader, from the oldest that is kept on.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// After what this reader has acknowledged, if anything; or who acknowledges, or is forgotten.
    #[arg(long, value_name = "NAME", conflicts_with = "after")]
    reader: Option<String>,
    /// The reader has everything up to this event: nothing is printed.
    #[arg(long, value_name = "ID", requires = "reader")]
    acknowledge: Option<String>,
    /// There is no such reader any more: nothing is printed, and nothing kept for it.
    #[arg(long, requires = "reader", conflicts_with = "acknowledge")]
    forget: bool,
}

pub(super) fn events(config: &Config, words: &EventWords) -> Result<(), CliError> {
    let EventWords { after, count, reader, acknowledge, forget } = words;
    let command = match reader {
        Some(reader) if acknowledge.is_some() || *forget => {
            Command::Acknowledge { reader: reader.clone(), through: acknowledge.clone() }
        }
        reader => {
            let (after, reader) = (after.clone(), reader.clone());
            Command::Events { after, reader, count: *count }
        }
    };
    ask_and_print(config, command)
}

pub(super) fn check(config: &Config, directory: Option<&Path>) -> Result<(), CliError> {
    let data_dir = directory.unwrap_or(&config.data_dir);
    let checked = read::check(data_dir).map_err(|error| CliError::Refused(error.to_string()))?;
    let mut out = io::stdout().lock();
    for line in &checked.lines {
        writeln!(out, "{line}")?;
    }
    match checked.is_damaged {
        true => {
            Err(CliError::Refused(format!("{}: not all of the store is well", data_dir.display())))
        }
        false => Ok(()),
    }
}

/// By the running switch, which may have another working directory; else of what lies there.
pub(super) fn backup(config: &Config, directory: &Path) -> Result<(), CliError> {
    let to = std::path::absolute(directory)?;
    let said = match control::ask(&config.data_dir, &Command::Backup { to: to.clone() }.into())? {
        Some(Reply::Values(values)) => values.into_iter().map(|(_, value)| value).collect(),
        Some(Reply::Refused(refusal)) => return Err(refusal.into()),
        Some(_) => String::new(),
        None if !config.data_dir.join("journal").exists() => return Err(no_store(config)),
        None => {
            let made = copy::backup_of_stopped(&config.data_dir, &to, SystemClock.now());
            made.map_err(|error| CliError::Refused(error.to_string()))?.to_string()
        }
    };
    Ok(writeln!(io::stdout(), "{}: {said}", to.display())?)
}
