//! The generator against a small switch that answers as it is told.

use std::io::{Read, Write};
use std::net::TcpListener;

use iso_specs::{OutgoingMessage, decode};

use super::*;
use crate::frame;

fn spec() -> Spec {
    Spec::from_toml(Spec::builtin(crate::DIALECT).unwrap()).unwrap()
}

/// Listens, and answers the requests of each connection with the codes that `code` gives for
/// their numbers, from 0; `None` is no answer. Answers of one read leave in reverse order.
fn serve(code: fn(usize) -> Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || answer(stream, code));
        }
    });
    address
}

fn answer(mut stream: TcpStream, code: fn(usize) -> Option<&'static str>) {
    let spec = spec();
    let (mut input, mut number) = (Vec::new(), 0);
    let mut bytes = [0; 1_000];
    loop {
        let mut answers = Vec::new();
        while let Some((request, rest)) = frame::split_first(&input) {
            if let Some(code) = code(number) {
                answers.push(reply(&spec, request, code));
            }
            number += 1;
            input = rest.to_vec();
        }
        answers.reverse();
        if stream.write_all(&answers.concat()).is_err() {
            return;
        }
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(count) => input.extend_from_slice(&bytes[..count]),
        }
    }
}

fn reply(spec: &Spec, request: &[u8], code: &str) -> Vec<u8> {
    let request = decode(spec, request).unwrap();
    assert_eq!(request.fault, None);
    let message = &request.message;
    let (mti, elements) = (message.mti().response(), *spec.echo(message.mti()));
    let mut answer = OutgoingMessage::echo(mti, message, elements);
    answer.set(39, code.as_bytes());
    let (mut message, mut out) = (Vec::new(), Vec::new());
    answer.encode(spec, &mut message).unwrap();
    assert!(frame::append(&message, &mut out));
    out
}

pub(super) fn plan(address: SocketAddr, until: Until) -> Plan {
    Plan {
        address,
        connections: 3,
        pipeline: 7,
        until,
        threads: 2,
        rate: None,
        cards: None,
        wrong_pins_percent: 0.0,
        chips: None,
        seed: 1,
        dialect: "iso8583-1987-ascii",
        echo: false,
        stragglers: Duration::from_secs(1),
    }
}

#[test]
fn as_many_requests_are_sent_as_asked_and_all_are_matched() {
    let address = serve(|_| Some("00"));
    let outcome = run(spec(), &plan(address, Until::Requests(1_000))).unwrap();
    let report = outcome.report();
    assert!(outcome.is_clean(), "{report}");
    assert!(report.contains("sent      1000\nanswered  1000 in"), "{report}");
    assert!(report.contains("DE39 00   1000\nmissing    0\nunexpected 0\n"), "{report}");
}

#[test]
fn sending_ends_with_the_time() {
    let address = serve(|_| Some("00"));
    let until = Until::Elapsed(Duration::from_millis(50));
    let outcome = run(spec(), &plan(address, until)).unwrap();
    assert!(outcome.is_clean(), "{}", outcome.report());
}

#[test]
fn answers_that_do_not_come_are_missing() {
    let address = serve(|number| if number == 20 { None } else { Some("00") });
    let outcome = run(spec(), &plan(address, Until::Requests(300))).unwrap();
    let report = outcome.report();
    assert!(!outcome.is_clean(), "{report}");
    assert!(report.contains("sent      300\nanswered  297 in"), "{report}");
    assert!(report.contains("missing    3\nunexpected 0\n"), "{report}");
}

#[test]
fn declines_are_unexpected_and_shown_masked() {
    let address = serve(|number| Some(if number == 5 { "55" } else { "00" }));
    let outcome = run(spec(), &plan(address, Until::Requests(30))).unwrap();
    let report = outcome.report();
    assert!(!outcome.is_clean(), "{report}");
    assert!(report.contains("DE39 00   27\nDE39 55   3\nmissing    0\nunexpected 3\n"), "{report}");
    assert!(report.contains("\nunexpected: 0110 2=476134******00"), "{report}");
}

#[test]
fn a_switch_that_goes_away_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 100]).unwrap();
        }
    });
    let outcome = run(spec(), &plan(address, Until::Requests(100))).unwrap();
    server.join().unwrap();
    let report = outcome.report();
    assert!(!outcome.is_clean(), "{report}");
    assert!(
        report.contains("missing    21\n") && report.contains("a connection broke"),
        "{report}"
    );
}

#[test]
fn requests_are_dealt_out_to_the_last() {
    let shares = (0..3).map(|index| Until::Requests(11).share(index, 3));
    let expected = [4, 4, 3].map(Until::Requests);
    assert_eq!(shares.collect::<Vec<_>>(), expected);
}
