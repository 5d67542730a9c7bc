//! The binary: load the configuration, build, run, exit code. 0 done, 1 refused or failed,
//! 2 wrong usage.

mod cli;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask,
};
use tracing::Metadata;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::writer::MakeWriterExt;

use cli::{Cli, CliError};
use switch::config::LogConfig;
use switch::{metrics, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "pinswitch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli) -> Result<(), CliError> {
    let config = cli.config()?;
    protect_secrets().map_err(io::Error::from)?;
    let (_guard, dropped) = log_to_standard_error(config.log);
    if let Some(action) = &cli.action {
        return cli::act(action, &config);
    }
    let metrics = metrics::install().map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(run::run(config, metrics, move || dropped.dropped_lines()))?)
}

/// Keys and PINs pass through this process's memory: no core dump is ever written, neither to a
/// file nor to a collector (which does not ask for the limit). What it creates is for its owner.
fn protect_secrets() -> rustix::io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}

/// Lines of transactions leave by a thread of their own, so that a full pipe delays no request;
/// what it cannot keep up with is dropped and counted. All other lines, audit among them, are few
/// and are never dropped. The guard writes what is left when it is dropped.
fn log_to_standard_error(config: LogConfig) -> (WorkerGuard, ErrorCounter) {
    let (writer, guard): (NonBlocking, WorkerGuard) =
        NonBlockingBuilder::default().lossy(true).finish(io::stderr());
    let dropped = writer.error_counter();
    let is_transaction = |metadata: &Metadata<'_>| metadata.target() == "transaction";
    let writer = writer.with_filter(is_transaction).or_else(io::stderr);
    let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false);
    match config.json {
        true => subscriber.json().flatten_event(true).init(),
        false => subscriber.init(),
    }
    (guard, dropped)
}
