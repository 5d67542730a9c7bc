//! Rows and shapes as a file says them, and its mistakes.

use std::path::Path;

use super::*;
use crate::config::{Config, ConfigError, DEMO};

/// The rows of the demo's second product, with these tables behind its rules.
fn rows(tables: &str) -> Result<Vec<CvnRow>, ConfigError> {
    let last = "script_template = 72\n";
    let text = DEMO.replacen(last, &format!("{last}{tables}"), 1);
    let config = Config::parse(&text, "file", Path::new("."))?;
    Ok(config.products[1].chip.as_ref().unwrap().cvns.clone())
}

#[test]
fn a_row_takes_what_it_leaves_out_from_the_table() {
    let found = rows(
        "[[products.chip.cvn]]\nscheme = \"visa\"\ncvn = \"0a\"\napprove = \"3130\"\n\
         [[products.chip.cvn]]\nscheme = \"mastercard\"\ncvn = \"14\"\n\
         session_key = \"emv2000\"\ndecline = \"response_code\"\n\
         [[products.chip.cvn]]\nscheme = \"visa\"\ncvn = \"33\"\n\
         card_keys = \"option_b\"\nsession_key = \"common\"\ncovered_iad = \"whole\"\n\
         padding = \"bit\"\narpc = \"method_2\"\nscript_keys = \"visa\"\n\
         script_pin = \"vis\"\napprove = \"00820000\"\ndecline = \"00000000\"\n",
    );
    let visa = cvn::built_in(Scheme::Visa, 0x0A).unwrap();
    let m_chip = cvn::built_in(Scheme::Mastercard, 0x14).unwrap();
    let session_key = SessionKeyMethod::Emv2000;
    let wanted = [
        CvnRow { approve: Some(IssuerAnswer::Code(*b"10")), ..visa },
        CvnRow {
            profile: CryptogramProfile { session_key, ..m_chip.profile },
            decline: None,
            ..m_chip
        },
        CvnRow { cvn: 0x33, ..cvn::built_in(Scheme::Visa, 0x12).unwrap() },
    ];
    assert_eq!(found.unwrap(), wanted);
    assert_eq!(visa.answer(*b"55", false), IssuerAnswer::Code(*b"55"));
    assert_eq!(wanted[0].answer(*b"00", true), IssuerAnswer::Code(*b"10"));
    assert_eq!(m_chip.answer(*b"00", true), IssuerAnswer::Code([0x00, 0x12]));
    assert_eq!(cvn::row(&wanted, Scheme::Visa, 0x33), Some(wanted[2]));
    assert_eq!(cvn::row(&wanted, Scheme::Visa, 0x12).unwrap().cvn, 0x12);
    assert_eq!(cvn::row(&wanted, Scheme::Ccd, 0xA6), None);
}

#[test]
fn all_mistakes_of_rows_are_reported_at_once() {
    let of = |row: &str| format!("[[products.chip.cvn]]\n{row}\n");
    let tables = [
        "scheme = \"amex\"\ncvn = \"0\"\napprove = \"3030\"\nicv = 1",
        "scheme = \"visa\"\ncvn = \"0A\"\npadding = \"ones\"\napprove = \"00820000\"",
        "scheme = \"visa\"\ncvn = \"0A\"\ncovered_iad = \"cvr_and_counters\"",
        "scheme = \"ccd\"\ncvn = \"12\"",
        "scheme = \"mastercard\"\ncvn = \"10\"\narpc = \"method_2\"\ndecline = \"0000\"",
        "scheme = \"ccd\"\ncvn = \"A6\"\narpc = \"method_1_card_key\"\napprove = \"3\"",
    ];
    let found = rows(&tables.map(of).concat()).unwrap_err().0;
    let prefix = "product 2, chip, CVN ";
    let found = found.iter().map(|text| text.split_once(prefix).unwrap().1);
    let mut wanted = vec![
        "1, scheme: expected \"visa\", \"mastercard\" or \"ccd\"",
        "1, cvn: expected two hexadecimal digits",
        "1, icv: unknown key",
        "2, padding: expected \"zeros\" or \"bit\"",
        "2, approve: expected four hexadecimal digits or \"response_code\"",
        "3, cvn: one CVN of this scheme is there twice",
        "3, covered_iad: 9F10 of this scheme has no counters",
        "4, cvn: expected one that 9F10 of this scheme can have",
        "5, approve: is missing",
        "5, decline: expected eight hexadecimal digits: the card status update",
    ];
    wanted.extend([
        "6, card_keys: is missing",
        "6, session_key: is missing",
        "6, covered_iad: is missing",
        "6, padding: is missing",
        "6, script_keys: is missing",
        "6, script_pin: is missing",
        "6, decline: is missing",
        "6, approve: expected four hexadecimal digits or \"response_code\"",
    ]);
    assert_eq!(found.collect::<Vec<_>>(), wanted);
}

#[test]
fn a_card_status_update_says_what_was_decided() {
    let of = |approve: &str, decline: &str| {
        let row = "[[products.chip.cvn]]\nscheme = \"visa\"\ncvn = \"12\"\n";
        rows(&format!("{row}approve = \"{approve}\"\ndecline = \"{decline}\"\n"))
    };
    let not_approved =
        "approve: bit 80 of the second byte must say that the issuer approves".to_owned();
    let blocks = "approve: bits 40 and 20 of the second byte would block the card or the \
                  application"
        .to_owned();
    let approved = "decline: bit 80 of the second byte says that the issuer approves".to_owned();
    for (approve, decline, wanted) in [
        ("00000000", "00000000", vec![&not_approved]),
        ("FF1FFFFF", "00800000", vec![&not_approved, &approved]),
        ("00C20000", "00000000", vec![&blocks]),
        ("00A20000", "FFFFFFFF", vec![&blocks, &approved]),
        ("00600000", "00000000", vec![&not_approved, &blocks]),
    ] {
        let found = of(approve, decline).unwrap_err().0;
        let prefix = "product 2, chip, CVN 1, ";
        let found: Vec<_> = found.iter().map(|text| text.split_once(prefix).unwrap().1).collect();
        assert_eq!(found, wanted, "{approve} {decline}");
    }
    // The issuer may have a card block itself, or an application.
    for (approve, decline) in [("00820000", "00000000"), ("0F9F0001", "00600000")] {
        assert_eq!(of(approve, decline).unwrap().len(), 1);
    }
}

/// A row of which only what is covered differs, behind tables of shapes.
fn covers(shapes: &str, row: &str) -> Result<Covers, Vec<String>> {
    let found = rows(&format!("{shapes}[[products.chip.cvn]]\n{row}\n"));
    found.map(|rows| rows[0].covers).map_err(|error| {
        let behind = |text: &String| text.split_once("chip, ").unwrap().1.to_owned();
        error.0.iter().map(behind).collect()
    })
}

#[test]
fn a_row_says_what_its_cryptogram_covers() {
    let of = |list: &str| covers("", &format!("scheme = \"visa\"\ncvn = \"0A\"\ncovers = {list}"));
    let text = |covers: Covers| format!("{covers:?}").replace(' ', "");
    for list in [
        r#"["9F02","9F37","9F36","9F10[5]"]"#,
        r#"["9F02","95","9F36","9F10[4-7]"]"#,
        r#"["9F36","cvr"]"#,
        r#"["9F36","9F10","9F66","84","9F10[1-32]","9F66[33-255]"]"#,
    ] {
        assert_eq!(of(list).map(text), Ok(list.to_owned()));
    }
    let usual = r#"["9F02","9F03","9F1A","95","5F2A","9A","9C","9F37","82","9F36","#;
    assert_eq!(of(&format!("{usual}\"cvr\"]")), Ok(Covers::CVR));
    assert_eq!(of(&format!("{usual}\"9F10\"]")), Ok(Covers::WHOLE));
    assert_eq!(
        cvn::built_in(Scheme::Visa, 0x11).map(|row| row.covers),
        of(r#"["9F02", "9F37", "9F36", "9F10[5]"]"#).ok()
    );
    let part = "CVN 1, covers: expected a tag, bytes of one such as \"9F10[5]\" or \"9F10[4-7]\", \
                \"cvr\" or \"counters\"";
    for wrong in [
        "9F26",
        "9F1",
        "9F",
        "9F81",
        "DF8129",
        "E1",
        "77",
        "00",
        "FF",
        "9F10[0]",
        "9F10[5-4]",
        "9F10[5",
        "9F10[]",
        "9F10[05]",
        "9F10[1-256]",
        "9F10[33]",
        "9F10[40]",
        "9F10[1-33]",
        "9F66[256]",
        "95[6]",
        "9F02[1-7]",
        "CVR",
        "",
    ] {
        assert_eq!(of(&format!("[\"9F36\", {wrong:?}]")), Err(vec![part.to_owned()]), "{wrong}");
    }
    let parts = "CVN 1, covers: expected 1 to 16 parts";
    assert_eq!(of("[]"), Err(vec![parts.to_owned()]));
    assert_eq!(of(&format!("{:?}", ["9F36"; 17])), Err(vec![parts.to_owned()]));
    // Each cryptogram comes once, by its counter.
    let counter = "CVN 1, covers: expected 9F36 among them, or a session key that is made of it";
    assert_eq!(of(r#"["9F02", "9F10"]"#), Err(vec![counter.to_owned()]));
    assert!(of("[\"9F02\"]\nsession_key = \"common\"").is_ok());
    assert_eq!(
        of("[\"9F36\"]\ncovered_iad = \"cvr\""),
        Err(vec!["CVN 1, covered_iad: `covers` says it already".to_owned()])
    );
    assert_eq!(
        of(r#"["9F36", "counters"]"#),
        Err(vec!["CVN 1, covers: 9F10 of this scheme has no counters".to_owned()])
    );
    let m_chip = |covers: &str| {
        let row = "scheme = \"mastercard\"\ncvn = \"10\"\ncovers = [\"9F36\", \"";
        super::tests::covers("", &format!("{row}{covers}\"]"))
    };
    assert!(m_chip("9F10[28]").is_ok());
    let longest = "CVN 1, covers: 9F10 of this scheme has 28 bytes at most";
    assert_eq!(m_chip("9F10[29]"), Err(vec![longest.to_owned()]));
}

const OWN_SHAPE: &str = r#"
    [[products.chip.iad]]
    name = "own"
    begins = "07 xx xx 03"
    lengths = [8]
    cvn = 3
    cvr = "4-7"
    cryptogram_types = 2
    offline_pin_performed = "2:04"
    offline_pin_failed = "2:02"
    issuer_authentication_failed = ["2:08", "3:08"]
    scripts = "4:F0"
"#;

const OWN_ROW: &str = r#"
    scheme = "own"
    cvn = "01"
    card_keys = "option_a"
    session_key = "common"
    padding = "bit"
    arpc = "method_1_session_key"
    script_keys = "common"
    script_pin = "iso2"
    approve = "response_code"
    decline = "response_code"
"#;

#[test]
fn a_product_says_the_shape_of_its_issuer_application_data() {
    let last = "script_template = 72\n";
    let tables =
        format!("{last}{OWN_SHAPE}\n[[products.chip.cvn]]\n{OWN_ROW}covered_iad = \"cvr\"\n");
    let text = DEMO.replacen(last, &tables, 1);
    let config = Config::parse(&text, "file", Path::new(".")).unwrap();
    let rules = config.products[1].chip.as_ref().unwrap();
    let [shape] = rules.iads.own[..] else { panic!("one shape") };
    assert_eq!(rules.iads.built_in, []);
    assert_eq!((&shape.value[..4], &shape.mask[..4]), (&[7, 0, 0, 3][..], &[255, 0, 0, 255][..]));
    assert_eq!((shape.lengths, shape.cvn, shape.cvr), (1 << 8, 3, Bytes { first: 4, last: 7 }));
    let at = |byte, mask| Some(Bits { byte, mask });
    let expected = Layout {
        types_byte: 2,
        performed: at(2, 0x04),
        failed: at(2, 0x02),
        issuer_authentication_failed: [at(2, 0x08), at(3, 0x08)],
        scripts: at(4, 0xF0),
        ..Layout::default()
    };
    assert_eq!((shape.layout, shape.counters), (expected, None));
    assert_eq!((rules.cvns[0].scheme, rules.cvns[0].cvn), (Scheme::Own(0), 0x01));
}

#[test]
fn all_mistakes_of_shapes_are_reported_at_once() {
    let of = |lines: &str| {
        let tables = format!("built_in_shapes = [\"visa\"]\n[[products.chip.iad]]\n{lines}\n");
        covers(&tables, "scheme = \"visa\"\ncvn = \"0A\"").unwrap_err()
    };
    let silent = "name = \"x\"\nbegins = \"07 xx xx 03\"\ncvn = 3\ncvr = \"4-7\"\n";
    let whole = &format!("{silent}cryptogram_types = 2\n");
    let bits = "expected a byte of the CVR, from 1, and its bits in hexadecimal, such as \"2:04\"";
    let bytes = "expected bytes of 9F10, counted from 1, such as \"4-7\"";
    let begins =
        "begins: expected bytes such as \"07 xx xx 03\", where xx is any byte, and not all are";
    let name = format!("name: expected {IAD_NAMES}");
    for (lines, wanted) in [
        (whole.replace("\"x\"", "\"visa\""), &*name),
        (whole.replace("\"x\"", "\"X\""), &name),
        (whole.replace("xx xx", "xx x"), begins),
        (whole.replace("07 xx", "07xx"), begins),
        (whole.replace("07", &["07"; 33].join(" ")), begins),
        (whole.replace("07 xx xx 03", "xx xx"), begins),
        (whole.replace("07 xx xx 03", ""), begins),
        (silent.to_owned(), "cryptogram_types: is missing"),
        (whole.replace("= 3", "= 33"), "cvn: expected a number from 1 to 32"),
        (whole.replace("4-7", "7-4"), &format!("cvr: {bytes}")),
        (whole.replace("4-7", "4-33"), &format!("cvr: {bytes}")),
        (format!("{whole}counters = \"0-4\""), &format!("counters: {bytes}")),
        (
            format!("{whole}lengths = [7, 8]\ncounters = \"8-9\""),
            "counters: no 9F10 of these lengths has them",
        ),
        (format!("{whole}lengths = [6]"), "lengths: expected 7 bytes or more, for what is named"),
        (format!("{whole}lengths = []"), "lengths: expected 7 bytes or more, for what is named"),
        (format!("{whole}lengths = [33]"), "lengths: expected a number from 1 to 32"),
        (
            format!("{silent}cryptogram_types = 5"),
            "cryptogram_types: expected a number from 1 to 4",
        ),
        (format!("{whole}script_failed = \"5:08\""), &format!("script_failed: {bits}")),
        (format!("{whole}script_failed = \"4:00\""), &format!("script_failed: {bits}")),
        (format!("{whole}script_failed = \"08\""), &format!("script_failed: {bits}")),
        (format!("{whole}scripts = \"4:A0\""), "scripts: expected bits that stand side by side"),
        (
            format!("{whole}issuer_authentication_failed = [\"1:01\", \"1:02\", \"1:04\"]"),
            "issuer_authentication_failed: expected two at most",
        ),
        (
            format!("{whole}offline_pin_performed = \"2:04\""),
            "offline_pin_performed: it says nothing without offline_pin_failed or \
             offline_pin_successful",
        ),
        (format!("{whole}dki = 2"), "dki: unknown key"),
        (format!("{whole}[[products.chip.iad]]\n{whole}"), "name: one name is there twice"),
    ] {
        let found = of(&lines);
        let says_so = found.iter().any(|found| found.ends_with(wanted));
        assert!(found.len() <= 4 && says_so, "{lines}: {found:?}");
    }
    assert_eq!(of(whole), [format!("shape of 9F10 1, name: {NO_ROW}")]);
}

#[test]
fn a_row_is_of_a_shape_that_the_product_knows() {
    let unknown = covers(OWN_SHAPE, &OWN_ROW.replace("own", "amex")).unwrap_err();
    let names = "CVN 1, scheme: expected \"own\", or a built-in one that built_in_shapes names";
    assert_eq!(unknown[0], names);
    let row = format!("{OWN_ROW}covered_iad = \"cvr_and_counters\"");
    let none = "CVN 1, covered_iad: 9F10 of this scheme has no counters";
    assert_eq!(covers(OWN_SHAPE, &row), Err(vec![none.to_owned()]));
    let missing = covers(OWN_SHAPE, OWN_ROW).unwrap_err();
    assert_eq!(missing, ["CVN 1, covered_iad: is missing"]);
    let fixed = OWN_SHAPE.replace("07 xx xx 03", "07 xx 02 03");
    let other = covers(&fixed, &format!("{OWN_ROW}covered_iad = \"cvr\"")).unwrap_err();
    assert_eq!(other[0], "CVN 1, cvn: expected one that 9F10 of this scheme can have");
    for list in ["[]", "[\"amex\"]", "\"visa\""] {
        let visa = "scheme = \"visa\"\ncvn = \"0A\"";
        let found = covers(&format!("built_in_shapes = {list}\n"), visa).unwrap_err();
        assert!(found[0].starts_with("built_in_shapes: expected "), "{found:?}");
    }
}

const NO_ROW: &str = "no [[products.chip.cvn]] has it as its `scheme`";

/// A shape that another one before it has for itself is never come to.
#[test]
fn a_shape_behind_another_one_is_refused() {
    let shape = |name: &str, begins: &str, lengths: &str| {
        let lines = OWN_SHAPE.replace("own", name).replace("07 xx xx 03", begins);
        lines.replace("lengths = [8]", lengths)
    };
    let row = |name: &str| {
        let row = OWN_ROW.replace("own", name);
        format!("[[products.chip.cvn]]\n{row}covered_iad = \"cvr\"\n")
    };
    let hidden = "begins: what begins so has the shape of a table before this one";
    for (first, second, lengths, is_hidden) in [
        ("07 xx xx 03", "07 xx xx 03", ("", ""), true),
        ("07", "07 xx xx 03", ("", "lengths = [8]"), true),
        ("07", "07 xx xx 03", ("lengths = [8]", "lengths = [8, 9]"), false),
        ("07 xx xx 03", "07", ("", ""), false),
        ("07 xx xx 03", "07 xx xx 04", ("", ""), false),
    ] {
        let shapes = shape("a", first, lengths.0) + &shape("b", second, lengths.1);
        let found = rows(&format!("{shapes}{}{}", row("a"), row("b")));
        let found = found.map_err(|error| error.0);
        let says_so = found.as_ref().is_err_and(|found| found[0].ends_with(hidden));
        assert_eq!(says_so, is_hidden, "{first} {second}: {found:?}");
    }
}

/// The bytes that choose the shape are not under these cryptograms, and who copies one may choose.
#[test]
fn rows_that_take_one_cryptogram_for_right_and_read_it_differently_are_refused() {
    let shape = |name: &str, begins: &str, more: &str| {
        format!(
            "[[products.chip.iad]]\nname = {name:?}\nbegins = {begins:?}\nlengths = [7]\n\
             cvn = 3\ncvr = \"4-7\"\ncryptogram_types = 2\n{more}"
        )
    };
    let row = |name: &str, covers: &str, padding: &str| {
        let row = OWN_ROW
            .replace("own", name)
            .replace("\"common\"\n    padding", "\"none\"\n    padding");
        let row = row.replace("padding = \"bit\"", &format!("padding = {padding:?}"));
        format!("[[products.chip.cvn]]\n{row}{covers}\n")
    };
    let pin = "offline_pin_performed = \"2:04\"\noffline_pin_failed = \"2:02\"\n";
    let usual = r#""9F02","9F03","9F1A","95","5F2A","9A","9C","9F37","82","9F36""#;
    let (cvr, whole) = ("covered_iad = \"cvr\"", "covered_iad = \"whole\"");
    let part = |bytes: &str| format!("covers = [{usual}, {bytes}]");
    // Beside Visa CVN 0A: the CVR, behind the usual elements and filled with zeros.
    for (begins, covers, padding, is_refused) in [
        ("07 xx xx 03", cvr.to_owned(), "zeros", true),
        ("06 xx 01 03", cvr.to_owned(), "zeros", true),
        ("07 xx xx 03", part("\"9F10[4-7]\""), "zeros", true),
        ("07 xx xx 03", part("\"9F10[4-5]\", \"9F10[6-7]\""), "zeros", true),
        ("07 xx xx 03", part("\"9F10[4-6]\""), "zeros", true),
        ("07 xx xx 03", part("\"cvr\", \"9F66\""), "zeros", true),
        ("07 xx xx 03", part("\"9F10[1-7]\""), "zeros", true),
        ("07 xx xx 03", cvr.to_owned(), "bit", false),
        // Visa's other shape has nothing fixed there.
        ("07 xx xx 04", cvr.to_owned(), "zeros", true),
        ("07 xx xx 03", part("\"9F66\", \"cvr\""), "zeros", true),
        ("07 xx xx 03", part("\"9F34\", \"cvr\""), "zeros", true),
        ("07 xx xx 03", part("\"9F34\", \"9C\", \"cvr\""), "zeros", false),
    ] {
        let tables = shape("x", begins, "") + &row("x", &covers, padding);
        let beside = |named: &str| rows(&format!("built_in_shapes = {named}\n{tables}"));
        let found = beside("[\"visa\"]").map_err(|error| error.0);
        let says_so = found.as_ref().is_err_and(|found| {
            found[0].contains("can pass as one of \"visa\" 0A, which reads it differently")
        });
        assert_eq!(says_so, is_refused, "{begins} {covers} {padding}: {found:?}");
        assert!(beside("[]").is_ok() && beside("[\"mastercard\"]").is_ok(), "{begins} {covers}");
        assert!(rows(&tables).is_ok());
    }
    // Two of the product.
    for (first, second, covers, is_refused) in
        [("", pin, cvr, true), (pin, pin, cvr, false), ("", pin, whole, false)]
    {
        let shapes = shape("a", "07 xx xx 03", first) + &shape("b", "08 xx xx 03", second);
        let of = |name| row(name, covers, "zeros");
        let found = rows(&format!("{shapes}{}{}", of("a"), of("b"))).map_err(|error| error.0);
        assert_eq!(found.is_err(), is_refused, "{covers}: {found:?}");
    }
}

#[test]
fn the_built_in_rows_are_told_apart() {
    let shapes = Shapes::default();
    let rows = cvn::reached(&shapes, &[]);
    assert_eq!(rows.len(), 13);
    for one in &rows {
        assert!(rows.iter().all(|other| !cvn::is_mistakable(*one, *other)), "{:?}", one.1);
    }
}
