//! `check-config`: what a configuration without mistakes says, in a few lines.

use std::io::{self, Write};

use switch::config::Config;

/// Prints what would listen, what is issued and where the data is; nothing is opened for it.
pub(super) fn print_summary(config: &Config) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for link in &config.links {
        let (name, listen, dialect) = (&link.name, link.listen, link.dialect.name());
        writeln!(out, "link     {name}  {listen}  {dialect}, {}", link.frames)?;
    }
    for product in &config.products {
        let (name, bins, currency) = (&product.name, product.bins.join(", "), product.currency);
        writeln!(out, "product  {name}  BIN {bins}  currency {currency:03}")?;
    }
    writeln!(out, "admin    {}", config.admin)?;
    writeln!(out, "data     {}", config.data_dir.display())?;
    out.flush()
}
