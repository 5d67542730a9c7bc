//! Does one operation so many times: `work NAME TIMES`. See `tests/instructions`.

use tests::operations::Operations;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let [_, name, times] = words.as_slice() else { panic!("work NAME TIMES") };
    let times = times.parse().expect("a number");
    let mut operations = Operations::new(0);
    match name.as_str() {
        "decode" => (0..times).for_each(|_| operations.decode()),
        "encode" => operations.encode(times),
        "card_key" => (0..times).for_each(|_| operations.card_key()),
        "verify_pin" => (0..times).for_each(|_| operations.verify_pin()),
        "chip" => (0..times).for_each(|_| operations.chip(false)),
        "chip_script" => (0..times).for_each(|_| operations.chip(true)),
        "transaction" => (0..times).for_each(|_| operations.transaction()),
        _ => panic!("no such operation: {name}"),
    }
}
