//! Dialect files: the shipped one, and every mistake of a bad one.

mod support;

use iso_specs::{
    BitmapEncoding, ChipTag, ContentType, Encoding, Length, Mti, MtiEncoding, PinChange,
    PrefixEncoding, ResponseCodeColumn, Sign, Spec, SpecErrors, UnusedNibble,
};
use support::{BINARY, SHIPPED, builtin, shipped};

#[test]
fn the_shipped_dialects_define_everything() {
    assert_eq!(Spec::builtin_names().collect::<Vec<_>>(), [SHIPPED, BINARY]);
    assert_eq!(Spec::builtin("no such dialect"), None);
    for name in [SHIPPED, BINARY] {
        let spec = builtin(name);
        assert_eq!(spec.name(), name);
        let numbers: Vec<_> = spec.elements().map(|element| element.number()).collect();
        assert_eq!(numbers, (2..=128).collect::<Vec<_>>());
        assert_eq!((spec.element(0), spec.element(1), spec.element(129)), (None, None, None));
        assert_eq!(spec.response_code_column(), ResponseCodeColumn::Y1987);
        assert_eq!(spec.reason_code_field(), Some(44));
        let pin_change = PinChange { transaction_type: *b"92", new_pin_block: 63 };
        assert_eq!(spec.pin_change(), Some(pin_change));
        assert_eq!(spec.response_code_override("1872"), None);
    }
}

#[test]
fn an_element_has_one_line() {
    for name in [SHIPPED, BINARY] {
        let (_, elements) = Spec::builtin(name).unwrap().split_once("[elements]\n").unwrap();
        assert_eq!(elements.lines().count(), 127);
    }
}

/// What an element is does not depend on how it is written.
#[test]
fn the_shipped_dialects_have_the_same_elements() {
    let (ascii, binary) = (shipped(), builtin(BINARY));
    for (one, other) in ascii.elements().zip(binary.elements()) {
        assert_eq!(one.number(), other.number());
        assert_eq!(one.name(), other.name());
        // DE90 may have blanks, which packed digits cannot be.
        let is_same = one.content_type() == other.content_type();
        assert!(is_same || one.number() == 90, "{}", one.number());
        assert_eq!((one.min(), one.max()), (other.min(), other.max()), "{}", one.number());
        assert_eq!(one.padding(), other.padding(), "{}", one.number());
        assert_eq!(one.pattern(), other.pattern(), "{}", one.number());
        assert_eq!(one.sensitivity(), other.sensitivity(), "{}", one.number());
    }
    for mti in [Mti::AUTHORIZATION_REQUEST, Mti::NETWORK_MANAGEMENT_REQUEST] {
        assert_eq!(ascii.echo(mti), binary.echo(mti));
    }
}

#[test]
fn the_binary_dialect_packs_digits_and_nothing_else() {
    let spec = builtin(BINARY);
    assert_eq!(
        (spec.mti_encoding(), spec.bitmap_encoding()),
        (MtiEncoding::Bcd, BitmapEncoding::Raw)
    );
    let unused = UnusedNibble::LeftZero;
    for element in spec.elements() {
        let encoding = match element.content_type() {
            ContentType::Digits | ContentType::Track => Encoding::Bcd(unused),
            ContentType::SignedDigits => Encoding::SignedBcd(Sign::Ascii, unused),
            ContentType::Binary => Encoding::Raw,
            _ => Encoding::Ascii,
        };
        assert_eq!(element.encoding(), encoding, "{}", element.number());
        if let Length::Prefix { encoding, .. } = element.length() {
            assert_eq!(encoding, PrefixEncoding::Bcd, "{}", element.number());
        }
    }
}

#[test]
fn lengths_and_types_of_the_standard() {
    let spec = shipped();
    for (number, content, digits, max) in [
        (2, ContentType::Digits, 2, 19),
        (4, ContentType::Digits, 0, 12),
        (28, ContentType::SignedDigits, 0, 9),
        (35, ContentType::Track, 2, 37),
        (36, ContentType::Track, 3, 104),
        (38, ContentType::LettersDigits, 0, 6),
        (43, ContentType::Printable, 0, 40),
        (44, ContentType::Printable, 2, 25),
        (48, ContentType::Printable, 3, 999),
        (52, ContentType::Binary, 0, 8),
        (55, ContentType::Binary, 3, 255),
        (90, ContentType::DigitsSpecial, 0, 42),
        (95, ContentType::LettersDigits, 0, 42),
        (102, ContentType::Printable, 2, 28),
        (128, ContentType::Binary, 0, 8),
    ] {
        let element = spec.element(number).unwrap();
        assert_eq!((element.content_type(), element.max()), (content, max), "{number}");
        let prefix = match element.length() {
            Length::Fixed => 0,
            Length::Prefix { digits, .. } => digits,
        };
        assert_eq!(prefix, digits, "{number}");
    }
}

#[test]
fn answers_echo_by_class() {
    let spec = shipped();
    let echo = |mti| spec.echo(mti).iter().collect::<Vec<_>>();
    assert_eq!(echo(Mti::NETWORK_MANAGEMENT_REQUEST), [7, 11, 24, 33, 37, 41, 70]);
    let default = [2, 3, 4, 7, 11, 12, 13, 15, 32, 33, 37, 41, 42, 49];
    assert_eq!(echo(Mti::AUTHORIZATION_REQUEST), default);
    assert_eq!(echo(Mti::FINANCIAL_REQUEST), default);
}

/// A whole file with the given lines of elements besides 11 and 39.
fn file(elements: &str) -> String {
    format!(
        "name = \"t\"\ndescription = \"t\"\nmti = \"ascii\"\nbitmap = \"raw\"\n\
         length_prefix = \"ascii\"\nresponse_code_column = \"1993\"\n\
         response_codes.1872 = \"206\"\n\
         echo = {{ default = [11], network_management = [] }}\n[elements]\n\
         11 = {{ name = \"STAN\", type = \"n\", length = \"fixed\", max = 6, encoding = \"ascii\", \
         padding = \"left-zero\", sensitivity = \"public\" }}\n\
         39 = {{ name = \"Action\", type = \"n\", length = \"fixed\", max = 3, \
         encoding = \"ascii\", sensitivity = \"public\" }}\n{elements}"
    )
}

fn mistakes(text: &str) -> Vec<String> {
    let errors = Spec::from_toml(text).err();
    errors.iter().flat_map(SpecErrors::mistakes).map(ToString::to_string).collect()
}

#[test]
fn another_file_is_another_dialect() {
    let spec = Spec::from_toml(&file("")).unwrap();
    assert_eq!(spec.response_code_column(), ResponseCodeColumn::Y1993);
    assert_eq!(spec.response_code_override("1872"), Some("206"));
    assert_eq!((spec.reason_code_field(), spec.pin_change()), (None, None));
    assert_eq!(format!("{spec:?}"), "Spec(t)");
}

#[test]
fn five_mistakes_are_five_lines() {
    let text = file(
        "4 = { name = \"A\", type = \"m\", length = \"fixed\", max = 12, encoding = \"ascii\", \
         sensitivity = \"public\" }\n\
         5 = { name = \"B\", type = \"n\", length = \"LL\", max = 100, encoding = \"ascii\", \
         sensitivity = \"public\" }\n\
         6 = { name = \"C\", type = \"n\", length = \"fixed\", max = 12, encoding = \"hex\", \
         sensitivity = \"public\" }\n\
         7 = { name = \"D\", type = \"n\", length = \"LL\", max = 12, encoding = \"ascii\", \
         padding = \"left-zero\", sensitivity = \"public\" }\n\
         8 = { name = \"E\", type = \"n\", length = \"fixed\", max = 12, encoding = \"ascii\", \
         colour = \"red\", sensitivity = \"public\" }\n",
    );
    assert_eq!(
        mistakes(&text),
        [
            "line 12: element 4, type: expected \"n\", \"a\", \"an\", \"ans\", \"as\", \"ns\", \
             \"a or n\", \"x+n\", \"z\" or \"b\"",
            "line 13: element 5: the prefix counts to 99, but `max` needs 100",
            "line 14: element 6: only type `b` has encoding `hex` or `raw`",
            "line 15: element 7: `padding` is for elements of fixed length",
            "line 16: element 8, colour: unknown key",
        ]
    );
    let shown = Spec::from_toml(&text).unwrap_err().to_string();
    assert!(shown.starts_with("5 mistake(s) in the dialect file\n  line 12: element 4, type:"));
}

/// One line of an element each, and the mistake that it is.
#[test]
fn parts_that_do_not_go_together() {
    for (keys, mistake) in [
        ("type='b', length='LLL', max=500, encoding='hex'", "the prefix counts to 999"),
        ("type='b', length='fixed', max=8, encoding='ascii'", "needs encoding `hex` or `raw`"),
        ("type='n', length='LL', max=4, min=5, encoding='ascii'", "`min` is above `max`"),
        ("type='n', length='fixed', max=4, min=1, encoding='ascii'", "`min` and `prefix` are for"),
        ("type='n', length='fixed', max=4, encoding='ascii', padding='right-space'", "not allow"),
        ("type='x+n', length='fixed', max=9, encoding='ascii', padding='left-zero'", "not allow"),
        ("type='n', length='fixed', max=6, encoding='ascii', pattern='MMDD'", "fixed`, max 4"),
        ("type='an', length='fixed', max=4, encoding='ascii', pattern='MMDD'", "type `n`"),
        ("type='n', length='fixed', max=4, encoding='ascii', pattern='MMDX'", "such as"),
        ("type='n', length='fixed', max=0, encoding='ascii'", "a number from 1 to 9999"),
        ("type='n', length='fixed', max=true, encoding='ascii'", "a number from 1 to 9999"),
        ("type='n', length='fixed', encoding='ascii'", "max: is missing"),
        ("type='n', length='V', max=4, encoding='ascii'", "\"LLLL\""),
        (
            "type='n', length='LL', prefix='x', max=4, encoding='ascii'",
            "prefix: expected \"ascii\"",
        ),
    ] {
        assert_mistake(keys, mistake);
    }
}

/// The same for what is not ASCII.
#[test]
fn encodings_that_do_not_go_together() {
    for (keys, mistake) in [
        ("type='ans', length='LL', max=4, encoding='bcd'", "`bcd` is for types `n`, `x+n` and `z`"),
        ("type='b', length='fixed', max=8, encoding='bcd'", "type `b` needs encoding"),
        (
            "type='n', length='LL', max=5, encoding='ascii', unused_nibble='right-f'",
            "`unused_nibble` is for `bcd`",
        ),
        (
            "type='n', length='fixed', max=4, encoding='bcd', unused_nibble='right-f'",
            "with an odd number of digits",
        ),
        (
            "type='x+n', length='fixed', max=9, encoding='bcd', unused_nibble='right-f'",
            "with an odd number of digits",
        ),
        ("type='n', length='LL', max=5, encoding='bcd', unused_nibble='up'", "or \"right-f\""),
        ("type='n', length='LL', max=5, encoding='bcd', sign='ascii'", "`sign` is for type `x+n`"),
        ("type='x+n', length='fixed', max=9, encoding='ascii', sign='ascii'", "encoding `bcd`"),
        ("type='x+n', length='fixed', max=9, encoding='bcd', sign='x'", "sign: expected"),
        // What a prefix counts.
        ("type='ans', length='LL', max=5, encoding='ascii', prefix_counts='digits'", "and `hex`"),
        ("type='b', length='LL', max=5, encoding='raw', prefix_counts='digits'", "and `hex`"),
        ("type='b', length='fixed', max=5, encoding='hex', prefix_counts='bytes'", "length prefix"),
        ("type='b', length='LL', max=5, encoding='hex', prefix_counts='x'", "or \"bytes\""),
        ("type='n', length='LL', max=5, encoding='bcd', prefix_counts='bytes'", "digit is: F"),
        ("type='b', length='LLL', prefix='binary', max=5, encoding='raw'", "`LL`, two bytes"),
        ("type='b', length='L', prefix='binary', max=256, encoding='raw'", "counts to 255"),
        ("type='b', length='L', prefix='bcd', max=10, encoding='raw'", "counts to 9,"),
        // Wrappers.
        (
            "type='b', length='fixed', max=8, encoding='raw', wrapper={id='01', length=2}",
            "`wrapper` is for encoding `raw` with a length prefix",
        ),
        (
            "type='b', length='LLL', max=8, encoding='hex', wrapper={id='01', length=2}",
            "`wrapper` is for encoding `raw`",
        ),
        (
            "type='b', length='L', prefix='binary', max=253, encoding='raw', \
             wrapper={id='01', length=2}",
            "counts to 255, but `max` needs 256",
        ),
        (
            "type='b', length='LLL', max=256, encoding='raw', wrapper={id='01', length=1}",
            "the wrapper's length counts to 255",
        ),
        (
            "type='b', length='LLL', max=9, encoding='raw', wrapper={id='1', length=2}",
            "hexadecimal",
        ),
        ("type='b', length='LLL', max=9, encoding='raw', wrapper={id='', length=2}", "hexadecimal"),
        ("type='b', length='LLL', max=9, encoding='raw', wrapper={id='01', length=3}", "1 to 2"),
        ("type='b', length='LLL', max=9, encoding='raw', wrapper={id='01'}", "length: is missing"),
        ("type='b', length='LLL', max=9, encoding='raw', wrapper='01'", "expected a table"),
        (
            "type='b', length='LLL', max=9, encoding='raw', wrapper={id='01', length=2, tag=1}",
            "wrapper, tag: unknown key",
        ),
    ] {
        assert_mistake(keys, mistake);
    }
}

#[test]
fn an_element_may_hold_chip_data() {
    for tag in ["E1", "77", "9F", "9F8", "9F1F81", "DF81", "9f2", "Scripts", "", "+9F26", "00"] {
        let keys = format!("type='b', length='LL', max=9, encoding='hex', chip_tag='{tag}'");
        assert_mistake(&keys, "chip_tag: expected a primitive tag in hexadecimal, such as");
    }
    let text = "type='ans', length='LL', max=9, encoding='ascii', chip_tag='9F1E'";
    assert_mistake(text, "`chip_tag` is for types `b` and `n`");
    for tag in ["91", "8A", "scripts"] {
        let keys = format!("type='n', length='LL', max=9, encoding='ascii', chip_tag='{tag}'");
        assert_mistake(&keys, "`chip_tag` of an answer needs type `b`");
    }
    let line = |element: u8, tag: &str| {
        let keys = "type = 'b', length = 'LL', max = 49, encoding = 'hex', sensitivity = 'secret'";
        format!("{element} = {{ name = 'T', {keys}, chip_tag = '{tag}' }}\n")
    };
    let all = |lines: &[(u8, &str)]| {
        file(&lines.iter().map(|(at, tag)| line(*at, tag)).collect::<String>())
    };
    let spec =
        Spec::from_toml(&all(&[(62, "9F26"), (60, "91"), (61, "scripts"), (63, "82")])).unwrap();
    let value = ChipTag::Value;
    let expected =
        [(60, value(0x91)), (61, ChipTag::Scripts), (62, value(0x9F26)), (63, value(0x82))];
    assert_eq!(spec.chip_elements(), expected);
    for lines in [&[(60, "9F26")][..], &[(60, "9F26"), (61, "91")], &[(60, "scripts")]] {
        let found = mistakes(&all(lines)).concat();
        assert!(found.contains("one needs \"91\" and one \"scripts\""), "{found}");
    }
    let twice = mistakes(&all(&[(60, "91"), (61, "scripts"), (62, "91")])).concat();
    assert!(twice.contains("element 62: another element has this `chip_tag`"), "{twice}");
}

fn assert_mistake(keys: &str, mistake: &str) {
    let line = format!("60 = {{ name = 'T', sensitivity = 'secret', {keys} }}");
    let found = mistakes(&file(&line));
    assert_eq!(found.len(), 1, "{line} {found:?}");
    let found = found.concat();
    assert!(found.starts_with("line 12: ") && found.contains(mistake), "{line} {found}");
}

fn pin_change(transaction_type: &str, element: &str) -> String {
    format!(
        "pin_change = {{ transaction_type = {transaction_type}, new_pin_block = {element} }}\nmti ="
    )
}

#[test]
fn headers_are_checked() {
    let good = file("");
    for (part, bad, mistake) in [
        ("name = \"t\"\n", "", "name: is missing"),
        ("name = \"t\"", "name = \"\"", "line 1: name: expected a text"),
        (
            "\"raw\"",
            "\"bcd\"",
            "line 4: bitmap: expected \"hex\" or \"raw\": bitmaps of hexadecimal digits are ASCII, \
             those of EBCDIC digits are not served",
        ),
        ("\"1993\"", "1993", "response_code_column: expected \"1987\", \"1993\" or \"2003\""),
        ("1872 = \"206\"", "1872 = \"2x6\"", "1872: expected a text that element 39 can hold"),
        ("1872 = \"206\"", "187 = \"206\"", "187: expected a reason of four digits"),
        ("default = [11]", "default = [11, 11]", "element 11 is listed twice"),
        ("default = [11]", "default = [12]", "element 12 is not defined"),
        ("default = [11]", "default = [52]", "element 52 is never echoed"),
        ("default = [11]", "default = [1]", "a number from 2 to 128"),
        ("default = [11]", "default = 11", "echo, default: expected a list"),
        ("default = [11]", "default = [129]", "a number from 2 to 128"),
        ("default = [11], ", "", "echo, default: is missing"),
        ("mti = \"ascii\"", "mti = \"hex\"", "line 3: mti: expected \"ascii\", \"ebcdic\""),
        ("mti =", "third_bitmap = \"no\"\nmti =", "line 3: third_bitmap: expected \"none\""),
        ("mti =", "prefix_counts = 1\nmti =", "line 3: prefix_counts: expected \"digits\""),
        ("mti =", "unused_nibble = 0\nmti =", "line 3: unused_nibble: expected \"left-zero\""),
        ("length_prefix = \"ascii\"", "length_prefix = \"hex\"", "length_prefix: expected"),
        ("11 = {", "129 = {", "129: expected an element from 2 to 128"),
        ("mti =", "reason_code_field = 39\nmti =", "element 39 has a use of its own"),
        ("mti =", "reason_code_field = 38\nmti =", "element 38 has a use of its own"),
        ("mti =", "reason_code_field = 53\nmti =", "element 53 is for secrets"),
        ("mti =", "reason_code_field = 11\nmti =", "element 11 is echoed"),
        ("mti =", "reason_code_field = 60\nmti =", "element 60 must be able to hold four digits"),
        ("mti =", "pin_change = 1\nmti =", "line 3: pin_change: expected a table"),
        ("mti =", &pin_change("\"30\"", "60"), "expected two digits from 50 to 99"),
        ("mti =", &pin_change("\"920\"", "60"), "expected two digits from 50 to 99"),
        ("mti =", &pin_change("92", "60"), "expected two digits from 50 to 99"),
        ("mti =", &pin_change("\"92\"", "61"), "element 61 is not defined in this file"),
        ("mti =", &pin_change("\"92\"", "129"), "a number from 2 to 128"),
        ("mti =", &pin_change("\"92\"", "52"), "element 52 has a use of its own"),
        ("mti =", &pin_change("\"92\"", "11"), "element 11 must be `secret`"),
        ("mti =", &pin_change("\"92\"", "60, x = 1"), "pin_change, x: unknown key"),
        ("mti =", "surprise = 1\nmti =", "line 3: surprise: unknown key"),
        ("11 = {", "11 = 5\n12 = {", "element 11: expected a table"),
        ("11 = {", "1 = {", "1: expected an element from 2 to 128"),
        ("11 = {", "011 = {", "011: expected an element from 2 to 128"),
        ("mti = \"ascii\"", "mti = ascii", "line 3: syntax"),
        ("[elements]\n", "[elements]\n39 = 1\n", "duplicate"),
    ] {
        assert!(good.contains(part), "{part}");
        let found = mistakes(&good.replacen(part, bad, 1));
        assert!(found.iter().any(|found| found.contains(mistake)), "{bad}: {found:?}");
    }
}

#[test]
fn a_new_pin_has_a_place_of_its_own() {
    let of = |keys: &str, echo: &str| {
        let line = format!("60 = {{ name = 'T', {keys}, sensitivity = 'secret' }}");
        let text = file(&line).replacen("mti =", &pin_change("\"92\"", "60"), 1);
        mistakes(&text.replacen("default = [11]", &format!("default = [{echo}]"), 1)).concat()
    };
    let text = "type = 'ans', length = 'LLL', max = 16, encoding = 'ascii'";
    for fits in [text, "type = 'b', length = 'fixed', max = 8, encoding = 'raw'"] {
        assert_eq!(of(fits, "11"), "");
    }
    let short = text.replace("16", "15");
    for (keys, echo, mistake) in [
        (&*short, "11", "element 60 must be able to hold a PIN block"),
        (text, "11, 60", "element 60 is echoed: the block would come back"),
    ] {
        assert!(of(keys, echo).contains(mistake), "{}", of(keys, echo));
    }
}

/// Elements, the sensitivities that a file may give them, and a type that has them.
const GUARDED: [(&[u8], &[&str], &str); 5] = [
    (&[2, 34], &["pan", "secret"], "type='n', encoding='ascii'"),
    (&[35, 36, 45], &["track", "secret"], "type='n', encoding='ascii'"),
    (&[55], &["chip", "secret"], "type='b', encoding='raw'"),
    (&[52, 53, 64, 96, 128], &["secret"], "type='b', encoding='raw'"),
    (&[52, 53, 64, 96, 128], &["secret"], "type='n', encoding='ascii'"),
];

#[test]
fn what_the_standard_keeps_secret_cannot_be_made_public() {
    for (numbers, allowed, keys) in GUARDED {
        for number in numbers {
            for sensitivity in ["public", "pan", "track", "secret", "chip"] {
                let line = format!(
                    "{number} = {{ name = 'T', length = 'LL', max = 8, {keys}, \
                     sensitivity = '{sensitivity}' }}"
                );
                let found = mistakes(&file(&line));
                assert_eq!(found.is_empty(), allowed.contains(&sensitivity), "{line} {found:?}");
            }
        }
    }
}

#[test]
fn a_mistake_in_a_line_gives_none_elsewhere() {
    for name in [SHIPPED, BINARY] {
        let good = Spec::builtin(name).unwrap();
        for (line, parts) in [
            ("44 = ", ["\"ans\"", "\"LL\"", "\"ascii\"", "\"public\""]),
            ("39 = ", ["\"an\"", "\"fixed\"", "\"ascii\"", "\"public\""]),
        ] {
            let codes = "[response_codes]\n\"1872\" = \"38\"\n\n[echo]";
            let text = good.replacen("[echo]", codes, 1);
            let old = text.lines().find(|text| text.starts_with(line)).unwrap();
            for part in parts {
                for bad in ["1", "\"x\"", "\"b\""] {
                    let broken = old.replacen(part, bad, 1);
                    assert_ne!(old, broken);
                    let found = mistakes(&text.replacen(old, &broken, 1));
                    let element = format!(": element {}", line.trim_end_matches(" = "));
                    assert!(found.iter().all(|found| found.contains(&element)), "{found:?}");
                    assert!(!found.is_empty(), "{broken}");
                }
            }
        }
    }
}

#[test]
fn what_may_return_in_another_form_is_not_echoed() {
    let text = Spec::builtin(SHIPPED).unwrap().replacen("default = [2,", "default = [65, 2,", 1);
    let found = mistakes(&text).concat();
    assert!(found.contains("element 65 is `hex`, which may come in lower case"), "{found}");
}

#[test]
fn secrets_are_never_echoed() {
    for number in [35, 36, 45, 52, 53, 55, 64, 96, 128] {
        for name in [SHIPPED, BINARY] {
            let text = Spec::builtin(name).unwrap();
            let text = text.replacen("default = [2,", &format!("default = [{number}, 2,"), 1);
            let found = mistakes(&text).concat();
            assert!(found.contains(&format!("element {number} is never echoed")), "{found}");
        }
    }
}

#[test]
fn a_third_bitmap_takes_the_place_of_element_65() {
    let line = |number: u8| {
        format!(
            "{number} = {{ name = 'T', type = 'b', length = 'fixed', max = 8, encoding = 'raw', \
             sensitivity = 'secret' }}\n"
        )
    };
    for mode in ["leading", "element-65"] {
        let head = format!("third_bitmap = \"{mode}\"\nmti =");
        let with = |lines: &str| file(lines).replacen("mti =", &head, 1);
        assert_eq!(mistakes(&with(&(line(64) + &line(192)))), [""; 0], "{mode}");
        let found = mistakes(&with(&line(65)));
        assert_eq!(found, ["line 13: elements, 65: stands for the third bitmap and is no element"]);
        let found = mistakes(&with(&line(193)));
        assert_eq!(found, ["line 13: elements, 193: expected an element from 2 to 192"]);
    }
}

#[test]
fn no_text_makes_it_panic() {
    let good = Spec::builtin(SHIPPED).unwrap();
    for len in (0..good.len()).step_by(61) {
        let _ = mistakes(&good[..len]);
    }
    for text in ["", "elements = 1", "[elements", "\u{0}", "echo = []\nelements = []", "[[a]]\n[a]"]
    {
        assert!(!mistakes(text).is_empty());
    }
}
