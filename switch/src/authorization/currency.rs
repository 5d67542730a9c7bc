//! ISO 4217: the numeric code of a currency whose letters a message has, and how many digits its
//! amounts have behind the point.

/// The numeric code of three letters in upper case; `None` where ISO 4217 has no such currency.
#[must_use]
pub fn numeric(letters: &[u8]) -> Option<u16> {
    let found = CODES.binary_search_by(|(known, _)| known.as_slice().cmp(letters)).ok()?;
    CODES.get(found).map(|(_, number)| *number)
}

/// How many digits amounts of a currency have behind the point; `None` for what is no currency, or
/// has no minor unit.
#[must_use]
pub fn exponent(numeric: u16) -> Option<u8> {
    match numeric {
        // Metals, units of account, bonds, a test and "no currency".
        955..=965 | 994 | 999 => None,
        108 | 152 | 262 | 324 | 352 | 392 | 410 | 548 | 600 | 646 | 704 | 800 | 940 | 950 | 952
        | 953 | 174 => Some(0),
        48 | 368 | 400 | 414 | 434 | 512 | 788 => Some(3),
        927 | 990 => Some(4),
        known => CODES.iter().any(|(_, number)| *number == known).then_some(2),
    }
}

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAnAmount {
    /// It is no decimal number without a sign, or too large.
    Unreadable,
    /// It has more digits behind the point than the currency.
    TooFine,
}

/// The minor units of a decimal number such as `50.00`, of a currency with this exponent.
///
/// # Errors
/// If it is none, or finer than the currency.
pub fn minor_units(text: &str, exponent: u8) -> Result<u64, NotAnAmount> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    if !are_digits(whole) || !fraction.is_none_or(are_digits) {
        return Err(NotAnAmount::Unreadable);
    }
    let fraction = fraction.unwrap_or_default();
    let width = usize::from(exponent);
    if fraction.len() > width {
        return Err(NotAnAmount::TooFine);
    }
    format!("{whole}{fraction:0<width$}").parse().map_err(|_| NotAnAmount::Unreadable)
}

/// Letters and number of each currency, also of those that another has replaced since 2010: an
/// issuer may still have them.
#[rustfmt::skip]
static CODES: [([u8; 3], u16); 183] = [
    (*b"AED", 784), (*b"AFN", 971), (*b"ALL", 8), (*b"AMD", 51), (*b"AOA", 973),
    (*b"ARS", 32), (*b"AUD", 36), (*b"AWG", 533), (*b"AZN", 944), (*b"BAM", 977),
    (*b"BBD", 52), (*b"BDT", 50), (*b"BGN", 975), (*b"BHD", 48), (*b"BIF", 108),
    (*b"BMD", 60), (*b"BND", 96), (*b"BOB", 68), (*b"BOV", 984), (*b"BRL", 986),
    (*b"BSD", 44), (*b"BTN", 64), (*b"BWP", 72), (*b"BYN", 933), (*b"BZD", 84),
    (*b"CAD", 124), (*b"CDF", 976), (*b"CHE", 947), (*b"CHF", 756), (*b"CHW", 948),
    (*b"CLF", 990), (*b"CLP", 152), (*b"CNY", 156), (*b"COP", 170), (*b"COU", 970),
    (*b"CRC", 188), (*b"CUC", 931), (*b"CUP", 192), (*b"CVE", 132), (*b"CZK", 203),
    (*b"DJF", 262), (*b"DKK", 208), (*b"DOP", 214), (*b"DZD", 12), (*b"EGP", 818),
    (*b"ERN", 232), (*b"ETB", 230), (*b"EUR", 978), (*b"FJD", 242), (*b"FKP", 238),
    (*b"GBP", 826), (*b"GEL", 981), (*b"GHS", 936), (*b"GIP", 292), (*b"GMD", 270),
    (*b"GNF", 324), (*b"GTQ", 320), (*b"GYD", 328), (*b"HKD", 344), (*b"HNL", 340),
    (*b"HRK", 191), (*b"HTG", 332), (*b"HUF", 348), (*b"IDR", 360), (*b"ILS", 376),
    (*b"INR", 356), (*b"IQD", 368), (*b"IRR", 364), (*b"ISK", 352), (*b"JMD", 388),
    (*b"JOD", 400), (*b"JPY", 392), (*b"KES", 404), (*b"KGS", 417), (*b"KHR", 116),
    (*b"KMF", 174), (*b"KPW", 408), (*b"KRW", 410), (*b"KWD", 414), (*b"KYD", 136),
    (*b"KZT", 398), (*b"LAK", 418), (*b"LBP", 422), (*b"LKR", 144), (*b"LRD", 430),
    (*b"LSL", 426), (*b"LYD", 434), (*b"MAD", 504), (*b"MDL", 498), (*b"MGA", 969),
    (*b"MKD", 807), (*b"MMK", 104), (*b"MNT", 496), (*b"MOP", 446), (*b"MRU", 929),
    (*b"MUR", 480), (*b"MVR", 462), (*b"MWK", 454), (*b"MXN", 484), (*b"MXV", 979),
    (*b"MYR", 458), (*b"MZN", 943), (*b"NAD", 516), (*b"NGN", 566), (*b"NIO", 558),
    (*b"NOK", 578), (*b"NPR", 524), (*b"NZD", 554), (*b"OMR", 512), (*b"PAB", 590),
    (*b"PEN", 604), (*b"PGK", 598), (*b"PHP", 608), (*b"PKR", 586), (*b"PLN", 985),
    (*b"PYG", 600), (*b"QAR", 634), (*b"RON", 946), (*b"RSD", 941), (*b"RUB", 643),
    (*b"RWF", 646), (*b"SAR", 682), (*b"SBD", 90), (*b"SCR", 690), (*b"SDG", 938),
    (*b"SEK", 752), (*b"SGD", 702), (*b"SHP", 654), (*b"SLE", 925), (*b"SLL", 694),
    (*b"SOS", 706), (*b"SRD", 968), (*b"SSP", 728), (*b"STN", 930), (*b"SVC", 222),
    (*b"SYP", 760), (*b"SZL", 748), (*b"THB", 764), (*b"TJS", 972), (*b"TMT", 934),
    (*b"TND", 788), (*b"TOP", 776), (*b"TRY", 949), (*b"TTD", 780), (*b"TWD", 901),
    (*b"TZS", 834), (*b"UAH", 980), (*b"UGX", 800), (*b"USD", 840), (*b"USN", 997),
    (*b"UYI", 940), (*b"UYU", 858), (*b"UYW", 927), (*b"UZS", 860), (*b"VED", 926),
    (*b"VES", 928), (*b"VND", 704), (*b"VUV", 548), (*b"WST", 882), (*b"XAD", 396),
    (*b"XAF", 950), (*b"XAG", 961), (*b"XAU", 959), (*b"XBA", 955), (*b"XBB", 956),
    (*b"XBC", 957), (*b"XBD", 958), (*b"XCD", 951), (*b"XCG", 532), (*b"XDR", 960),
    (*b"XOF", 952), (*b"XPD", 964), (*b"XPF", 953), (*b"XPT", 962), (*b"XSU", 994),
    (*b"XTS", 963), (*b"XUA", 965), (*b"XXX", 999), (*b"YER", 886), (*b"ZAR", 710),
    (*b"ZMW", 967), (*b"ZWG", 924), (*b"ZWL", 932),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_the_number_that_they_are_listed_with() {
        for (letters, number) in [("AED", 784), ("EUR", 978), ("USD", 840), ("JPY", 392)] {
            assert_eq!(numeric(letters.as_bytes()), Some(number), "{letters}");
        }
        for letters in ["eur", "EU", "EURO", "ZZZ", "978", ""] {
            assert_eq!(numeric(letters.as_bytes()), None, "{letters}");
        }
    }

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        for (letters, digits) in [
            ("EUR", Some(2)),
            ("JPY", Some(0)),
            ("KRW", Some(0)),
            ("KMF", Some(0)),
            ("XOF", Some(0)),
            ("KWD", Some(3)),
            ("TND", Some(3)),
            ("CLF", Some(4)),
            ("UYW", Some(4)),
            ("XAU", None),
            ("XDR", None),
            ("XXX", None),
        ] {
            assert_eq!(exponent(numeric(letters.as_bytes()).unwrap()), digits, "{letters}");
        }
        assert_eq!((exponent(0), exponent(1), exponent(1_000)), (None, None, None));
    }

    #[test]
    fn a_decimal_number_becomes_minor_units_exactly() {
        for (text, exponent, minor) in [
            ("50.00", 2, 5_000),
            ("50", 2, 5_000),
            ("50.5", 2, 5_050),
            ("0.07", 2, 7),
            ("0.1", 2, 10),
            ("007.10", 2, 710),
            ("50", 0, 50),
            ("1.2345", 4, 12_345),
            ("184467440737095516.15", 2, u64::MAX),
        ] {
            assert_eq!(minor_units(text, exponent), Ok(minor), "{text}");
        }
        for text in ["50.001", "50.000", "0.005"] {
            assert_eq!(minor_units(text, 2), Err(NotAnAmount::TooFine), "{text}");
        }
        assert_eq!(minor_units("50.0", 0), Err(NotAnAmount::TooFine));
        for text in
            ["", ".", ".5", "5.", "-5", "+5", "5e1", "5,0", "5.0.0", " 5", "184467440737095516.16"]
        {
            assert_eq!(minor_units(text, 2), Err(NotAnAmount::Unreadable), "{text}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_no_number_stands_for_two_currencies() {
        assert!(CODES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let mut numbers: Vec<u16> = CODES.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), CODES.len());
        assert!(numbers.iter().all(|number| (1..=999).contains(number)));
    }
}
