//! Messages written as text: hexadecimal digits or base64, in lines or as a hexadecimal dump.
//!
//! A blank line stands between messages. Lines without one between them are a message each,
//! unless they look like one message that was wrapped: all lines are of one length, the last may
//! be shorter, and the first alone is no whole message. A dump begins a message at offset 0.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{FRAME_BYTES_MAX, INPUT_BYTES_MAX, InspectError};

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

/// Lines without a blank one between them.
#[derive(Clone, Copy)]
struct Block<'a> {
    /// Number of its first line, from 1.
    line: usize,
    text: &'a str,
}

impl<'a> Block<'a> {
    fn lines(self) -> impl Iterator<Item = Line<'a>> {
        (self.line..).zip(self.text.lines())
    }
}

/// Gives the messages of a text to `each`, one by one; `is_message` says whether bytes are a whole
/// message.
///
/// # Errors
/// Where the text is neither, with line and column; what stands before was given to `each`.
pub fn read(
    text: &str,
    form: TextForm,
    is_message: impl Fn(&[u8]) -> bool,
    mut each: impl FnMut(TextMessage) -> Result<(), InspectError>,
) -> Result<(), InspectError> {
    let mut repeats = Repeats { left: INPUT_BYTES_MAX };
    for block in blocks(text) {
        if form == TextForm::Hex {
            // Read twice: once to see that it is a dump throughout.
            if repeats.clone().dump(block, |_| Ok(()))? {
                repeats.dump(block, &mut each)?;
                continue;
            }
            if block.text.lines().next().is_some_and(has_doubtful_offset) {
                return Err(InspectError::Ambiguous { line: block.line });
            }
        }
        each_of(block, form, &is_message, &mut each)?;
    }
    Ok(())
}

/// What stands between blank lines. Nothing is kept: a text may have many lines.
fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let (mut rest, mut line) = (text, 1);
    std::iter::from_fn(move || {
        let is_blank = |line: &str| line.trim().is_empty();
        let skipped = rest.split_inclusive('\n').take_while(|line| is_blank(line));
        let (lines, bytes) =
            skipped.fold((0, 0), |(lines, bytes), line| (lines + 1, bytes + line.len()));
        (line, rest) = (line + lines, rest.get(bytes..)?);
        let taken = rest.split_inclusive('\n').take_while(|line| !is_blank(line));
        let (lines, bytes) =
            taken.fold((0, 0), |(lines, bytes), line| (lines + 1, bytes + line.len()));
        let (text, after) = rest.split_at_checked(bytes)?;
        let block = Block { line, text };
        (line, rest) = (line + lines, after);
        (lines > 0).then_some(block)
    })
}

/// Nearly all digits: a wrong character in hexadecimal digits is better reported as that.
#[must_use]
pub fn guess(text: &str) -> TextForm {
    let characters = || text.lines().flat_map(digits_of);
    let digits = characters().filter(|(_, character)| character.is_ascii_hexdigit()).count();
    let is_dump = text.lines().any(|line| dump_line(line).is_some());
    match is_dump || digits * 8 >= characters().count() * 7 {
        true => TextForm::Hex,
        false => TextForm::Base64,
    }
}

/// The characters of a line with their columns, from 1, without what tools and languages write
/// between bytes and before them: spaces, colons, commas, quotes and brackets, `0x` and `\x`.
fn digits_of(line: &str) -> impl Iterator<Item = (usize, char)> {
    let mut characters = (1..).zip(line.chars()).peekable();
    std::iter::from_fn(move || {
        loop {
            let (column, character) = characters.next()?;
            let before_x = || matches!(character, '0' | '\\');
            if before_x() && characters.next_if(|(_, next)| matches!(next, 'x' | 'X')).is_some() {
                continue;
            }
            if character.is_whitespace() || BETWEEN_BYTES.contains(&character) {
                continue;
            }
            return Some((column, character));
        }
    })
}

/// What may stand between bytes.
const BETWEEN_BYTES: [char; 12] = [':', ',', ';', '-', '_', '"', '\'', '{', '}', '[', ']', '|'];

fn each_of(
    block: Block<'_>,
    form: TextForm,
    is_message: impl Fn(&[u8]) -> bool,
    mut each: impl FnMut(TextMessage) -> Result<(), InspectError>,
) -> Result<(), InspectError> {
    let looks_wrapped = looks_wrapped(block);
    let first = block.lines().take(1);
    if looks_wrapped && !bytes_of(first, form).is_ok_and(|bytes| is_message(&bytes)) {
        return each(TextMessage { line: block.line, bytes: bytes_of(block.lines(), form)? });
    }
    block.lines().try_for_each(|line| {
        each(TextMessage { line: line.0, bytes: bytes_of(std::iter::once(line), form)? })
    })
}

/// More than one line, all of one length but the last, which may be shorter.
fn looks_wrapped(block: Block<'_>) -> bool {
    let mut lengths = block.text.lines().map(|line| line.trim().chars().count()).peekable();
    let Some(first) = lengths.next().filter(|_| lengths.peek().is_some()) else { return false };
    while let Some(length) = lengths.next() {
        let is_last = lengths.peek().is_none();
        if length > first || (length < first && !is_last) {
            return false;
        }
    }
    true
}

/// The bytes that some lines together say.
fn bytes_of<'a>(
    lines: impl Iterator<Item = Line<'a>>,
    form: TextForm,
) -> Result<Vec<u8>, InspectError> {
    let (mut characters, mut first) = (Vec::new(), None);
    for (number, line) in lines {
        first.get_or_insert(number);
        let is_known = |character: char| match form {
            TextForm::Hex => character.is_ascii_hexdigit(),
            TextForm::Base64 => {
                character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '=')
            }
        };
        let mut take = |(column, character)| match u8::try_from(character) {
            Ok(byte) if is_known(character) => {
                characters.push(byte);
                Ok(())
            }
            _ => Err(InspectError::Character { line: number, column, form }),
        };
        let is_text = |(_, character): &(usize, char)| !character.is_whitespace();
        match form {
            TextForm::Hex => digits_of(line).try_for_each(&mut take)?,
            TextForm::Base64 => {
                (1..).zip(line.chars()).filter(is_text).try_for_each(&mut take)?;
            }
        }
    }
    let line = first.unwrap_or(1);
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

/// What `*` may still stand for, in bytes.
#[derive(Clone)]
struct Repeats {
    left: u64,
}

impl Repeats {
    /// Gives the messages of a dump to `each`; false where the block is none, and then some may
    /// have been given.
    fn dump(
        &mut self,
        block: Block<'_>,
        mut each: impl FnMut(TextMessage) -> Result<(), InspectError>,
    ) -> Result<bool, InspectError> {
        let (mut message, mut stars): (Option<TextMessage>, _) = (None, false);
        // A single line with one space behind its offset may be data.
        let (mut doubtful, mut steps) = (false, false);
        for (number, line) in block.lines() {
            if line.trim() == "*" {
                stars = true;
                continue;
            }
            let Some(DumpLine { offset, bytes, gap }) = dump_line(line) else { return Ok(false) };
            doubtful |= gap == Gap::Space;
            steps |= offset > 0;
            if std::mem::take(&mut stars) {
                let Some(message) = &mut message else { return Ok(false) };
                match self.repeat_last_line(&mut message.bytes, offset) {
                    Some(true) => {}
                    Some(false) => return Err(InspectError::Expanded { line: number }),
                    None => return Ok(false),
                }
            }
            match (offset, &mut message) {
                (0, _) => {
                    let next = TextMessage { line: number, bytes };
                    message.replace(next).map_or(Ok(()), &mut each)?;
                }
                // The last line of a dump may say its length and hold nothing.
                (_, Some(message)) if message.bytes.len() == offset => message.bytes.extend(bytes),
                _ => return Ok(false),
            }
        }
        if stars || (doubtful && !steps) {
            return Ok(false);
        }
        message.map_or(Ok(()), each)?;
        Ok(true)
    }

    /// `*` stands for lines like the one before, up to the next offset. `None` where it cannot,
    /// false where it is too much.
    fn repeat_last_line(&mut self, bytes: &mut Vec<u8>, offset: usize) -> Option<bool> {
        let line = bytes.last_chunk::<DUMP_LINE_BYTES>().copied()?;
        // A message is no longer than that.
        let repeated = offset.checked_sub(bytes.len()).filter(|_| offset <= FRAME_BYTES_MAX)?;
        let Some(left) = self.left.checked_sub(repeated as u64) else { return Some(false) };
        self.left = left;
        bytes.extend(line.iter().cycle().take(repeated));
        Some(true)
    }
}

/// A line of a dump.
struct DumpLine {
    offset: usize,
    bytes: Vec<u8>,
    gap: Gap,
}

/// What stands behind an offset.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// A colon, two spaces or the end of the line: it is an offset.
    Wide,
    /// One space: it may be data.
    Space,
}

/// The offset at the head of a line, and what follows it.
fn offset_of(line: &str) -> Option<(usize, Gap, &str)> {
    let line = line.trim();
    let after_mark = line.strip_prefix("0x");
    let digits = after_mark.unwrap_or(line);
    let end = digits.find(|character: char| !character.is_ascii_hexdigit()).unwrap_or(digits.len());
    let (offset, rest) = digits.split_at_checked(end)?;
    let gap = match rest.strip_prefix(':') {
        Some(_) => Gap::Wide,
        None if after_mark.is_some() => return None,
        None if rest.is_empty() || rest.starts_with("  ") => Gap::Wide,
        None if rest.starts_with(' ') => Gap::Space,
        None => return None,
    };
    let lengths = if gap == Gap::Space { 6..=8 } else { 4..=8 };
    let is_offset = lengths.contains(&offset.len());
    let offset = usize::from_str_radix(offset, 16).ok().filter(|_| is_offset)?;
    Some((offset, gap, rest.trim_start_matches(':').trim_start()))
}

/// Whether a line begins with what may be an offset of a dump: 0 before a space, or any before a
/// colon and a space.
fn has_doubtful_offset(line: &str) -> bool {
    let has_colon = line.split_whitespace().next().is_some_and(|word| word.ends_with(':'));
    offset_of(line).is_some_and(|(offset, gap, _)| match gap {
        Gap::Space => offset == 0,
        Gap::Wide => has_colon,
    })
}

/// Offset and bytes of a line such as `00000010  30 31 ... 37  38 39 ...  |0178|`,
/// `0010   30 31`, `00000010: 3031 3738  01`, `0x0010:  3031 3738  01` or `000010 30 31 37`.
fn dump_line(line: &str) -> Option<DumpLine> {
    let (offset, gap, rest) = offset_of(line)?;
    let (digits, _) = rest.split_once(['|', '\t']).unwrap_or((rest, ""));
    let (digits, _) = digits.split_once("   ").unwrap_or((digits, ""));
    let mut bytes = Vec::new();
    for (index, half) in digits.split("  ").enumerate() {
        // Behind any other gap stands the text.
        if index > 0 && (bytes.len() != DUMP_HALF_LINE_BYTES || index > 1) {
            break;
        }
        for word in half.split_whitespace() {
            // Behind one space, longer words may have their bytes turned round.
            if gap == Gap::Space && word.len() != 2 {
                return None;
            }
            match hex(word.as_bytes()) {
                Some(more) if bytes.len() < DUMP_LINE_BYTES => bytes.extend(more),
                _ => break,
            }
        }
    }
    let empty_but_first = bytes.is_empty() && offset == 0;
    let is_line = bytes.len() <= DUMP_LINE_BYTES && !empty_but_first;
    is_line.then_some(DumpLine { offset, bytes, gap })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<(usize, Vec<u8>)> {
        // Here a message is whole where it ends in FF.
        let is_message = |bytes: &[u8]| bytes.last() == Some(&0xff);
        let mut messages = Vec::new();
        let keep = |message: TextMessage| {
            messages.push((message.line, message.bytes));
            Ok(())
        };
        read(text, guess(text), is_message, keep).unwrap();
        messages
    }

    fn error(text: &str, form: Option<TextForm>) -> String {
        read(text, form.unwrap_or_else(|| guess(text)), |_| true, |_| Ok(()))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn digits_may_be_spaced_and_wrapped() {
        let one = vec![(1, vec![0x08, 0x00, 0xab, 0xff])];
        for text in ["0800abff", "08 00 AB FF\n", "0800\nabff", "08 00\r\nab ff\r\n", " 0800 abff "]
        {
            assert_eq!(messages(text), one, "{text}");
        }
        assert_eq!(messages("080\n0ab\nff"), one);
        for text in [
            "08:00:ab:ff",
            "0x08 0x00 0xAB 0xff",
            "0x0800abff",
            "0X08,0X00,\n0XAB,0XFF",
            "{0x08, 0x00, 0xab, 0xff}",
            "\"\\x08\\x00\\xab\\xff\"",
            "08-00-ab-ff",
            "[0800 | abff]",
        ] {
            assert_eq!(messages(text), one, "{text}");
        }
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
            "000000 30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f\n000010 40 41 42\n000013",
            "000000 30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f  >0123456789:;<=>?<\n\
             000010 40 41 42                                         >@AB<\n000013",
            "\t0x0000:  3031 3233 3435 3637 3839 3a3b 3c3d 3e3f  0123456789:;<=>?\n\
             \t0x0010:  4041 42                                  @AB",
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
        assert!(error("*\n0000:30", Some(TextForm::Hex)).contains("line 1, column 1"));
        assert!(error("0000: 30\n*", Some(TextForm::Hex)).contains("line 1: an offset or data?"));
        assert!(error("0010: 30 31", None).contains("line 1: an offset or data?"));
    }

    #[test]
    fn what_stars_stand_for_is_bounded_in_all() {
        let dump = "00000000: 3030 3030 3030 3030 3030 3030 3030 3030  0000000000000000\n*\n\
                    0000fff0: 31\n";
        let times = usize::try_from(INPUT_BYTES_MAX).unwrap() / 0xffe0;
        let (mut messages, text) = (0, dump.repeat(times + 1));
        let count = |_| {
            messages += 1;
            Ok(())
        };
        // The first pass finds it, before any message of the block is given.
        let error = read(&text, TextForm::Hex, |_| true, count).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("line {}: `*` stands for more than 256 MiB in all", 3 * times + 3)
        );
        assert_eq!(messages, 0);
    }

    #[test]
    fn what_may_be_offsets_or_data_is_refused() {
        for text in [
            // One line only, octal offsets, bytes that are turned round.
            "000000 30 31 32 33",
            "0000000 30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f\n0000020 40 41 42\n0000023",
            "0000000 3130 3332 3534 3736 3938 3b3a 3d3c 3f3e\n0000010 4140 0042\n0000013",
        ] {
            assert!(error(text, None).starts_with("line 1: an offset or data?"), "{text}");
        }
        // A length before a message is no offset 0.
        assert_eq!(messages("000002 30 ff"), [(1, vec![0, 0, 2, 0x30, 0xff])]);
    }

    #[test]
    fn blank_lines_cost_nothing_and_count() {
        let text = "\n".repeat(100_000) + "01ff\n \n\r\n02ff\n";
        assert_eq!(messages(&text), [(100_001, vec![1, 0xff]), (100_004, vec![2, 0xff])]);
    }

    #[test]
    fn base64_is_known_from_digits() {
        assert_eq!(messages("MDgwMA=="), [(1, b"0800".to_vec())]);
        assert_eq!(messages("MDgwMA"), [(1, b"0800".to_vec())]);
        assert_eq!(messages("MDgw\nMA=="), [(1, b"0800".to_vec())]);
    }

    #[test]
    fn a_mistake_has_its_place_and_not_the_character() {
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
