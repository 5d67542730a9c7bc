"""`pinswitch decode`: messages of pyiso8583, in text and in captures written here, masked."""

import base64
import random
import struct

import messages
import pytest
from messages import CARD_1, CARD_3, authorization, network_management
from process import REPOSITORY, run
from test_framing import KEEP_ALIVES, LENGTHS

TRACK = "=29122010000099900000"
CVV = "739"
CHIP = (
    "9F26081122334455667788" "9F360201A4" "9F10070601120400A840" "9505008004E000" "9A03261121"
    "9C0100" "5F2A020978" "9F0206000000001250" "82025C00" "5A084761340000000019" "5F3401" "01"
    "57114761340000000019D29122010000099900" "9F3303E0F8C8" "DF010101"
)
NAMES = {
    "9F26": "Application cryptogram", "9F36": "Application transaction counter (ATC)",
    "9F10": "Issuer application data (IAD)", "95": "Terminal verification results (TVR)",
    "5A": "Application PAN", "57": "Track 2 equivalent data", "DF01": "no name in EMV",
}


def full_request():
    """Everything that must not be seen, in one message."""
    request = authorization(CARD_1, CARD_1.pin, changes={
        "22": "051", "35": CARD_1.pan + TRACK, "45": f"B{CARD_1.pan}^HOLDER/NAME^2912{CVV}",
        "48": f"CVV2 {CVV}", "53": "2600000000000000", "55": CHIP,
    })
    return request


def secrets_of(request):
    block = bytes.fromhex(request["52"])
    return [
        request["2"], request["2"].encode().hex(), request["52"], request["52"].lower(),
        repr(block)[2:-1], request["35"], TRACK[1:], "HOLDER", CARD_1.pin, f"CVV2 {CVV}",
        "4761340000000019D", "476134000", "2912201", base64.b64encode(block).decode(),
    ]


def decode(*words, stdin="", code=0):
    result = run("decode", *words, stdin=stdin)
    assert result.returncode == code, (result.stdout, result.stderr)
    return result


def assert_shows(shown, request):
    lines = shown.splitlines()
    mti = next(line for line in lines if line.startswith("MTI "))
    assert mti.split()[1] == request["t"]
    listed = [int(line[2:5]) for line in lines if line.startswith("DE")]
    assert listed == sorted(int(name) for name in request if name.isdigit())
    bitmap = next(line for line in lines if line.startswith("bitmap"))
    assert [int(number) for number in bitmap.split()[2:]] == listed
    for name in ("3", "4", "7", "11", "37"):
        if name in request:
            line = next(line for line in lines if line.startswith(f"DE{int(name):03}"))
            assert line.endswith(f": {request[name]}"), line


def test_a_request_is_listed_masked_with_names(tmp_path):
    request = full_request()
    digits = messages.encode(request).hex()
    wrapped = "\n".join(digits[at : at + 64] for at in range(0, len(digits), 64))
    path = tmp_path / "message.hex"
    path.write_text(wrapped)
    spaced = " ".join(digits[at : at + 2] for at in range(0, len(digits), 2)).upper()
    encoded = base64.b64encode(messages.encode(request)).decode()
    for words, stdin in [
        ([digits], ""), ([path], ""), ([], digits), (["-"], spaced), ([], wrapped),
        (["--input", "hex"], digits), ([], encoded), (["--input", "base64", encoded], ""),
        ([], encoded[:76] + "\n" + "\n".join(encoded[at : at + 76]
                                            for at in range(76, len(encoded), 76))),
    ]:
        result = decode(*words, stdin=stdin)
        assert result.stderr == ""
        shown = result.stdout
        assert_shows(shown, request)
        assert "0100  ISO 8583:1987, authorization, request, acquirer" in shown
        assert "Primary account number, LL ascii, 16 bytes: 476134******0019" in shown
        for tag, name in NAMES.items():
            assert f"{tag}  {name}: " in shown, shown
        assert "9F26  Application cryptogram: 1122334455667788" in shown
        assert "5A  Application PAN: [8 bytes]" in shown
        bitmap = next(line for line in shown.splitlines() if line.startswith("bitmap"))
        for secret in secrets_of(request):
            assert secret not in shown.replace(bitmap, ""), secret


@pytest.mark.parametrize("code, words", [
    ("00", "Approved"), ("55", "Invalid Pin"), ("75", "Pin try limit exceeded"),
    ("91", "Issuer or HSM unavailable"), ("30", "Format error"),
])
def test_an_answer_says_what_de39_means(code, words):
    answer = {"t": "0110", "11": "000001", "39": code}
    shown = decode(messages.encode(answer).hex()).stdout
    assert f": {code}  {words}\n" in shown and "request response" in shown


def dump(raw, style):
    lines = []
    for at in range(0, len(raw), 16):
        part = raw[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        if style == "xxd":
            words = " ".join(part[i : i + 2].hex() for i in range(0, len(part), 2))
            lines.append(f"{at:08x}: {words:<39}  {text}")
        elif style == "tcpdump":
            words = " ".join(part[i : i + 2].hex() for i in range(0, len(part), 2))
            lines.append(f"\t0x{at:04x}:  {words:<39}  {text}")
        elif style == "od":
            lines.append(f"{at:06x} {part.hex(' ')}")
        elif style == "hexdump":
            words = part[:8].hex(" ") + "  " + part[8:].hex(" ")
            lines.append(f"{at:08x}  {words:<48}  |{text}|")
        else:
            lines.append(f"{at:04x}   {part.hex(' '):<47}   {text}")
    end = {"hexdump": f"\n{len(raw):08x}\n", "od": f"\n{len(raw):06x}\n"}
    return "\n".join(lines) + end.get(style, "\n")


@pytest.mark.parametrize("style", ["xxd", "hexdump", "wireshark", "tcpdump", "od"])
def test_dumps_with_offsets_are_read(style):
    requests = [full_request(), network_management(), authorization(CARD_3, CARD_3.pin)]
    text = "".join(dump(messages.encode(request), style) for request in requests)
    shown = decode(stdin=text).stdout.split("\nmessage ")[1:]
    assert len(shown) == 3
    for part, request in zip(shown, requests):
        assert_shows(part, request)


@pytest.mark.parametrize("framing", [*LENGTHS, "stx-etx"])
def test_text_may_be_frames_with_headers(framing):
    requests = [network_management(), authorization(CARD_1, CARD_1.pin)]
    header = bytes.fromhex("6000011234") if framing != "stx-etx" else b""
    stream = b""
    for request in requests:
        body = header + messages.encode(request)
        framed = b"\2" + body + b"\3" if framing == "stx-etx" else LENGTHS[framing][0](len(body)) + body
        stream += KEEP_ALIVES[framing] + framed
    words = ["--framing", framing, *(["--header", "tpdu"] if header else [])]
    shown = decode(*words, stream.hex()).stdout.split("\nmessage ")[1:]
    for part, request in zip(shown, requests, strict=True):
        assert_shows(part, request)
    short = decode(*words, stream[:-1].hex(), code=1)
    assert "unfinished frame" in short.stdout


def test_good_messages_are_listed_beside_bad_ones():
    good, bad = messages.encode(network_management()), messages.encode(full_request())
    wrong = bad.replace(b"000000001250", b"00000000125x", 1)
    text = "\n".join(raw.hex() for raw in (good, b"ISO08x0", wrong, bad[:-40], good))
    result = decode(stdin=text, code=1)
    assert "standard input: 3 of 5 messages have faults; 0 places were not read" in result.stderr
    parts = result.stdout.split("\nmessage ")[1:]
    assert [part.split(",")[0] for part in parts] == [f"{n}: line {n}" for n in range(1, 6)]
    assert "fault  MTI is not four digits at byte 0" in parts[1]
    assert "fault  DE4: character not allowed by the type at byte" in parts[2]
    assert "(Amount, transaction)" in parts[2] and "DE055" in parts[2]
    assert "fault  DE55: truncated at byte" in parts[3]
    for part in (parts[0], parts[4]):
        assert "fault" not in part


@pytest.mark.parametrize("stdin, words, expected", [
    ("0800 8220 00Z0", [], "standard input: line 1, column 13: expected a hexadecimal digit"),
    ("\n\n080", [], "standard input: line 3: an odd number of hexadecimal digits"),
    ("MDgw*", ["--input", "base64"], "line 1, column 5: expected a character of base64"),
    ("", [], "standard input: no message"),
    ("0800", ["--dialect", "nothing"], "--dialect: expected iso8583-1987-ascii"),
    ("0800", ["no-such/file.pcap"], "no-such/file.pcap: no such file"),
    ("000000 30 38 30 30", [], "line 1: an offset or data?"),
    ("0800", ["--input", "pcap"], "packet 0: not a pcap or pcapng file"),
])
def test_bad_input_is_refused_with_its_place(stdin, words, expected):
    result = decode(*words, stdin=stdin, code=1)
    assert expected in result.stderr and "message 1" not in result.stdout


def test_bytes_that_are_no_text_are_refused_where_text_was_said(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(b"0800\xff")
    assert "byte 4: no text" in decode("--input", "hex", path, code=1).stderr
    assert "fault  bitmap truncated at byte 5" in decode(path, code=1).stdout


SEPARATED = {
    "colons": lambda raw: raw.hex(":"), "0x": lambda raw: " ".join(f"0x{b:02x}" for b in raw),
    "one 0X": lambda raw: "0X" + raw.hex().upper(), "commas": lambda raw: raw.hex(","),
    "of C": lambda raw: "{" + ", ".join(f"0x{b:02X}" for b in raw) + "};",
    "escapes": lambda raw: '"' + "".join(f"\\x{b:02x}" for b in raw) + '"',
    "dashes": lambda raw: raw.hex("-"), "mark": lambda raw: "\ufeff" + raw.hex(),
    "lines": lambda raw: ",\n".join(
        ", ".join(f"0x{b:02x}" for b in raw[at : at + 8]) for at in range(0, len(raw), 8)),
    "itself": lambda raw: raw.decode(), "itself, a line": lambda raw: raw.decode() + "\r\n",
}


@pytest.mark.parametrize("how", SEPARATED)
def test_every_usual_way_to_write_bytes_is_read(how):
    request = authorization(CARD_1, CARD_1.pin)
    result = decode(stdin=SEPARATED[how](messages.encode(request)))
    assert_shows(result.stdout, request)
    assert ("read as the messages themselves" in result.stdout) == how.startswith("itself")


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_how_a_file_is_written(tmp_path, mark):
    request = authorization(CARD_1, CARD_1.pin)
    for text in (messages.encode(request).decode(), messages.encode(request).hex(" ")):
        path = tmp_path / "message.txt"
        path.write_bytes(text.encode(mark))
        assert_shows(decode(path).stdout, request)


@pytest.mark.parametrize("dialect", [messages.ASCII, messages.BINARY])
@pytest.mark.parametrize("name", ["CAF\u00c9".encode("latin-1"), b"SHOP\0\n\r\x1a", b"SHOP"])
def test_a_file_may_be_the_message_itself(tmp_path, dialect, name):
    request = authorization(CARD_1, CARD_1.pin)
    raw = messages.encode({**request, "43": "SHOP".ljust(40)}, dialect)
    raw = raw.replace(b"SHOP".ljust(40), name.ljust(40))
    path = tmp_path / "message.bin"
    for file in (raw, raw + b"\n", struct.pack(">H", len(raw)) + raw):
        path.write_bytes(file)
        for words in (["--dialect", dialect], ["--dialect", "auto"]):
            shown = decode(*words, path).stdout
            assert_shows(shown, {**request, "43": ""})
            assert ("read with framing binary-2" in shown) == (file[:1] == b"\0")
            assert (f"note: dialect {dialect} fits" in shown) == ("auto" in words)
    path.write_bytes(b"%04d" % len(raw) + raw)
    assert "read with framing ascii-4" in decode("--dialect", dialect, path).stdout
    # Framed messages, one behind another.
    path.write_bytes(b"".join(struct.pack(">H", len(raw)) + raw for _ in range(3)))
    assert decode("--dialect", dialect, path).stdout.count("\nmessage ") == 3
    assert decode("--dialect", dialect, "--framing", "binary-2", "--input", "raw", path)


@pytest.mark.parametrize("dialect", [messages.ASCII, messages.BINARY])
@pytest.mark.parametrize("framing", ["binary-2", "ascii-4"])
@pytest.mark.parametrize("written", ["itself", "hex"])
def test_a_long_stream_is_known_by_its_beginning(tmp_path, dialect, framing, written):
    raw = messages.encode(authorization(CARD_1, CARD_1.pin), dialect)
    length = struct.pack(">H", len(raw)) if framing == "binary-2" else b"%04d" % len(raw)
    count = 800_000 // len(raw)
    path = tmp_path / "stream"
    for end, code in (b"", 0), (raw[:50], 1):
        stream = (length + raw) * count + (length + end if end else b"")
        path.write_bytes(stream if written == "itself" else stream.hex().encode())
        result = decode("--dialect", dialect, path, code=code)
        assert f"note: read with framing {framing}\n" in result.stdout[:200]
        assert result.stdout.count("\nmessage ") == count and "\nfault" not in result.stdout
        assert ("bytes of an unfinished frame" in result.stdout) == bool(end)


def test_a_log_may_hold_a_message_a_line():
    requests = [network_management(), authorization(CARD_1, CARD_1.pin), network_management()]
    lines = [messages.encode(request).decode() for request in requests]
    shown = decode(stdin="\n".join(lines) + "\n").stdout.split("\nmessage ")
    assert shown[0].startswith("note: read as the messages themselves, one a line")
    for part, request in zip(shown[1:], requests, strict=True):
        assert_shows(part, request)
    lines[1] = lines[1].replace("000000001250", "00000000125x", 1)
    result = decode(stdin="\n".join(lines), code=1)
    assert "1 of 3 messages have faults" in result.stderr
    assert "fault  DE4: character not allowed" in result.stdout


def test_of_several_dialects_the_one_that_fits_is_taken_and_named(tmp_path):
    request = authorization(CARD_1, CARD_1.pin)
    for dialect in (messages.ASCII, messages.BINARY):
        raw = messages.encode(request, dialect)
        shown = decode("--dialect", "auto", raw.hex()).stdout
        assert shown.startswith(f"note: dialect {dialect} fits\n")
        assert_shows(shown, request)
        cut = decode("--dialect", "auto", raw[:-1].hex(), code=1).stdout
        assert cut.startswith(f"note: no dialect fits without a fault; {dialect} reads furthest\n")
    own = tmp_path / "own.toml"
    shipped = run("dialect", "show", messages.ASCII).stdout
    own.write_text(shipped.replace('"iso8583-1987-ascii"', '"own"').replace('"hex"', '"raw"', 1))
    raw = messages.encode(network_management())
    shown = decode("--dialect", messages.ASCII, "--dialect", own, raw.hex()).stdout
    assert shown.startswith(f"note: dialect {messages.ASCII} fits\n")
    raw = raw[:4] + bytes.fromhex(raw[4:36].decode()) + raw[36:]
    shown = decode("--dialect", messages.ASCII, "--dialect", own, raw.hex()).stdout
    assert shown.startswith("note: dialect own fits\n")


def test_of_a_faulty_message_is_shown_what_stands_before_the_fault():
    request = authorization(CARD_1, CARD_1.pin)
    raw = messages.encode(request)
    shown = decode(raw[:-5].hex(), code=1).stdout
    digits = raw[4:20].decode()
    numbers = " ".join(sorted((name for name in request if name.isdigit()), key=int))
    assert f"\nbitmap {digits} {numbers}\n" in shown
    for name in ("3", "4", "7", "11", "37", "41", "49"):
        line = next(line for line in shown.splitlines() if line.startswith(f"DE{int(name):03}"))
        assert line.endswith(f": {request[name].strip()}"), line
    assert "\nfault  DE52: truncated" in shown
    # DE2 is not public, and nothing behind a fault is shown.
    assert "DE002  Primary account number, LL ascii, 16 bytes: [16 digits]" in shown
    wrong = raw.replace(b"000000001250", b"00000000125x", 1)
    shown = decode(wrong.hex(), code=1).stdout
    assert "6 bytes: 000000\n" in shown and "DE011  Systems trace audit number, fixed ascii, " \
        "6 bytes: [6 digits]" in shown


@pytest.mark.parametrize("code, words", [
    ("1809", "Invalid Pin"), ("1872", "Pin try limit exceeded"), ("9913", "Same key as an earlier"),
    ("037", "DE37 is missing or wrong: Retrieval reference number"),
    ("004", "DE4 is missing or wrong: Amount, transaction"),
])
def test_de44_is_explained(code, words):
    answer = {"t": "0110", "11": "000001", "39": "55", "44": code}
    assert f": {code}  {words}" in decode(messages.encode(answer).hex()).stdout


def test_an_mti_is_shown_without_a_bitmap():
    shown = decode(b"08002Z20000008000000".hex(), code=1).stdout
    assert "\nMTI    0800  ISO 8583:1987, network management" in shown and "fault  bitmap" in shown


def test_an_argument_may_be_a_message_with_a_dot():
    request = authorization(CARD_1, CARD_1.pin, changes={"43": "SHOP.COM".ljust(40)})
    assert_shows(decode(messages.encode(request).decode()).stdout, request)


@pytest.mark.parametrize("ending", ["xml", "json"])
def test_other_kinds_of_dialect_files_are_refused_in_plain_words(tmp_path, ending):
    path = tmp_path / f"packager.{ending}"
    path.write_text("<isopackager/>")
    said = decode("--dialect", path, "0800", code=1).stderr
    assert "are not read" in said and "`pinswitch dialect show`" in said


def test_a_shipped_dialect_is_printed():
    names = run("dialect", "list").stdout.split()
    assert names == run("dialect", "show").stdout.split() == [messages.ASCII, messages.BINARY]
    for name in names:
        file = REPOSITORY / f"iso-specs/specs/{name}.toml"
        assert run("dialect", "show", name).stdout == file.read_text()
    result = run("dialect", "show", "none")
    assert result.returncode == 1 and messages.BINARY in result.stderr


def test_wrong_words_are_wrong_usage():
    for words in (["--framing", "binary-5"], ["--header", "echo:0"], ["--port", "x"]):
        assert run("decode", *words, stdin="").returncode == 2


def test_no_secret_is_shown_of_messages_that_are_damaged():
    source = random.Random(8583)
    request = full_request()
    raw = messages.encode(request)
    pan, block = request["2"], request["52"]
    lines = []
    for _ in range(400):
        changed = bytearray(raw)
        match source.randrange(4):
            case 0:
                del changed[source.randrange(len(raw)):][: source.randrange(40)]
            case 1:
                at = source.randrange(len(raw))
                del changed[at : at + source.randrange(1, 40)]
            case 2:
                changed[source.randrange(len(raw))] = source.randrange(256)
            case 3:
                at = source.randrange(len(raw))
                changed[at:at] = bytes(source.choices(b"0123456789", k=source.randrange(1, 20)))
        lines.append(changed.hex())
    result = run("decode", stdin="\n\n".join(lines))
    assert result.returncode == 1
    assert result.stdout.count("\nmessage ") == len(lines)
    for secret in (pan, pan.encode().hex(), block):
        assert secret not in result.stdout + result.stderr


LEAK_DIGITS = 8


def rows_of(secrets):
    """Digits of a secret in a row, in the forms that a listing could show them in."""
    for secret in secrets:
        for form in (secret.replace("=", ""), secret.replace("=", "D"), secret.encode().hex()):
            form = form.upper()
            yield from (form[at : at + LEAK_DIGITS] for at in range(len(form) - LEAK_DIGITS + 1))


@pytest.mark.parametrize("dialect, bitmap_at", [(messages.ASCII, 4), (messages.BINARY, 2)])
def test_no_row_of_a_secret_is_shown_of_a_shifted_message(dialect, bitmap_at):
    pan = "4761349276581354"
    request = authorization(CARD_1, CARD_1.pin, changes={
        "2": pan, "35": f"{pan}=29121017365829416375", "48": pan, "102": pan,
    })
    raw = messages.encode(request, dialect)
    changed = []
    for bit in range(128):
        if dialect == messages.ASCII:
            at = bitmap_at + bit // 4
            digit = int(chr(raw[at]), 16) ^ (8 >> bit % 4)
            changed.append(raw[:at] + b"%X" % digit + raw[at + 1 :])
        else:
            at = bitmap_at + bit // 8
            changed.append(raw[:at] + bytes([raw[at] ^ (0x80 >> bit % 8)]) + raw[at + 1 :])
    for at in range(len(raw)):
        before, after = raw[:at], raw[at:]
        changed += [before + after[1:], before + b"\x10" + after, before + b"9" + after]
    result = run("decode", "--dialect", dialect, stdin="\n\n".join(one.hex() for one in changed))
    parts = result.stdout.split("\nmessage ")[1:]
    assert len(parts) == len(changed)
    rows = set(rows_of([pan, request["35"], request["52"]]))
    for part in parts:
        joined = "".join(c for c in part.upper() if c in "0123456789ABCDEF")
        assert not [row for row in rows if row in joined], part


@pytest.mark.parametrize("word", [
    "0000: 4761340000000019.", ".4761 3400 0000 0019", "/4761-3400-0000-0019.hex", "." + "x" * 64,
    ".1B9C1845EB993A7E",
])
def test_an_argument_that_may_be_a_message_is_not_quoted(word):
    result = decode(word, code=1)
    assert result.stderr == "pinswitch: the argument: no such file\n"


def base_i(total, extra=b""):
    return bytes([22 + len(extra), 1, 2]) + struct.pack(">H", total) + bytes(17) + extra


def test_behind_a_reject_header_stands_our_own_message_with_its_header():
    request = authorization(CARD_1, CARD_1.pin)
    raw = messages.encode(request)
    whole = base_i(22 + len(raw)) + raw
    reject = b"\x80\0\x05\x17"
    rejected = base_i(26 + len(whole), reject) + whole
    shown = decode("--header", "base-i", rejected.hex()).stdout
    assert "header base-i, 26 bytes, rejected with code 0517\nits own header, 22 bytes\n" in shown
    assert_shows(shown, request)
    # What is no such header is not listed.
    for behind in (raw, whole[:-1], whole[:21]):
        result = decode("--header", "base-i", (base_i(0, reject) + behind).hex(), code=1)
        assert f"not read: {len(behind)} bytes behind a reject header\n" in result.stdout
        assert "MTI" not in result.stdout and "DE0" not in result.stdout


# Captures.

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 8583)
SYN, ACK = 0x02, 0x18


def ip_of(address):
    return bytes(map(int, address.split(".")))


def segment(source, target, sequence, data, flags=ACK, version=4):
    tcp = struct.pack(">HHIIBBHHH", source[1], target[1], sequence % 2**32, 0, 0x50, flags,
                      65535, 0, 0) + data
    if version == 6:
        address = [b"\x20\x01" + b"\0" * 10 + ip_of(end[0]) for end in (source, target)]
        return struct.pack(">IHBB", 6 << 28, len(tcp), 6, 64) + b"".join(address) + tcp
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0)
    return head + ip_of(source[0]) + ip_of(target[0]) + tcp


LINK_HEADERS = {
    1: lambda version: b"\2" * 12 + (b"\x08\0" if version == 4 else b"\x86\xdd"),
    0: lambda version: struct.pack("<I", 2 if version == 4 else 10),
    101: lambda version: b"",
    113: lambda version: b"\0" * 14 + (b"\x08\0" if version == 4 else b"\x86\xdd"),
    276: lambda version: (b"\x08\0" if version == 4 else b"\x86\xdd") + b"\0" * 18,
}


def pcap(packets, link=1, version=4, order="<"):
    file = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    for number, packet in enumerate(packets):
        whole = LINK_HEADERS[link](version) + packet
        file += struct.pack(order + "IIII", 1_763_700_000, number, len(whole), len(whole)) + whole
    return file


def pcapng(packets, link=1):
    def block(kind, body):
        body += b"\0" * (-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    file = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    # Nanoseconds.
    file += block(1, struct.pack("<HHI", link, 0, 0) + struct.pack("<HHB3x", 9, 1, 9) + b"\0" * 4)
    for number, packet in enumerate(packets):
        whole = LINK_HEADERS[link](4) + packet
        ticks = 1_763_700_000 * 10**9 + number * 1000
        file += block(6, struct.pack("<IIIII", 0, ticks >> 32, ticks % 2**32, len(whole),
                                     len(whole)) + whole)
    return file


def conversation(version=4):
    """Requests and an answer: split, sent twice, out of order, over the end of the numbers."""
    requests = [network_management(), full_request(), authorization(CARD_3, CARD_3.pin)]
    stream = b"".join(
        KEEP_ALIVES["binary-2"] + LENGTHS["binary-2"][0](len(raw)) + raw
        for raw in map(messages.encode, requests)
    )
    first = 2**32 - 100
    cuts = [0, 1, 40, 90, 200, 300, len(stream)]
    pieces = [(first + 1 + a, stream[a:b]) for a, b in zip(cuts, cuts[1:])]
    order = [0, 1, 3, 1, 2, 4, 2, 5]
    answer = messages.encode({"t": "0810", "11": requests[0]["11"], "39": "00"})
    framed = LENGTHS["binary-2"][0](len(answer)) + answer
    packets = [segment(CLIENT, SERVER, first, b"", SYN, version)]
    packets += [segment(CLIENT, SERVER, *pieces[index], version=version) for index in order]
    packets.insert(7, segment(SERVER, CLIENT, 7777, framed, version=version))
    # Another port, and a packet that is not TCP.
    packets.append(segment(("10.0.0.1", 1), ("10.0.0.2", 2), 5, b"HELLO, no message", version=version))
    return requests, packets


def write(tmp_path, file):
    path = tmp_path / "capture"
    path.write_bytes(file)
    return path


@pytest.mark.parametrize("link", LINK_HEADERS)
@pytest.mark.parametrize("version", [4, 6])
def test_a_capture_of_every_link_type_is_put_in_order(tmp_path, link, version):
    requests, packets = conversation(version)
    path = write(tmp_path, pcap(packets, link, version))
    shown = decode("--port", "8583", path).stdout
    assert_conversation(shown, requests)
    ends = "10.0.0.1:40000" if version == 4 else "[2001::a00:1]:40000"
    assert f"note: {ends} -> " in shown
    assert "2 packets retransmitted, 1 out of order" in shown


def assert_conversation(shown, requests):
    _, *parts = shown.split("\nmessage ")
    types = [part.split("MTI    ")[1][:4] for part in parts]
    assert types == ["0800", "0810", "0100", "0100"]
    for part, request in zip([parts[0], *parts[2:]], requests):
        assert_shows(part, request)
    assert "2025-11-21T04:40:00" in parts[0]
    for part in parts:
        bitmap = next(line for line in part.splitlines() if line.startswith("bitmap"))
        for secret in secrets_of(requests[1]):
            assert secret not in part.replace(bitmap, ""), secret


def test_both_kinds_of_files_and_byte_orders_say_the_same(tmp_path):
    requests, packets = conversation()
    outputs = [
        decode("--port", "8583", write(tmp_path, file)).stdout
        for file in (pcap(packets), pcap(packets, order=">"), pcapng(packets))
    ]
    assert outputs[0] == outputs[1] == outputs[2]
    assert_conversation(outputs[0], requests)


def test_a_gap_is_reported_and_reading_goes_on(tmp_path):
    frames = [LENGTHS["ascii-4"][0](len(raw)) + raw
              for raw in (messages.encode(network_management()) for _ in range(4))]
    at, packets = 1, []
    for number, data in enumerate(frames):
        if number != 1:
            packets.append(segment(CLIENT, SERVER, at, data))
        at += len(data)
    packets.append(segment(CLIENT, SERVER, at, b"0099080"))
    result = decode("--framing", "ascii-4", write(tmp_path, pcap(packets)), code=1)
    assert result.stdout.count("\nmessage ") == 3
    assert f"not read: 10.0.0.1:40000 -> 10.0.0.2:8583: {len(frames[1])} bytes are missing " \
           "before packet 2" in result.stdout
    assert "it ends with 7 bytes of an unfinished frame" in result.stdout
    assert "2 places were not read" in result.stderr


def test_the_port_chooses_connections(tmp_path):
    _, packets = conversation()
    path = write(tmp_path, pcap(packets))
    without = decode(path, code=1)
    assert "10.0.0.1:1 -> 10.0.0.2:2: it ends with 17 bytes" in without.stdout
    assert "no message" in decode("--port", "9", path, code=1).stderr


def test_a_capture_that_is_cut_is_read_to_the_cut(tmp_path):
    requests, packets = conversation()
    whole = pcap(packets)
    last = len(whole) - len(packets[-1]) - 14 - 16
    result = decode("--port", "8583", write(tmp_path, whole[: last + 5]), code=1)
    assert "not read: packet 11: the file ends inside it" in result.stdout
    assert_conversation(result.stdout, requests)


def test_packets_of_an_unknown_link_type_are_named_once(tmp_path):
    _, packets = conversation()
    file = bytearray(pcap(packets))
    file[20] = 147
    result = decode(write(tmp_path, bytes(file)), code=1)
    assert result.stdout == "not read: packet 1: headers of link type 147\n"


def test_fragments_leave_one_remark(tmp_path):
    _, packets = conversation()
    # The flag that more fragments follow.
    fragments = [packet[:6] + b"\x20" + packet[7:] for packet in packets]
    result = decode(write(tmp_path, pcap(fragments)), code=1)
    assert result.stdout.count("\n") == 1
    assert f"not read: packet 1 and after: {len(packets)} fragments of IP packets are left out" \
        in result.stdout


def test_a_capture_needs_a_framing(tmp_path):
    _, packets = conversation()
    result = decode("--framing", "none", write(tmp_path, pcap(packets)), code=1)
    assert "need a framing" in result.stderr


def test_what_the_switch_answers_is_read_from_its_own_traffic(shared, tmp_path):
    """Request and answer of a running switch, as bytes of one connection."""
    with shared.connect() as link:
        request = authorization(CARD_1, CARD_1.pin)
        answer = link.ask(request)
    shown = decode("--framing", "binary-2", stdin="\n".join(
        (struct.pack(">H", len(raw)) + raw).hex() for raw in (messages.encode(request), answer.raw)
    )).stdout
    assert "39" in answer.names and ": 00  Approved" in shown
    assert_shows(shown.split("\nmessage ")[1], request)
