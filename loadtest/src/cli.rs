//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, value_parser};

use crate::load::{Plan, Until};

/// How long the last answers may take.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// A client of pinswitch with the demo's cards, for loopback addresses only.
#[derive(Parser)]
#[command(name = "loadtest", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be done.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Play right and wrong PINs on the demo cards and compare every answer.
    ///
    /// Each exchange is printed masked, with `pass` or `FAIL`. At the end the cards are active
    /// again. Exit code 0 if everything passed, 1 otherwise.
    ///
    /// Each run sends one unusable PIN block for demo-card-3. After five of them in a minute
    /// (bad_pin_blocks_per_minute) the switch answers 81 to every PIN of that card, the right one
    /// too, until the minute is over: a sixth run within a minute fails.
    Check(CheckArguments),
    /// Send right PINs and measure throughput and latency.
    ///
    /// The loop is closed: each connection keeps a window of requests in flight and sends the
    /// next one when an answer comes. A switch that slows down is therefore asked less, and the
    /// latencies leave out what a network with a fixed rate would have waited. Exit code 0 if
    /// every request was approved, 1 otherwise.
    Run(RunArguments),
}

/// Of `check`.
#[derive(Args)]
pub(crate) struct CheckArguments {
    /// Where the switch listens for ISO 8583; a loopback address.
    #[arg(long, default_value = "127.0.0.1:8583", value_parser = loopback)]
    pub(crate) address: SocketAddr,
    /// The data directory of the switch, which holds its control socket.
    #[arg(long, default_value = "./pinswitch-data", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}

/// Of `run`.
#[derive(Args)]
pub(crate) struct RunArguments {
    /// Where the switch listens for ISO 8583; a loopback address.
    #[arg(long, default_value = "127.0.0.1:8583", value_parser = loopback)]
    address: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 16, value_parser = value_parser!(u16).range(1..=10_000))]
    pipeline: u16,
    /// How long to send, in seconds.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many requests to send in all, in place of --seconds.
    #[arg(long, conflicts_with = "seconds", value_parser = value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Threads that the connections are dealt to.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=64))]
    threads: u16,
}

impl RunArguments {
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            address: self.address,
            connections: self.connections,
            pipeline: self.pipeline.into(),
            until: match self.requests {
                Some(requests) => Until::Requests(requests),
                None => Until::Elapsed(Duration::from_secs(self.seconds)),
            },
            threads: self.threads.min(self.connections),
            stragglers: STRAGGLERS,
        }
    }
}

/// Demo keys and PINs must not leave the machine.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "expected address:port, such as 127.0.0.1:8583".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("only a loopback address is allowed: the PINs and keys are public".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_taken() {
        for (text, allowed) in [
            ("127.0.0.1:8583", true),
            ("127.9.9.9:1", true),
            ("[::1]:8583", true),
            ("10.0.0.1:8583", false),
            ("0.0.0.0:8583", false),
            ("[::]:8583", false),
            ("localhost:8583", false),
            ("127.0.0.1", false),
        ] {
            let arguments = ["loadtest", "run", "--address", text];
            assert_eq!(Cli::try_parse_from(arguments).is_ok(), allowed, "{text}");
        }
    }

    #[test]
    fn seconds_and_requests_exclude_each_other() {
        let parse = |words: &str| {
            Cli::try_parse_from(["loadtest", "run"].into_iter().chain(words.split_whitespace()))
        };
        let plan = |words: &str| match parse(words).unwrap().command {
            Command::Run(arguments) => arguments.plan(),
            Command::Check(_) => panic!("run was asked for"),
        };
        assert_eq!(plan("").until, Until::Elapsed(Duration::from_secs(10)));
        assert_eq!(plan("--requests 7").until, Until::Requests(7));
        assert_eq!(plan("--connections 2 --threads 8").threads, 2);
        assert!(parse("--requests 7 --seconds 1").is_err());
        assert!(parse("--pipeline 0").is_err());
    }
}
