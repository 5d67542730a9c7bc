//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, value_parser};

use crate::disk;
use crate::load::{ChipUse, Plan, Until};

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
    /// (bad_pin_blocks_per_minute) the switch answers 81 on that link to every PIN of that card,
    /// the right one too, until the minute is over: a sixth run within a minute fails.
    Check(SwitchArguments),
    /// Play cardholders with chips who change their PINs, and tell of each payment what was said
    /// and why it came out as it did.
    ///
    /// Two cards are made anew, story-visa (demo-chip) and story-m-chip (demo-mchip), and stay:
    /// `pinswitch transaction show story-visa` tells of them afterwards. Exit code 0 if all went
    /// as it should, 1 otherwise.
    Story(SwitchArguments),
    /// Send right and wrong PINs and measure throughput and latency.
    ///
    /// Without --rate the loop is closed: each connection keeps a window of requests in flight and
    /// sends the next one when an answer comes. A switch that slows down is therefore asked less,
    /// and the latencies leave out what a network with a fixed rate would have waited. With --rate
    /// the loop is open: every request has its time, and its latency counts from then. Exit code
    /// 0 if every request was sent and answered as its PIN calls for, 1 otherwise.
    Run(RunArguments),
    /// Serve as the bare echo that `run --echo` measures: every frame goes back as it came.
    Echo(EchoArguments),
    /// Serve as the bare HTTP handler that `measure_api` measures: each body goes back as it came.
    EchoHttp(EchoArguments),
    /// Measure what the bare disk does: writes followed by fdatasync, on a file of 64 MiB.
    Disk(DiskArguments),
    /// Measure how much time this machine takes away from who runs on it.
    #[command(hide = true)]
    Clocks(ClocksArguments),
}

/// Of `check` and `story`.
#[derive(Args)]
pub(crate) struct SwitchArguments {
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
    /// Requests in flight on each connection [default: 16]; with --rate the limit at which the
    /// switch does not keep up: one more is not sent, and the run fails [default: 1000].
    #[arg(long, value_parser = value_parser!(u16).range(1..=10_000))]
    pipeline: Option<u16>,
    /// How long to send, in seconds.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many requests to send in all, in place of --seconds.
    #[arg(long, conflicts_with = "seconds", value_parser = value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Threads that the connections are dealt to.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Open loop: requests a second over all connections. The thread that sends takes a core for
    /// itself.
    #[arg(long, conflicts_with = "threads", value_parser = value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Use so many cards of `pinswitch seed` in place of the four of the demo; they must be there.
    #[arg(long, value_parser = value_parser!(u32).range(1..=10_000_000))]
    cards: Option<u32>,
    /// Percentage of wrong PINs, from 0 to 50. A card whose last PIN was wrong gets the right one
    /// next, so no card is suspended; those left at the end get it after the measurement.
    #[arg(long, default_value_t = 0.0, requires = "cards", value_parser = percentage)]
    wrong_pins: f64,
    /// Pay with contact chips, with Visa's CVN 0A: the product of the seeded cards must have a
    /// table `chip` with the demo's keys for Visa and offline_pin.
    #[arg(long, value_enum, requires = "cards", conflicts_with = "wrong_pins")]
    chip: Option<ChipUse>,
    /// ATC of the first transaction of each chip. The switch takes each once: a later run on the
    /// same cards needs a higher one.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..))]
    atc_from: u16,
    /// What the draws of wrong PINs begin from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to speak. The demo listens for `binary` on port 8584.
    #[arg(long, value_enum, default_value_t = Dialect::Ascii)]
    dialect: Dialect,
    /// The other side is `loadtest echo`: the request itself is the answer.
    #[arg(long)]
    echo: bool,
    /// Report as one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A dialect of the demo.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dialect {
    Ascii,
    Binary,
}

impl Dialect {
    fn name(self) -> &'static str {
        match self {
            Dialect::Ascii => crate::DIALECT,
            Dialect::Binary => "iso8583-1987-binary",
        }
    }
}

impl RunArguments {
    /// # Errors
    /// If there are too few cards for it.
    pub(crate) fn plan(&self) -> Result<Plan, clap::Error> {
        let pipeline = self.pipeline.unwrap_or(if self.rate.is_some() { 1_000 } else { 16 });
        let plan = Plan {
            address: self.address,
            connections: self.connections,
            pipeline: pipeline.into(),
            until: match self.requests {
                Some(requests) => Until::Requests(requests),
                None => Until::Elapsed(Duration::from_secs(self.seconds)),
            },
            threads: self.threads.min(self.connections),
            rate: self.rate,
            cards: self.cards,
            wrong_pins_percent: self.wrong_pins,
            chips: self.chip.map(|kind| (kind, self.atc_from)),
            seed: self.seed,
            dialect: self.dialect.name(),
            echo: self.echo,
            stragglers: STRAGGLERS,
        };
        match self.cards {
            Some(cards) if u64::from(cards) < plan.cards_min() => Err(wrong_usage(&format!(
                "--cards must be at least {}: a card does not come again while it is in flight",
                plan.cards_min()
            ))),
            _ => Ok(plan),
        }
    }
}

/// Of `echo` and `echo-http`.
#[derive(Args)]
pub(crate) struct EchoArguments {
    /// Where to listen; a loopback address. Port 0: any, which is printed.
    #[arg(long, value_parser = loopback)]
    pub(crate) listen: SocketAddr,
    /// Threads that the connections are dealt to [default: one for each core].
    #[arg(long, value_parser = value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
}

impl EchoArguments {
    pub(crate) fn threads(&self) -> u16 {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(|| u16::try_from(cores()).unwrap_or(u16::MAX))
    }
}

/// Of `disk`.
#[derive(Args)]
pub(crate) struct DiskArguments {
    /// A new file of 64 MiB, on the disk to be measured. It is removed at the end.
    #[arg(long)]
    file: PathBuf,
    /// Bytes of a record.
    #[arg(long, default_value_t = 256, value_parser = value_parser!(u32).range(1..=1_048_576))]
    bytes: u32,
    /// Write so many single records a second, each with a sync.
    #[arg(long, required_unless_present = "group", conflicts_with = "group")]
    #[arg(value_parser = value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Write so many records at once, then sync, as fast as it goes.
    #[arg(long, value_parser = value_parser!(u32).range(1..=1_000_000))]
    group: Option<u32>,
    /// How long to write, in seconds.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Report as one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

impl DiskArguments {
    /// # Errors
    /// If a write would not fit into the file.
    pub(crate) fn plan(&self) -> Result<disk::Plan, clap::Error> {
        let pace = match (self.rate, self.group) {
            (Some(rate), _) => disk::Pace::Rate(rate),
            (None, group) => disk::Pace::Group(group.unwrap_or(1)),
        };
        let write = u64::from(self.group.unwrap_or(1)) * u64::from(self.bytes);
        if write > disk::FILE_BYTES as u64 {
            let text = format!("--group times --bytes is more than {} bytes", disk::FILE_BYTES);
            return Err(wrong_usage(&text));
        }
        Ok(disk::Plan {
            file: self.file.clone(),
            bytes: usize::try_from(self.bytes).unwrap_or(1),
            pace,
            seconds: self.seconds,
        })
    }
}

/// Of `clocks`.
#[derive(Args)]
pub(crate) struct ClocksArguments {
    /// How long to watch, in seconds.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,
}

fn wrong_usage(text: &str) -> clap::Error {
    Cli::command().error(ErrorKind::ValueValidation, text)
}

fn percentage(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=50.0).contains(number));
    number.ok_or_else(|| "expected a percentage from 0 to 50".to_owned())
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

    fn run(words: &str) -> Result<Plan, clap::Error> {
        let words = ["loadtest", "run"].into_iter().chain(words.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Run(arguments) => arguments.plan(),
            _ => panic!("run was asked for"),
        }
    }

    #[test]
    fn seconds_and_requests_exclude_each_other() {
        assert_eq!(run("").unwrap().until, Until::Elapsed(Duration::from_secs(10)));
        assert_eq!(run("--requests 7").unwrap().until, Until::Requests(7));
        assert_eq!(run("--connections 2 --threads 8").unwrap().threads, 2);
        assert!(run("--requests 7 --seconds 1").is_err());
        assert!(run("--pipeline 0").is_err());
        assert!(run("--rate 10 --threads 2").is_err());
    }

    #[test]
    fn the_window_is_wider_where_it_is_a_limit() {
        assert_eq!(run("").unwrap().pipeline, 16);
        assert_eq!(run("--rate 10").unwrap().pipeline, 1_000);
        assert_eq!(run("--rate 10 --pipeline 3").unwrap().pipeline, 3);
    }

    #[test]
    fn wrong_pins_need_more_cards_than_can_be_in_flight() {
        assert!(run("--wrong-pins 1").is_err());
        for (words, cards) in [
            ("--connections 3 --pipeline 5 --wrong-pins 0.5", 16),
            ("--connections 3 --pipeline 5 --wrong-pins 50 --threads 2", 22),
            ("--connections 3 --pipeline 5 --threads 2", 2),
        ] {
            assert!(run(&format!("{words} --cards {cards}")).is_ok(), "{words}");
            let error = run(&format!("{words} --cards {}", cards - 1));
            let text = error.unwrap_err().to_string();
            assert!(text.contains(&format!("--cards must be at least {cards}:")), "{text}");
        }
        for percentage in ["-1", "50.1", "NaN", "many"] {
            assert!(run(&format!("--cards 100000 --wrong-pins={percentage}")).is_err());
        }
    }

    #[test]
    fn a_disk_is_measured_at_a_rate_or_in_groups() {
        let plan = |words: &str| {
            let words = ["loadtest", "disk", "--file", "f"].into_iter().chain(words.split(' '));
            match Cli::try_parse_from(words)?.command {
                Command::Disk(arguments) => arguments.plan(),
                _ => panic!("disk was asked for"),
            }
        };
        assert!(matches!(plan("--rate 5").unwrap().pace, disk::Pace::Rate(5)));
        assert!(matches!(plan("--group 64 --bytes 1048576").unwrap().pace, disk::Pace::Group(64)));
        assert!(plan("--group 65 --bytes 1048576").is_err());
        assert!(plan("--bytes 100").is_err());
        assert!(plan("--rate 5 --group 5").is_err());
    }
}
