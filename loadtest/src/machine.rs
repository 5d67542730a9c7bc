//! The machine that something was measured on.

use serde_json::{Value, json};

/// `cores` (that this process may use) and `cpu_model` (as the kernel names it, or `null`).
pub(crate) fn machine() -> Value {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({ "cores": cores, "cpu_model": model.map(|(_, name)| name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_cores() {
        assert!(machine()["cores"].as_u64().unwrap() >= 1);
    }
}
