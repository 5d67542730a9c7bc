//! Chip data that a network sends in elements of their own, and not in DE55.

use iso_specs::{Spec, decode, tlv};
use switch::authorization::Request;

use super::{Line, chip_data, fields, judged_request, product, request};

/// The elements of the third bitmap in which a network sends chip data: their tags, types and
/// greatest lengths.
const APART: [(u8, &str, &str, u16); 17] = [
    (130, "9F33", "b", 3),
    (131, "95", "b", 5),
    (132, "9F37", "b", 4),
    (134, "9F10", "b", 32),
    (135, "9F34", "b", 3),
    (136, "9F26", "b", 8),
    (137, "9F36", "b", 2),
    (138, "82", "b", 2),
    (139, "91", "b", 16),
    (142, "scripts", "b", 255),
    (143, "9F5B", "b", 20),
    (144, "9C", "n", 2),
    (145, "9F1A", "n", 3),
    (146, "9A", "n", 6),
    (147, "9F02", "n", 12),
    (148, "5F2A", "n", 3),
    (149, "9F03", "n", 12),
];

#[test]
fn chip_data_in_elements_of_their_own_decide_as_those_of_de55() {
    let ascii = Spec::builtin("iso8583-1987-ascii").unwrap();
    let lines = APART.map(|(element, tag, kind, max)| {
        let encoding = if kind == "b" { "hex" } else { "ascii" };
        format!(
            "{element} = {{name = \"Chip\", type = {kind:?}, length = \"LL\", max = {}, \
             encoding = {encoding:?}, chip_tag = {tag:?}, sensitivity = \"secret\"}}\n",
            max.min(49)
        )
    });
    let (head, elements) = ascii.split_once("[echo]").unwrap();
    let elements: String = elements
        .lines()
        .filter(|line| !line.starts_with("65 ="))
        .fold(String::new(), |text, line| text + line + "\n");
    let text = format!("third_bitmap = \"leading\"\n{head}[echo]{elements}{}", lines.concat());
    let dialect = Spec::from_toml(&text).unwrap();
    let (rules, ascii) = (product(""), Spec::from_toml(ascii).unwrap());
    for text in [
        "pin=ok",
        "pin=wrong",
        "pin=wrong pending",
        "exhausted pending",
        "cvm=420300",
        "tvr=04",
        "pin=ok without=9f03",
        "pin=ok sent scripts=1",
        "de22=071 tvr=80",
        "de3=200000",
        "pin=wrong pending de49=840 5f2a=840",
    ] {
        let line = Line::read(text);
        let data = chip_data(&line);
        let mut fields = fields(&line);
        fields.values.remove(&55);
        for object in tlv::Reader::new(&data).map(Result::unwrap) {
            let tag = format!("{:02X}", object.tag);
            let (element, _, kind, max) = APART.into_iter().find(|of| of.1 == tag).unwrap();
            let digits: String = object.value.iter().map(|byte| format!("{byte:02X}")).collect();
            let value = match kind {
                "b" => object.value.to_vec(),
                _ => digits.as_bytes()[digits.len().saturating_sub(max.into())..].to_vec(),
            };
            fields.set(element, &value);
        }
        let frame = fields.frame(&dialect);
        let apart = Request::parse(&decode(&dialect, &frame[2..]).unwrap()).unwrap();
        let said = |request| {
            let decision = judged_request(&line, &request, &rules);
            let trail: Vec<_> = decision.trail().copied().collect();
            (decision.reason, trail, decision.chip.map(|chip| chip.after))
        };
        assert_eq!(said(apart), said(request(&line, &ascii)), "{text}");
    }
}
