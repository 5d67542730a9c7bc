//! Tells the binary what it was built from, for `pinswitch_build_info`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=../.git/logs/HEAD");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let revision = output("git", &["rev-parse", "--short=12", "HEAD"]);
    println!("cargo::rustc-env=PINSWITCH_REVISION={revision}");
    println!("cargo::rustc-env=PINSWITCH_RUSTC={}", output(&rustc, &["--version"]));
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    if text.trim().is_empty() { "unknown".to_owned() } else { text.trim().to_owned() }
}
