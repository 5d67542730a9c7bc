//! A client of pinswitch. `check` plays right and wrong PINs and says what differs from what is
//! expected; `run` measures throughput and latency.
//!
//! It knows the demo's cards, PINs and zone PIN key, and therefore talks to loopback only.
//! Exit code 0: all as expected; 1: not; 2: wrong usage.

mod cards;
mod check;
mod cli;
mod clock;
mod frame;
mod load;
mod numbers;
mod pin_block;
mod request;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use iso_specs::Spec;

use cli::{Cli, Command};

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
    let text = Spec::builtin(DIALECT).ok_or("the dialect is not built in")?;
    let spec = Spec::from_toml(text)?;
    match command {
        Command::Check(arguments) => {
            let control = check::Control::new(&arguments.data_dir);
            let link = check::Link::connect(arguments.address)?;
            let tally = check::check(&spec, link, control, io::stdout())?;
            Ok(tally.failed == 0)
        }
        Command::Run(arguments) => {
            let outcome = load::run(spec, &arguments.plan())?;
            io::stdout().write_all(outcome.report().as_bytes())?;
            Ok(outcome.is_clean())
        }
    }
}
