//! Messages written as text: hexadecimal digits or base64, in lines or as a hexadecimal dump.
//!
//! A blank line stands between messages. Lines without one between them are a message each,
//! unless they look like one message that was wrapped: all lines are of one length, the last may
//! be shorter, and the first alone is no whole message. A dump begins a message at offset 0.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{FRAME_BYTES_MAX, InspectError};

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextForm {
    /// Hexadecimal digits.
    Hex,
    /// Base64 with the standard alphabet, with or without padding.
    Base64,
}

/// A message of a text.
#[derive(Clone, PartialEq, Eq)]
pub struct TextMessage {
    /// The line where it begins, from 1.
    pub line: usize,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Bytes of a line in a dump, at most.
const DUMP_LINE_BYTES: usize = 16;
/// After so many, dumps have a gap.
const DUMP_HALF_LINE_BYTES: usize = 8;

/// A line with its number, from 1.
type Line<'a> = (usize, &'a str);

/// The messages of a text. Without a form it is guessed; `is_message` says whether bytes are a
/// whole message.
///
/// # Errors
/// Where the text is neither, with line and column.
pub fn read(
    text: &str,
    form: Option<TextForm>,
    is_message: impl Fn(&[u8]) -> bool,
) -> Result<Vec<TextMessage>, InspectError> {
    let lines: Vec<Line<'_>> = (1..).zip(text.lines()).collect();
    let form = form.unwrap_or_else(|| guess(text));
    let mut messages = Vec::new();
    for block in lines.split(|(_, line)| line.trim().is_empty()) {
        match (form, dump(block)) {
            (TextForm::Hex, Some(dumped)) => messages.extend(dumped),
            _ => messages.extend(block_of(block, form, &is_message)?),
        }
    }
    Ok(messages)
}

/// Nearly all digits: a wrong character in hexadecimal digits is better reported as that.
fn guess(text: &str) -> TextForm {
    let characters = || text.chars().filter(|character| !character.is_whitespace());
    let digits = characters().filter(char::is_ascii_hexdigit).count();
    let is_dump = text.lines().any(|line| dump_line(line).is_some());
    match is_dump || digits * 8 >= characters().count() * 7 {
        true => TextForm::Hex,
        false => TextForm::Base64,
    }
}

fn block_of(
    block: &[Line<'_>],
    form: TextForm,
    is_message: impl Fn(&[u8]) -> bool,
) -> Result<Vec<TextMessage>, InspectError> {
    let Some((first, rest)) = block.split_first() else { return Ok(Vec::new()) };
    let length = |line: &Line<'_>| line.1.trim().chars().count();
    let (last, others) = rest.split_last().unwrap_or((first, &[]));
    let even = others.iter().all(|line| length(line) == length(first));
    let looks_wrapped = !rest.is_empty() && even && length(last) <= length(first);
    if looks_wrapped && !bytes_of(&[*first], form).is_ok_and(|bytes| is_message(&bytes)) {
        return Ok(vec![TextMessage { line: first.0, bytes: bytes_of(block, form)? }]);
    }
    let message = |line: &Line<'_>| {
        Ok(TextMessage { line: line.0, bytes: bytes_of(std::slice::from_ref(line), form)? })
    };
    block.iter().map(message).collect()
}

/// The bytes that some lines together say.
fn bytes_of(lines: &[Line<'_>], form: TextForm) -> Result<Vec<u8>, InspectError> {
    let mut characters = Vec::new();
    for (number, line) in lines {
        for (column, character) in (1..).zip(line.chars()) {
            let known = match form {
                TextForm::Hex => character.is_ascii_hexdigit(),
                TextForm::Base64 => {
                    character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '=')
                }
            };
            match u8::try_from(character) {
                Ok(byte) if known => characters.push(byte),
                _ if character.is_whitespace() => {}
                _ => return Err(InspectError::Character { line: *number, column, form }),
            }
        }
    }
    let line = lines.first().map_or(1, |(number, _)| *number);
    match form {
        TextForm::Hex => hex(&characters).ok_or(InspectError::OddDigits { line }),
        TextForm::Base64 => {
            let padding = DecodePaddingMode::Indifferent;
            let config = GeneralPurposeConfig::new().with_decode_padding_mode(padding);
            let bytes = GeneralPurpose::new(&STANDARD, config).decode(&characters);
            bytes.map_err(|_| InspectError::Base64 { line })
        }
    }
}

/// The bytes of an even number of hexadecimal digits.
fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())
}

/// The messages of a block in which every line is one of a dump: each at the offset that the
/// lines before it lead to, or at 0 where a message begins.
fn dump(block: &[Line<'_>]) -> Option<Vec<TextMessage>> {
    let mut messages: Vec<TextMessage> = Vec::new();
    let mut repeats = false;
    for (number, line) in block {
        if line.trim() == "*" {
            repeats = true;
            continue;
        }
        let (offset, bytes) = dump_line(line)?;
        if std::mem::take(&mut repeats) {
            repeat_last_line(&mut messages.last_mut()?.bytes, offset)?;
        }
        match (offset, messages.last_mut()) {
            (0, _) => messages.push(TextMessage { line: *number, bytes }),
            (_, Some(message)) if message.bytes.len() == offset => message.bytes.extend(bytes),
            // The last line of a dump may say its length and hold nothing.
            _ => return None,
        }
    }
    Some(messages)
}

/// `*` stands for lines like the one before, up to the next offset.
fn repeat_last_line(bytes: &mut Vec<u8>, offset: usize) -> Option<()> {
    let line = bytes.last_chunk::<DUMP_LINE_BYTES>().copied()?;
    // A message is no longer than that.
    let repeated = offset.checked_sub(bytes.len()).filter(|_| offset <= FRAME_BYTES_MAX)?;
    bytes.extend(line.iter().cycle().take(repeated));
    Some(())
}

/// Offset and bytes of a line such as `00000010  30 31 ... 37  38 39 ...  |0178|`,
/// `0010   30 31` or `00000010: 3031 3738  01`.
fn dump_line(line: &str) -> Option<(usize, Vec<u8>)> {
    let line = line.trim();
    let end = line.find(|character: char| !character.is_ascii_hexdigit()).unwrap_or(line.len());
    let (offset, rest) = line.split_at_checked(end)?;
    let is_offset = (4..=8).contains(&offset.len());
    let is_apart = rest.starts_with(':') || rest.starts_with("  ") || rest.is_empty();
    let offset = usize::from_str_radix(offset, 16).ok().filter(|_| is_offset && is_apart)?;
    let rest = rest.trim_start_matches(':').trim_start();
    let (digits, _) = rest.split_once(['|', '\t']).unwrap_or((rest, ""));
    let (digits, _) = digits.split_once("   ").unwrap_or((digits, ""));
    let mut bytes = Vec::new();
    for (index, half) in digits.split("  ").enumerate() {
        // Behind any other gap stands the text.
        if index > 0 && (bytes.len() != DUMP_HALF_LINE_BYTES || index > 1) {
            break;
        }
        for word in half.split_whitespace() {
            match hex(word.as_bytes()) {
                Some(more) if bytes.len() < DUMP_LINE_BYTES => bytes.extend(more),
                _ => break,
            }
        }
    }
    let empty_but_first = bytes.is_empty() && offset == 0;
    (bytes.len() <= DUMP_LINE_BYTES && !empty_but_first).then_some((offset, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<(usize, Vec<u8>)> {
        // Here a message is whole where it ends in FF.
        let is_message = |bytes: &[u8]| bytes.last() == Some(&0xff);
        let read = read(text, None, is_message).unwrap();
        read.into_iter().map(|message| (message.line, message.bytes)).collect()
    }

    #[test]
    fn digits_may_be_spaced_and_wrapped() {
        let one = vec![(1, vec![0x08, 0x00, 0xab, 0xff])];
        for text in ["0800abff", "08 00 AB FF\n", "0800\nabff", "08 00\r\nab ff\r\n", " 0800 abff "]
        {
            assert_eq!(messages(text), one, "{text}");
        }
        assert_eq!(messages("080\n0ab\nff"), one);
        assert!(messages("").is_empty() && messages("\n\n").is_empty());
    }

    #[test]
    fn lines_are_messages_where_the_first_is_one_or_the_lengths_differ() {
        assert_eq!(messages("01ff\n02ff"), [(1, vec![1, 0xff]), (2, vec![2, 0xff])]);
        assert_eq!(messages("01\n0203\n04"), [(1, vec![1]), (2, vec![2, 3]), (3, vec![4])]);
        assert_eq!(messages("0102\n\n0304\n05"), [(1, vec![1, 2]), (3, vec![3, 4, 5])]);
    }

    #[test]
    fn dumps_of_usual_tools_are_read() {
        let bytes: Vec<u8> = (0x30..0x43).collect();
        for dump in [
            "00000000  30 31 32 33 34 35 36 37  38 39 3a 3b 3c 3d 3e 3f  |0123456789:;<=>?|\n\
             00000010  40 41 42                                          |@AB|\n00000013",
            "00000000: 3031 3233 3435 3637 3839 3a3b 3c3d 3e3f  0123456789:;<=>?\n\
             00000010: 4041 42                                  @AB",
            "0000   30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f   0123456789:;<=>?\n\
             0010   40 41 42                                          @AB",
            "0000  30 31 32 33 34 35 36 37  38 39 3a 3b 3c 3d 3e 3f\n0010  40 41 42",
        ] {
            assert_eq!(messages(dump), [(1, bytes.clone())], "{dump}");
            let twice = format!("{dump}\n{dump}");
            assert_eq!(messages(&twice).len(), 2, "{twice}");
        }
    }

    #[test]
    fn a_star_repeats_the_line_before_it() {
        let dump = "00000000: 3030 3030 3030 3030 3030 3030 3030 3030  0000000000000000\n*\n\
                    00000030: 31  1";
        assert_eq!(messages(dump), [(1, [&[0x30; 48][..], &[0x31]].concat())]);
        assert!(read("*\n0000:30", Some(TextForm::Hex), |_| true).is_err());
    }

    #[test]
    fn base64_is_known_from_digits() {
        assert_eq!(messages("MDgwMA=="), [(1, b"0800".to_vec())]);
        assert_eq!(messages("MDgwMA"), [(1, b"0800".to_vec())]);
        assert_eq!(messages("MDgw\nMA=="), [(1, b"0800".to_vec())]);
    }

    #[test]
    fn a_mistake_has_its_place_and_not_the_character() {
        let error = |text: &str, form| read(text, form, |_| true).err().unwrap().to_string();
        let hex = Some(TextForm::Hex);
        assert_eq!(error("0800\n\n08 0Z", hex), "line 3, column 5: expected a hexadecimal digit");
        assert_eq!(
            error("0800822000000000Z0", None),
            "line 1, column 17: expected a hexadecimal digit"
        );
        assert_eq!(error("080", hex), "line 1: an odd number of hexadecimal digits");
        let base64 = Some(TextForm::Base64);
        assert_eq!(error("MDg*", base64), "line 1, column 4: expected a character of base64");
        assert_eq!(error("M", base64), "line 1: not a whole number of bytes in base64");
    }
}
