//! `check-config`: what a configuration without mistakes says, in a few lines.

use std::io::{self, Write};

use switch::config::Config;
use switch::run;

use super::CliError;

/// Prints what would listen, what is issued, where the data is and whether the keys are there.
/// Nothing is changed.
pub(super) fn print_summary(config: &Config) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    for link in &config.links {
        let (name, listen, dialect) = (&link.name, link.listen, link.dialect.name());
        let (frames, connections, peers) = (link.frames, link.connections_max, &link.peers);
        writeln!(out, "link     {name}  {listen}  {dialect}, {frames}")?;
        writeln!(out, "         {connections} connections from {peers}")?;
    }
    for product in &config.products {
        let (name, bins, currency) = (&product.name, product.bins.join(", "), product.currency);
        writeln!(out, "product  {name}  BIN {bins}  currency {currency:03}")?;
    }
    writeln!(out, "admin    {}", config.admin)?;
    if let Some(api) = &config.api {
        let tls = api.tls.as_ref().map_or("", |_| "  TLS");
        writeln!(out, "api      {}{tls}", api.listen)?;
    }
    writeln!(out, "data     {}", config.data_dir.display())?;
    let faults = match run::check_keys(config)? {
        None => return Ok(out.flush()?),
        Some(faults) => faults,
    };
    if !faults.is_empty() {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        return Err(CliError::Refused(faults.join("\n")));
    }
    writeln!(out, "keys     all that it names are there")?;
    Ok(out.flush()?)
}
