//! Rows and shapes as a file says them, and its mistakes.

use std::path::Path;

use super::*;
use crate::config::{Config, ConfigError};
use crate::demo;

/// The rows of the demo's second product, with these tables behind its rules.
fn rows(tables: &str) -> Result<Vec<CvnRow>, ConfigError> {
    let last = "script_template = 72\n";
    let text = demo::CONFIG.replacen(last, &format!("{last}{tables}"), 1);
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
        "scheme = \"mastercard\"\ncvn = \"12\"",
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
        r#"["9F36","9F10","9F66","84","9F10[1-32]","9F10[33-255]"]"#,
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
}

const UNION_PAY: &str = r#"
    [[products.chip.iad]]
    name = "unionpay"
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
    scheme = "unionpay"
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
        format!("{last}{UNION_PAY}\n[[products.chip.cvn]]\n{OWN_ROW}covered_iad = \"cvr\"\n");
    let text = demo::CONFIG.replacen(last, &tables, 1);
    let config = Config::parse(&text, "file", Path::new(".")).unwrap();
    let rules = config.products[1].chip.as_ref().unwrap();
    let [shape] = rules.iads[..] else { panic!("one shape") };
    assert_eq!((&shape.value[..4], &shape.mask[..4]), (&[7, 0, 0, 3][..], &[255, 0, 0, 255][..]));
    assert_eq!((shape.lengths, shape.cvn, shape.cvr), (1 << 8, 3, Bytes { first: 4, last: 7 }));
    let at = |byte, mask| Some(Bits { byte, mask });
    let expected = Layout {
        types_byte: Some(2),
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
        let tables = format!("[[products.chip.iad]]\n{lines}\n");
        covers(&tables, "scheme = \"visa\"\ncvn = \"0A\"").unwrap_err()
    };
    let whole = "name = \"x\"\nbegins = \"07 xx xx 03\"\ncvn = 3\ncvr = \"4-7\"\n";
    let bits = "expected a byte of the CVR, from 1, and its bits in hexadecimal, such as \"2:04\"";
    let bytes = "expected bytes of 9F10, counted from 1, such as \"4-7\"";
    let begins = "begins: expected bytes such as \"07 xx xx 03\", where xx is any byte";
    let name = format!("name: expected {IAD_NAMES}");
    for (lines, wanted) in [
        (whole.replace("\"x\"", "\"visa\""), &*name),
        (whole.replace("\"x\"", "\"X\""), &name),
        (whole.replace("xx xx", "xx x"), begins),
        (whole.replace("07 xx", "07xx"), begins),
        (whole.replace("07", &["07"; 33].join(" ")), begins),
        (whole.replace("= 3", "= 33"), "cvn: expected a number from 1 to 32"),
        (whole.replace("4-7", "7-4"), &format!("cvr: {bytes}")),
        (whole.replace("4-7", "4-33"), &format!("cvr: {bytes}")),
        (format!("{whole}counters = \"0-4\""), &format!("counters: {bytes}")),
        (format!("{whole}lengths = [6]"), "lengths: expected 7 bytes or more, for what is named"),
        (format!("{whole}lengths = []"), "lengths: expected 7 bytes or more, for what is named"),
        (format!("{whole}lengths = [33]"), "lengths: expected a number from 1 to 32"),
        (format!("{whole}cryptogram_types = 5"), "cryptogram_types: expected a number from 1 to 4"),
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
        assert!(found.len() <= 2 && found[0].ends_with(wanted), "{lines}: {found:?}");
    }
    let unknown = covers(UNION_PAY, &OWN_ROW.replace("unionpay", "amex")).unwrap_err();
    let names = "CVN 1, scheme: expected \"visa\", \"mastercard\", \"ccd\" or \"unionpay\"";
    assert_eq!(unknown[0], names);
    let row = format!("{OWN_ROW}covered_iad = \"cvr_and_counters\"");
    let none = "CVN 1, covered_iad: 9F10 of this scheme has no counters";
    assert_eq!(covers(UNION_PAY, &row), Err(vec![none.to_owned()]));
    let missing = covers(UNION_PAY, OWN_ROW).unwrap_err();
    assert_eq!(missing, ["CVN 1, covered_iad: is missing"]);
}
