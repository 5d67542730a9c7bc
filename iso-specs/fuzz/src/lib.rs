//! What must hold for any frame whatsoever. A panic is a finding.

use iso_specs::{Message, OutgoingMessage, Spec, decode, examine, redact};

/// A dialect that ships.
pub fn dialect(name: &str) -> Spec {
    let text = Spec::builtin(name).expect("a dialect that ships");
    Spec::from_toml(text).expect("a dialect without mistakes")
}

/// Reads a frame in every way there is. What was read without a fault can be written again, and
/// reads the same then.
pub fn check_frame(spec: &Spec, frame: &[u8]) {
    let shown =
        examine(spec, frame).map(|examined| redact::listing(&examined, |_| None).to_string());
    let Ok(decoded) = decode(spec, frame) else { return };
    assert!(shown.is_ok(), "a frame that decodes can be shown");
    let values = values(&decoded.message);
    if decoded.fault.is_some() {
        return;
    }
    let mut again = OutgoingMessage::new(decoded.message.mti());
    for (element, value) in &values {
        again.set(*element, value);
    }
    let mut written = Vec::new();
    again.encode(spec, &mut written).expect("what was read can be written");
    let read = decode(spec, &written).expect("what was written can be read");
    assert_eq!(read.fault, None);
    assert_eq!(self::values(&read.message), values);
}

/// Every value in every form, also where there is too little room for it.
fn values(message: &Message<'_>) -> Vec<(u8, Vec<u8>)> {
    let mut room = [0; 2_048];
    let mut canonical = |field: iso_specs::Field<'_>| {
        let _ = (field.text(&mut []), field.bytes(&mut []), field.canonical(&mut [0; 7]));
        let _ = (field.text(&mut room).is_some(), field.bytes(&mut room).is_some(), field.number());
        let value = field.canonical(&mut room).expect("room for every value");
        (field.element().number(), value.to_vec())
    };
    let line = message.to_string();
    assert!(line.starts_with(&message.mti().to_string()));
    message.elements().map(&mut canonical).collect()
}
