//! The decoder of `iso8583-1987-ascii`.
#![no_main]

use std::sync::LazyLock;

use iso_specs::Spec;
use iso_specs_fuzz::{check_frame, dialect};
use libfuzzer_sys::fuzz_target;

static SPEC: LazyLock<Spec> = LazyLock::new(|| dialect("iso8583-1987-ascii"));

fuzz_target!(|frame: &[u8]| check_frame(&SPEC, frame));
