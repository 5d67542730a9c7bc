//! What the digits of a message type identifier mean, in words (ISO 8583:1987, 4.1).

use super::Mti;

impl Mti {
    /// The four digits in words: edition, class, function, and who sends it.
    #[must_use]
    pub const fn words(self) -> [&'static str; 4] {
        [self.version_words(), self.class_words(), self.function_words(), self.origin_words()]
    }

    const fn version_words(self) -> &'static str {
        match self.version() {
            0 => "ISO 8583:1987",
            1 => "ISO 8583:1993",
            2 => "ISO 8583:2003",
            8 => "national use",
            9 => "private use",
            _ => "reserved version",
        }
    }

    const fn class_words(self) -> &'static str {
        match self.class() {
            1 => "authorization",
            2 => "financial",
            3 => "file action",
            4 => "reversal",
            5 => "reconciliation",
            6 => "administrative",
            7 => "fee collection",
            8 => "network management",
            _ => "reserved class",
        }
    }

    const fn function_words(self) -> &'static str {
        match self.function() {
            0 => "request",
            1 => "request response",
            2 => "advice",
            3 => "advice response",
            4 => "notification",
            5 => "notification acknowledgement",
            6 => "instruction",
            7 => "instruction acknowledgement",
            _ => "reserved function",
        }
    }

    const fn origin_words(self) -> &'static str {
        match self.origin() {
            0 => "acquirer",
            1 => "acquirer, repeat",
            2 => "issuer",
            3 => "issuer, repeat",
            4 => "other",
            5 => "other, repeat",
            _ => "reserved origin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_has_its_words() {
        let words = |digits: &[u8; 4]| Mti::new(*digits).unwrap().words().join("; ");
        assert_eq!(words(b"0100"), "ISO 8583:1987; authorization; request; acquirer");
        assert_eq!(words(b"1423"), "ISO 8583:1993; reversal; advice; issuer, repeat");
        let last = "ISO 8583:2003; network management; request response; other";
        assert_eq!(words(b"2814"), last);
        assert!(words(b"7099").matches("reserved").count() == 4);
    }
}
