//! A client of pinswitch. `check` plays right and wrong PINs and says what differs from what is
//! expected; `story` plays cardholders with chips who change their PINs; `run` measures throughput
//! and latency; `echo` and `disk` are what to compare that with.
//!
//! It knows the demo's cards, PINs and zone PIN key, and therefore talks to loopback only.
//! Exit code 0: all as expected; 1: not; 2: wrong usage.

mod cards;
mod check;
mod cli;
mod clock;
mod clocks;
mod control;
mod disk;
mod echo;
mod echo_http;
mod frame;
mod latency;
mod link;
mod load;
mod machine;
mod numbers;
mod pacer;
mod pin_block;
mod request;
mod story;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use iso_specs::Spec;
use serde_json::Value;

use cli::{Cli, Command};
use control::Control;
use link::Link;

/// The dialect of the demo link.
const DIALECT: &str = "iso8583-1987-ascii";

fn main() -> ExitCode {
    match start(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went as expected.
fn start(command: Command) -> Result<bool, Box<dyn std::error::Error>> {
    match command {
        Command::Check(arguments) => {
            let control = Control::new(&arguments.data_dir);
            let link = Link::connect(arguments.address)?;
            let tally = check::check(&dialect(DIALECT)?, link, control, io::stdout())?;
            Ok(tally.failed == 0)
        }
        Command::Story(arguments) => {
            let control = Control::new(&arguments.data_dir);
            let link = Link::connect(arguments.address)?;
            Ok(story::tell(&dialect(DIALECT)?, link, control, io::stdout())?)
        }
        Command::Run(arguments) => {
            let plan = arguments.plan().unwrap_or_else(|error| error.exit());
            let outcome = load::run(dialect(plan.dialect)?, &plan)?;
            match arguments.json {
                true => say(&outcome.json())?,
                false => io::stdout().write_all(outcome.report().as_bytes())?,
            }
            Ok(outcome.is_clean())
        }
        Command::Echo(arguments) => {
            echo::serve(arguments.listen, arguments.threads())?;
            Ok(true)
        }
        Command::EchoHttp(arguments) => {
            echo_http::serve(arguments.listen, arguments.threads())?;
            Ok(true)
        }
        Command::Disk(arguments) => {
            let plan = arguments.plan().unwrap_or_else(|error| error.exit());
            let outcome = disk::run(plan)?;
            match arguments.json {
                true => say(&outcome.json())?,
                false => io::stdout().write_all(outcome.report().as_bytes())?,
            }
            Ok(outcome.is_clean())
        }
        Command::Clocks(arguments) => {
            say(&clocks::watch(Duration::from_secs(arguments.seconds))?)?;
            Ok(true)
        }
    }
}

fn dialect(name: &str) -> Result<Spec, Box<dyn std::error::Error>> {
    let text = Spec::builtin(name).ok_or("the dialect is not built in")?;
    Ok(Spec::from_toml(text)?)
}

fn say(document: &Value) -> io::Result<()> {
    writeln!(io::stdout(), "{document:#}")
}
