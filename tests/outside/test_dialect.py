"""A dialect of one's own: it works as the built-in one does, and one that could not carry what the
switch reads and answers is refused at start, before anything is decided that nobody hears."""

import re
import tomllib

import iso8583
import messages
import pytest
from messages import CARD_1, authorization, network_management
from process import REPOSITORY, run
from test_codec import SPECS, spec_of

BUILTIN = (REPOSITORY / "iso-specs/specs/iso8583-1987-ascii.toml").read_text()
SETTING = 'dialect = "own.toml"'


def without(element):
    """The dialect without an element: neither its line nor its number in another place."""
    text = re.sub(rf"(?m)^{element} = .*\n", "", BUILTIN)
    text = re.sub(rf"(?m)^reason_code_field = {element}\n", "", text)
    text = re.sub(rf"(?m)^\[pin_change\]\n.*\nnew_pin_block = {element}\n\n", "", text)
    return re.sub(r"(?m)^(default|network_management) = \[(.*)\]$", lambda match: (
        f"{match[1]} = [{', '.join(n for n in match[2].split(', ') if n != str(element))}]"
    ), text)


def without_the_line(element):
    """As a hasty editor removes it: other lines may still speak of it."""
    return re.sub(rf"(?m)^{element} = .*\n", "", BUILTIN)


def with_dialect(make_switch, text):
    switch = make_switch(dialect="own.toml")
    (switch.directory / "own.toml").write_text(text)
    return switch


def lines_of_the_setting(switch):
    lines = enumerate(switch.config.read_text().splitlines(), 1)
    return [number for number, line in lines if line == SETTING]


def assert_refused(switch, named):
    said = switch.refuses_to_start()
    numbers = lines_of_the_setting(switch)
    assert len(numbers) == 2
    for number in numbers:
        mistake = next(line for line in said.splitlines() if f"{switch.config}:{number}:" in line)
        assert "own.toml" in mistake
    assert re.search(named, said), said
    assert not switch.data.exists()


def naming(element):
    """An element is named by its number, or by the key that asks for it."""
    return r"\b(DE)?44\b|\breason_code_field\b" if element == 44 else rf"\b(DE)?{element}\b"


@pytest.mark.parametrize("removed", [None, 63, 55, 128])
def test_a_copy_of_the_built_in_dialect_works_and_so_does_one_without_a_rare_element(
    make_switch, removed
):
    switch = with_dialect(make_switch, without(removed) if removed else BUILTIN).start()
    with switch.connect() as link:
        assert link.ask(authorization(CARD_1, CARD_1.pin)).code == "00"
        answer = link.ask(authorization(CARD_1, "1111"))
        assert (answer.code, answer.reason) == ("55", "1809")
        assert link.echo() == "00"


def test_the_binary_dialect_is_answered_in_its_own_encodings(make_switch):
    name = "iso8583-1987-binary"
    spec = spec_of(tomllib.loads((SPECS / f"{name}.toml").read_text()))
    track = {"2": None, "35": f"{CARD_1.pan}D29122010000000000"}
    wrong_date = {"7": "1321210000"}
    with make_switch(dialect=name).start().connect() as link:
        for request, code, reason in [
            (authorization(CARD_1, CARD_1.pin), "00", None),
            (authorization(CARD_1, CARD_1.pin, changes=track), "00", None),
            (authorization(CARD_1, "1111"), "55", "1809"),
            (authorization(CARD_1, CARD_1.pin, changes=wrong_date), "30", "007"),
            (network_management("301"), "00", None),
        ]:
            link.send_body(bytes(iso8583.encode(dict(request), spec)[0]))
            answer, _ = iso8583.decode(bytearray(link.read_body()), spec)
            assert (answer["39"], answer.get("44")) == (code, reason)
            assert answer["11"] == request["11"]


@pytest.mark.parametrize("edit", [without, without_the_line])
@pytest.mark.parametrize("element", [2, 3, 4, 7, 11, 38, 39, 44, 49, 52, 70])
def test_a_dialect_without_an_element_that_the_switch_needs_is_refused(
    make_switch, element, edit
):
    text = edit(element)
    assert text != BUILTIN
    assert_refused(with_dialect(make_switch, text), naming(element))


@pytest.mark.parametrize("column", ["1993", "2003"])
def test_a_dialect_of_another_edition_is_refused_in_plain_words(make_switch, column):
    text = BUILTIN.replace('response_code_column = "1987"', f'response_code_column = "{column}"')
    assert text != BUILTIN
    switch = with_dialect(make_switch, text)
    assert_refused(switch, f"messages of ISO 8583:{column} are not served yet")
    line = text.splitlines().index(f'response_code_column = "{column}"') + 1
    said = switch.command("check-config").stderr
    assert f"{switch.directory / 'own.toml'}:{line}: response_code_column: messages of" in said
    # It can be looked at all the same.
    own = switch.directory / "own.toml"
    raw = messages.encode(network_management())
    assert run("decode", "--dialect", own, raw.hex()).returncode == 0


@pytest.mark.parametrize("letters, digits", [("EUR", "978"), ("USD", "840"), ("JPY", "392")])
def test_a_currency_may_be_letters(make_switch, letters, digits):
    switch = make_switch().start()
    with switch.connect() as link:
        request = authorization(CARD_1, CARD_1.pin, changes={"49": letters})
        answer = link.ask(request)
        assert (answer.code, answer.elements["49"]) == ("00", letters)
        # The same request with the number of the same currency is the same request.
        repeat = link.ask({**request, "49": digits})
        assert (repeat.code, repeat.elements["38"]) == ("00", answer.elements["38"])
        other = link.ask({**request, "49": "GBP"})
        assert (other.code, other.reason) == ("94", "9913")
        for wrong in ("ZZZ", "eur"):
            answer = link.ask(authorization(CARD_1, CARD_1.pin, changes={"49": wrong}))
            assert (answer.code, answer.reason) == ("30", "049")
        billing = {"6": "000000001250", "51": letters}
        assert link.ask(authorization(CARD_1, CARD_1.pin, changes=billing)).code == "00"
    numeric = with_dialect(make_switch, BUILTIN.replace('type = "a or n"', 'type = "n"')).start()
    with numeric.connect() as link:
        answer = link.ask(authorization(CARD_1, CARD_1.pin, changes={"49": letters}))
        assert (answer.code, answer.reason) == ("30", "049")


def test_a_value_that_stands_for_none_is_absent_in_the_body_too(make_switch):
    text = re.sub(r'(?m)^(23 = .*), sensitivity', r'\1, absent = "099", sensitivity', BUILTIN)
    assert text != BUILTIN
    with with_dialect(make_switch, text).start().connect() as link:
        request = authorization(CARD_1, CARD_1.pin, changes={"14": "0000", "23": "099"})
        answer = link.ask(request)
        assert answer.code == "00" and "14" not in answer.names
        repeat = link.ask({name: value for name, value in request.items() if name != "14"})
        assert (repeat.code, repeat.elements["38"]) == ("00", answer.elements["38"])
        assert link.ask({**request, "14": "2912"}).reason == "9913"
    strict = BUILTIN.replace(', absent = "0000"', "")
    with with_dialect(make_switch, strict).start().connect() as link:
        answer = link.ask(authorization(CARD_1, CARD_1.pin, changes={"14": "0000"}))
        assert (answer.code, answer.reason) == ("30", "014")


HIGH = {
    "latin": "CAF\u00c9".encode("latin-1"), "utf-8": "CAF\u00c9".encode(),
    "gbk": "\u4e2d\u56fd".encode("gbk"), "nul": b"SHOP\0\0", "ebcdic": "SHOP".encode("cp037"),
    "control": b"\x02\x03\x1b[2J\r\n", "bidi": "a\u202eb".encode(),
}


@pytest.mark.parametrize("alphabet", HIGH)
def test_text_that_no_rule_reads_never_declines_and_comes_back_as_it_was(make_switch, alphabet):
    text = HIGH[alphabet]
    switch = with_dialect(make_switch, re.sub(r"(?m)^(default = \[.*)\]$", r"\1, 43, 48]", BUILTIN))
    switch.start()
    private = {name: "@" * len(text) for name in ("48", "60", "61", "62", "63", "104", "122", "123")}
    fixed = {"41": "@" * 8, "42": "@" * 15, "43": "@" * 40, "54": "@" * len(text)}
    with switch.connect() as link:
        request = authorization(CARD_1, CARD_1.pin, changes={**private, **fixed})
        body = messages.encode(request)
        for length in {8, 15, 40}:
            whole = text.ljust(length)[:length]
            body = body.replace(b"@" * length, whole, 1) if length > len(text) else body
        body = body.replace(b"@" * len(text), text)
        link.send_body(body)
        answer = link.read_body()
        assert messages.answer(answer).code == "00"
        for part in (text.ljust(15), text.ljust(40), b"%03d" % len(text) + text):
            assert part in answer
        # What is wrong elsewhere is answered without it.
        link.send_body(body.replace(b"000000001250", b"00000000125x", 1))
        assert text not in link.read_body()
    assert "\x1b" not in switch.log() and "\u202e" not in switch.log()


@pytest.mark.parametrize("element, text", [(11, "00000@"), (37, "00000000000@")])
def test_what_a_rule_reads_is_never_free_text(make_switch, element, text):
    line = re.search(rf"(?m)^{element} = .*$", BUILTIN)[0]
    free = re.sub(r', padding = "[a-z-]*"', "", re.sub('type = "an?"|type = "n"', 'type = "ans"', line))
    with with_dialect(make_switch, BUILTIN.replace(line, free)).start().connect() as link:
        body = messages.encode(authorization(CARD_1, CARD_1.pin, changes={str(element): text}))
        assert b"@" in body
        link.send_body(body.replace(b"@", b"\xc9"))
        answer = link.read()
        assert (answer.code, answer.reason) == ("30", f"{element:03}")
        assert str(element) not in answer.names
        link.send_body(body)
        assert messages.answer(link.read_body()).code == "00"


def test_an_rrn_may_be_filled_on_either_side(shared):
    with shared.connect() as link:
        for rrn in ("   123456789", "987654321   "):
            answer = link.ask(authorization(CARD_1, CARD_1.pin, changes={"37": rrn}))
            assert answer.code == "00" and answer.raw.count(rrn.encode()) == 1


@pytest.mark.parametrize("element, old, new", [
    (11, "max = 6", "max = 4"), (38, "max = 6", "max = 5"), (44, "max = 25", "max = 2"),
    (39, 'type = "an"', 'type = "b"'), (70, "max = 3", "max = 2"),
])
def test_a_dialect_with_too_little_room_is_refused(make_switch, element, old, new):
    line = re.search(rf"(?m)^{element} = .*$", BUILTIN)[0]
    text = BUILTIN.replace(line, line.replace(old, new, 1))
    assert text != BUILTIN
    assert_refused(with_dialect(make_switch, text), naming(element))


@pytest.mark.parametrize("element, old, new", [
    (11, "max = 6", "max = 12"), (22, 'type = "n", length = "fixed", max = 3',
                                  'type = "an", length = "fixed", max = 12'),
    (22, "max = 3", "max = 12"), (37, "max = 12", "max = 14"), (3, "max = 6", "max = 8"),
    (14, 'max = 4, encoding = "ascii", pattern = "YYMM", absent = "0000"',
     'max = 6, encoding = "ascii", pattern = "CCYYMM"'),
    (55, 'type = "b", length = "LLL", max = 255, min = 0, encoding = "hex", sensitivity = "chip"',
     'type = "ans", length = "LLL", max = 510, encoding = "ascii", sensitivity = "secret"'),
    (35, 'max = 37, encoding = "ascii"', 'max = 46, encoding = "bcd"'),
    (4, 'type = "n"', 'type = "ans"'), (70, 'type = "n"', 'type = "ans"'),
])
def test_a_dialect_whose_requests_cannot_be_read_back_is_refused(make_switch, element, old, new):
    """Each right request would be rejected with 30."""
    line = re.search(rf"(?m)^{element} = .*$", BUILTIN)[0]
    assert old in line
    text = BUILTIN.replace(line, line.replace(old, new, 1))
    switch = with_dialect(make_switch, text)
    assert_refused(switch, naming(element))
    result = switch.command("check-config")
    lines = lines_of_the_setting(switch)
    said = result.stderr.splitlines()
    assert result.returncode == 1 and len(said) == 2
    for number, text in zip(lines, said):
        assert text.startswith(f"{switch.config}:{number}: link ") and f" DE{element}: " in text


def of_ebcdic(text):
    """The dialect with every text in EBCDIC."""
    head, elements = text.split("[elements]")
    head = head.replace('mti = "ascii"', 'mti = "ebcdic"')
    head = head.replace('length_prefix = "ascii"', 'length_prefix = "ebcdic"')
    return head + "[elements]" + elements.replace('encoding = "ascii"', 'encoding = "ebcdic-1047"')


# What an answer to Mastercard brings back, and the longest elements besides.
LONG_ECHO = [2, 3, 4, 5, 6, 7, 9, 10, 11, 15, 16, 32, 37, 41, 46, 47, 48, 49, 50, 51, 60, 63]


@pytest.mark.parametrize("change", [str, of_ebcdic])
def test_a_long_list_of_echoed_elements_fits(make_switch, change):
    text = BUILTIN.replace("new_pin_block = 63", "new_pin_block = 62")
    text = re.sub(r"(?m)^default = .*$", f"default = {LONG_ECHO}", text)
    switch = with_dialect(make_switch, change(text))
    assert switch.command("check-config").stderr == ""
    switch.start()
    if change is str:
        with switch.connect() as link:
            long = {name: name[1] * 999 for name in ("48", "60", "63")}
            request = authorization(CARD_1, CARD_1.pin, changes=long)
            answer = link.ask(request)
            assert answer.code == "00"
            assert all(answer.elements[name] == request[name] for name in long)


def test_a_dialect_file_that_is_not_there_is_named(make_switch):
    switch = make_switch(dialect="own.toml")
    assert_refused(switch, "own.toml")
