"""Every framing with every fixed header, written here once more and spoken over TCP."""

import itertools
import re
import struct
import time

import messages
import pytest
from conftest import end
from link import Link
from messages import CARD_3, CARD_4, authorization, network_management, other_pin
from process import REPOSITORY, START_SECONDS, Switch
from test_admin import Metrics

# Framing: what stands before a frame of n bytes, how many bytes that is, and how it is read.
LENGTHS = {
    "binary-2": (lambda n: struct.pack(">H", n), 2, lambda b: struct.unpack(">H", b)[0]),
    "binary-2-inclusive": (
        lambda n: struct.pack(">H", n + 2), 2, lambda b: struct.unpack(">H", b)[0] - 2),
    "binary-3": (lambda n: n.to_bytes(3, "big"), 3, lambda b: int.from_bytes(b, "big")),
    "binary-4": (lambda n: struct.pack(">I", n), 4, lambda b: struct.unpack(">I", b)[0]),
    "ascii-4": (lambda n: b"%04d" % n, 4, int),
    "hex-4": (lambda n: b"%04X" % n, 4, lambda b: int(b, 16)),
    "bcd-2": (lambda n: bytes.fromhex(f"{n:04}"), 2, lambda b: int(b.hex())),
    "visa-vml": (
        lambda n: struct.pack(">HH", n, 0), 4, lambda b: struct.unpack(">HH", b)[0]),
}
KEEP_ALIVES = {name: write(0) for name, (write, _, _) in LENGTHS.items()} | {"stx-etx": b"\2\3"}
ECHO_BYTES = 7
HEADERS = ["none", "tpdu", "base-i", "echo"]
LINKS = [(framing, header) for framing in LENGTHS for header in HEADERS] + [("stx-etx", "none")]

_numbers = itertools.count(1)


def name_of(framing, header):
    return f"{framing}.{header}"


def links_text(links=LINKS):
    text = ""
    for framing, header in links:
        text += (
            f'[[links]]\nname = "{name_of(framing, header)}"\nnetwork = "net"\n'
            f'listen = "127.0.0.1:0"\ndialect = "iso8583-1987-ascii"\nzpk = "demo-zpk"\n'
            f'framing = "{framing}"\nheader = "{header}"\n'
        )
        text += f"header_bytes = {ECHO_BYTES}\n" if header == "echo" else ""
    return text


@pytest.fixture(scope="module")
def framed(tmp_path_factory):
    """A switch with a link for each framing and header."""
    switch = Switch(tmp_path_factory.mktemp("framed") / "switch")
    text = switch.config.read_text()
    products = text.index("[[products]]")
    switch.config.write_text(text[:products] + links_text() + text[products:])
    switch.start()
    deadline = time.monotonic() + START_SECONDS
    while len(switch.ports()) < len(LINKS) + 2:
        assert time.monotonic() < deadline, switch.log()
        time.sleep(0.005)
    yield switch
    code = switch.process.poll()
    end([switch])
    assert code is None, code


class FramedLink(Link):
    """A connection that speaks one framing, with one header."""

    def __init__(self, switch, framing, header):
        super().__init__(("127.0.0.1", switch.ports()[name_of(framing, header)]))
        self.framing, self.header = framing, header

    def frame(self, body):
        if self.framing == "stx-etx":
            return b"\2" + body + b"\3"
        write, _, _ = LENGTHS[self.framing]
        return write(len(body)) + body

    def new_header(self, number=None):
        """A header that no other request of a test has."""
        number = next(_numbers) if number is None else number
        if self.header == "tpdu":
            return b"\x60\x00\x07" + struct.pack(">H", number)
        if self.header == "base-i":
            return base_i(number)
        if self.header == "echo":
            return b"\0\1\2" + struct.pack(">I", number)
        return b""

    def expected_header(self, header, body):
        """The header of the answer `body` to a request with this one."""
        if self.header == "tpdu":
            return header[:1] + header[3:5] + header[1:3]
        if self.header == "base-i":
            total = struct.pack(">H", len(header) + len(body))
            return header[:3] + total + header[8:11] + header[5:8] + header[11:]
        return header

    def read_frame(self):
        """Header and body of the next frame; None at a clean end."""
        if self.framing == "stx-etx":
            first = self._read(1)
            if first is None:
                return None
            assert first == b"\2"
            whole = b""
            while (byte := self._read(1)) != b"\3":
                whole += byte
        else:
            _, size, read = LENGTHS[self.framing]
            head = self._read(size)
            if head is None:
                return None
            if self.framing == "visa-vml":
                assert head[2:] == b"\0\0"
            whole = self._read(read(head))
        size = len(self.new_header(0))
        return whole[:size], whole[size:]

    def ask_with(self, header, request):
        """An answer, whose header is right."""
        self.write(self.frame(header + messages.encode(request)))
        came = self.read_frame()
        assert came is not None, "closed without an answer"
        assert came[0] == self.expected_header(header, came[1])
        return messages.answer(came[1])

    def ask(self, request):
        return self.ask_with(self.new_header(), request)


def base_i(number, length=22):
    """A header of Visa BASE I: stations 100001 and the number."""
    header = bytes([length, 1, 2]) + struct.pack(">H", 999) + bytes.fromhex("100001")
    header += bytes.fromhex(f"{number:06}") + bytes(range(0xA0, 0xAB))
    assert len(header) == 22
    return header + bytes(range(0x40, 0x40 + length - 22))


@pytest.fixture(params=LINKS, ids=lambda pair: name_of(*pair))
def framed_link(request, framed):
    with FramedLink(framed, *request.param) as link:
        yield link


def test_sign_on_and_pins_over_every_framing_and_header(framed_link):
    link = framed_link
    assert link.ask(network_management("001")).code == "00"
    assert link.ask(authorization(CARD_4, CARD_4.pin)).code == "00"
    answer = link.ask(authorization(CARD_4, other_pin(CARD_4.pin)))
    assert (answer.code, answer.reason) == ("55", "1809")
    assert link.ask(network_management("002")).code == "00"


def test_a_keep_alive_is_never_answered(framed_link):
    keep_alive = KEEP_ALIVES[framed_link.framing]
    framed_link.write(keep_alive * 100)
    assert framed_link.is_silent(0.05)
    assert framed_link.ask(network_management()).code == "00"
    assert framed_link.is_silent(0.02)


def test_a_keep_alive_may_leave_its_own_length_out_of_an_inclusive_one(framed):
    with FramedLink(framed, "binary-2-inclusive", "none") as link:
        link.write(b"\0\0\0\2" * 100)
        assert link.is_silent(0.05)
        assert link.ask(network_management()).code == "00"


@pytest.mark.parametrize("text, codes", [
    (b"\xc9", ["00"]), (b"\0", ["00"]), (b"\2", ["30"]), (b"\3", ["30"]),
])
def test_stx_and_etx_are_in_no_text_that_they_end(framed, text, codes):
    """ETX in a text ends the frame, and the link behind it; STX could seem to begin one."""
    body = messages.encode(authorization(CARD_4, CARD_4.pin, changes={"43": "SHOP@".ljust(40)}))
    with FramedLink(framed, "stx-etx", "none") as link:
        link.write(link.frame(body.replace(b"@", text)))
        for code in codes:
            _, answer = link.read_frame()
            assert messages.answer(answer).code == code
        if text == b"\3":
            assert link.read_frame() is None
        else:
            assert link.ask(network_management()).code == "00"


def test_a_header_with_nothing_behind_it_is_a_keep_alive(framed_link):
    framed_link.write(b"".join(framed_link.frame(framed_link.new_header()) for _ in range(100)))
    assert framed_link.is_silent(0.05)
    assert framed_link.ask(network_management()).code == "00"
    assert framed_link.is_silent(0.02)


def test_the_last_two_bytes_of_visa_vml_are_ignored(framed):
    with FramedLink(framed, "visa-vml", "none") as link:
        request = network_management()
        body = messages.encode(request)
        for rest in (b"\0\1", b"\x20\0", b"\xff\xff"):
            link.write(struct.pack(">H", len(body)) + rest + body)
            _, answer = link.read_frame()
            assert messages.answer(answer).stan == request["11"]


def test_every_answer_has_the_header_of_its_request_in_whatever_order(framed_link):
    """Wrong PINs wait for the disk and are overtaken by echo tests."""
    link, stream, sent = framed_link, b"", {}
    for number in range(60):
        wait = authorization(CARD_4, other_pin(CARD_4.pin) if number % 3 else CARD_4.pin)
        request = network_management() if number % 2 else wait
        header = link.new_header()
        sent[request["11"]] = header
        stream += link.frame(header + messages.encode(request))
        stream += KEEP_ALIVES[link.framing] * (number % 4 == 0)
    link.write(stream)
    while sent:
        header, body = link.read_frame()
        asked = sent.pop(messages.answer(body).stan)
        assert header == link.expected_header(asked, body)
    assert link.is_silent(0.02)


def test_frames_that_come_byte_by_byte_are_read(framed_link):
    request = authorization(CARD_4, CARD_4.pin)
    header = framed_link.new_header()
    stream = KEEP_ALIVES[framed_link.framing] + framed_link.frame(header + messages.encode(request))
    for byte in stream:
        framed_link.write(bytes([byte]))
        time.sleep(0.0002)
    came = framed_link.read_frame()
    assert came[0] == framed_link.expected_header(header, came[1])
    assert messages.answer(came[1]).code == "00"


def test_a_tpdu_goes_back_with_its_addresses_swapped(framed):
    with FramedLink(framed, "bcd-2", "tpdu") as link:
        body = messages.encode(network_management())
        link.write(link.frame(bytes.fromhex("6001239876") + body))
        header, _ = link.read_frame()
        assert header == bytes.fromhex("6098760123")


@pytest.mark.parametrize("length", [22, 23, 26, 40])
def test_a_base_i_header_goes_back_with_its_stations_swapped_and_its_own_length(framed, length):
    with FramedLink(framed, "visa-vml", "base-i") as link:
        came = base_i(123456, length)
        link.write(link.frame(came + messages.encode(network_management())))
        head = link._read(4)
        frame = link._read(int.from_bytes(head[:2], "big"))
        assert head[2:] == b"\0\0"
        assert frame[:3] == came[:3]
        assert frame[3:5] == struct.pack(">H", len(frame))
        assert frame[5:11] == bytes.fromhex("123456100001")
        assert frame[11:length] == came[11:]
        assert messages.answer(frame[length:]).code == "00"


def rejects(switch, link):
    return Metrics(switch).value("pinswitch_reject_headers_total", link=link)


def test_a_reject_header_is_counted_and_never_answered(framed):
    name = name_of("visa-vml", "base-i")
    with FramedLink(framed, "visa-vml", "base-i") as link:
        reject = bytearray(base_i(7, 26))
        reject[22:26] = bytes.fromhex("80000517")
        before = rejects(framed, name)
        wrong = messages.encode(authorization(CARD_4, other_pin(CARD_4.pin)))
        tries = framed.show(CARD_4.token)["pin_try_counter"]
        # What follows is the message that came back, here with its own header or without.
        for body in (wrong, base_i(8) + wrong, b""):
            link.write(link.frame(bytes(reject) + body))
        assert link.ask(network_management()).code == "00"
        assert link.is_silent(0.05)
        assert rejects(framed, name) == before + 3
        assert framed.show(CARD_4.token)["pin_try_counter"] == tries
    lines = [line for line in framed.log().splitlines() if "rejected a message" in line]
    assert len(lines) == 3 and all("0517" in line and name in line for line in lines)


BROKEN = [
    ("binary-2", "none", b"\xff\xff"),
    ("binary-2-inclusive", "none", b"\0\1"),
    ("binary-3", "none", b"\1\0\0"),
    ("binary-4", "none", b"ISO0"),
    ("ascii-4", "none", b"00A4"),
    ("ascii-4", "none", b"9999"),
    ("hex-4", "none", b"00G4"),
    ("bcd-2", "none", b"\0\x0a"),
    ("visa-vml", "none", b"\xff\xff\0\1"),
    ("stx-etx", "none", b"0800"),
    ("stx-etx", "none", b"\2" + b"0" * 5000),
    ("binary-2", "tpdu", b"\0\4\x60\0\1\0"),
    ("binary-2", "echo", b"\0\1a"),
    ("visa-vml", "base-i", b"\0\x15\0\0" + b"\x16" * 21),
    ("visa-vml", "base-i", b"\0\x18\0\0" + b"\x15" * 24),
    ("visa-vml", "base-i", b"\0\x18\0\0" + b"\x20" * 24),
]


def closed_lines(switch, framing, header):
    name = f'link="{name_of(framing, header)}"'
    return [line for line in switch.log().splitlines()
            if "a connection was closed" in line and name in line]


@pytest.mark.parametrize("framing, header, broken", BROKEN)
def test_what_is_no_frame_closes_its_link_after_the_answers_and_no_other(
    framed, framing, header, broken
):
    before = closed_lines(framed, framing, header)
    with FramedLink(framed, framing, header) as other, FramedLink(framed, framing, header) as link:
        assert other.ask(network_management()).code == "00"
        requests = [authorization(CARD_4, other_pin(CARD_4.pin)) for _ in range(5)]
        frames = [link.frame(link.new_header() + messages.encode(r)) for r in requests]
        link.write(b"".join(frames) + broken)
        answers = [messages.answer(link.read_frame()[1]) for _ in requests]
        assert {answer.stan for answer in answers} == {request["11"] for request in requests}
        assert link.read_frame() is None
        assert other.ask(authorization(CARD_3, CARD_3.pin)).code == "00"
    deadline = time.monotonic() + 5
    while len(lines := closed_lines(framed, framing, header)) == len(before):
        assert time.monotonic() < deadline, framed.log()
        time.sleep(0.01)
    assert re.search(r"reason=(a|what stands before a) frame ", lines[-1])


MISTAKES = [
    ('framing = "binary-5"', 'link 1, framing: expected one of "binary-2", '),
    ("framing = 2", 'link 1, framing: expected one of "binary-2", '),
    ('header = "x25"', 'link 1, header: expected "none", "tpdu", "base-i" or "echo"'),
    ('header = "echo"', 'link 1, header: "echo" needs header_bytes'),
    ('header = "echo"\nheader_bytes = 0', "link 1, header_bytes: expected a number from 1 to 255"),
    ('header = "ecko"\nheader_bytes = 10',
     'link 1, header: expected "none", "tpdu", "base-i" or "echo"'),
    ("header_bytes = 5", 'link 1, header_bytes: only header = "echo" has it'),
    ('framing = "stx-etx"\nheader = "tpdu"', 'link 1, header: framing "stx-etx" allows none'),
]


@pytest.mark.parametrize("keys, expected", MISTAKES)
def test_a_wrong_framing_or_header_is_a_mistake_of_the_configuration(make_switch, keys, expected):
    switch = make_switch()
    text = switch.config.read_text()
    switch.config.write_text(text.replace('network = "net"', f'network = "net"\n{keys}', 1))
    result = switch.command("check-config")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert expected in result.stderr


@pytest.mark.parametrize("old, new", [
    ('bitmap = "hex"', 'bitmap = "raw"'), ('max = 8, encoding = "hex"', 'max = 8, encoding = "raw"'),
])
def test_stx_etx_is_for_dialects_of_text(make_switch, old, new):
    switch = make_switch(dialect="own.toml")
    dialect = (REPOSITORY / "iso-specs/specs/iso8583-1987-ascii.toml").read_text()
    assert old in dialect
    (switch.directory / "own.toml").write_text(dialect.replace(old, new, 1))
    text = switch.config.read_text()
    framing = 'network = "net"\nframing = "stx-etx"'
    switch.config.write_text(text.replace('network = "net"', framing, 1))
    result = switch.command("check-config")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert 'link 1, framing: "stx-etx" is for dialects that are text' in result.stderr
