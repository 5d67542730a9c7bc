//! A link of `iso8583-1987-ascii`: frames behind their lengths, to a whole switch.
#![no_main]

use libfuzzer_sys::fuzz_target;
use switch_fuzz::Link;

thread_local! {
    static LINK: Link = Link::open("iso8583-1987-ascii");
}

fuzz_target!(|stream: &[u8]| LINK.with(|link| link.check(stream)));
