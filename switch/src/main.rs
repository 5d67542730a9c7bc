//! The binary: load the configuration, build, run, exit code. 0 done, 1 refused or failed,
//! 2 wrong usage.

mod cli;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use rustix::fs::Mode;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use tracing::Metadata;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::writer::MakeWriterExt;

use cli::{Cli, CliError};
use switch::config::{Config, LogConfig};
use switch::{metrics, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this fails. A mistake of a file begins with its place.
            let _ = match &error {
                CliError::Config(mistakes) => writeln!(io::stderr(), "{mistakes}"),
                error => writeln!(io::stderr(), "pinswitch: {error}"),
            };
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli) -> Result<(), CliError> {
    // Before the configuration, which reads the master key.
    protect_secrets().map_err(io::Error::from)?;
    let locked = lock_memory();
    let config = cli.config()?;
    let (_guards, dropped) = log_to_standard_error(config.log);
    if let Some(action) = &cli.action {
        return cli::act(action, &config);
    }
    if let Err(error) = locked {
        tracing::warn!(
            %error,
            "the memory is not locked: keys and PINs in it may be written to swap. Set \
             LimitMEMLOCK=infinity (ulimit -l unlimited) or give CAP_IPC_LOCK, or have no swap"
        );
    }
    check_descriptors(&config)?;
    let metrics = metrics::install().map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run::run(config, metrics, move || dropped.dropped_lines()));
    // What still reads or copies files keeps nobody waiting: it ends with the process, at once.
    runtime.shutdown_background();
    Ok(ended?)
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

/// Keeps all memory of this process, now and later, out of swap, each page from when it is used
/// first. Under a limit, what is asked for later would be refused as soon as the limit is reached,
/// and the process would end; so this is done only where no limit binds.
fn lock_memory() -> rustix::io::Result<()> {
    let before = getrlimit(Resource::Memlock);
    let unlimited = Rlimit { current: None, maximum: None };
    let is_unlimited = setrlimit(Resource::Memlock, unlimited).is_ok();
    if !is_unlimited {
        // Whoever may lock nothing is refused, unless by CAP_IPC_LOCK no limit holds for them. To
        // look for the capability itself would be misled in a user namespace.
        setrlimit(Resource::Memlock, Rlimit { current: Some(0), ..before })?;
    }
    let locked = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    if !is_unlimited {
        setrlimit(Resource::Memlock, before)?;
    }
    locked
}

/// Takes as many file descriptors as the system grants: without one, no journal segment can be
/// opened.
fn check_descriptors(config: &Config) -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let wanted = config.descriptors_max();
    match maximum {
        Some(granted) if granted < wanted as u64 => Err(io::Error::other(format!(
            "connections_max = {} and the other limits need {wanted} file descriptors, but the \
             system grants {granted} (ulimit -Hn)",
            config.limits.connections_max
        ))),
        _ => Ok(()),
    }
}

/// What a peer can cause in any number: its lines may be dropped.
const MANY: [&str; 2] = ["transaction", "connection"];

/// Logs leave by threads of their own, so that a reader who stalls delays no request. Lines that
/// peers can cause in any number are dropped and counted when they cannot be kept up with; all
/// others, audit among them, never are. The guards write what is left when they are dropped.
fn log_to_standard_error(config: LogConfig) -> ([WorkerGuard; 2], ErrorCounter) {
    let writer = |lossy| NonBlockingBuilder::default().lossy(lossy).finish(io::stderr());
    let (many, many_guard) = writer(true);
    let (few, few_guard) = writer(false);
    let dropped = many.error_counter();
    let is_of_many = |metadata: &Metadata<'_>| MANY.contains(&metadata.target());
    let writer = many.with_filter(is_of_many).or_else(few);
    let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false);
    match config.json {
        true => subscriber.json().flatten_event(true).init(),
        false => subscriber.init(),
    }
    ([many_guard, few_guard], dropped)
}
