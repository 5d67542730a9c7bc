"""Inputs from the field, each with what must come out: tests/field-cases/*.txt."""

import re
import shlex
import shutil
import struct

import messages
import pytest
from link import Link
from process import REPOSITORY, run
from settings import chip
from settings import link as link_table

CASES = REPOSITORY / "tests/field-cases"
DIALECTS = {path.stem: path for path in (CASES / "dialects").glob("*.toml")}
ASCII = messages.ASCII
KEYS = {"case", "kind", "how", "input", "expect", "why"}


def read(path):
    """The cases of a file, in its order. `expect` is a list."""
    cases = []
    for block in path.read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if not lines:
            continue
        case = {"expect": []}
        for line in lines:
            key, value = line.split(": ", 1)
            assert key in KEYS, line
            if key == "expect":
                case["expect"].append(value)
            else:
                assert key not in case, line
                case[key] = value
        assert case.keys() == KEYS and case["expect"], block
        cases.append(case)
    return cases


FILES = {path.stem: read(path) for path in sorted(CASES.glob("*.txt"))}
ALL = [(name, number) for name, cases in FILES.items() for number in range(len(cases))]


def test_every_case_has_a_name_of_its_own():
    names = [case["case"] for cases in FILES.values() for case in cases]
    assert len(names) == len(set(names)) >= 29


@pytest.fixture(scope="module")
def switches(make_shared):
    """A switch with fresh data for each file, dialect and framing."""
    running = {}

    def of(file, dialect, framing="binary-2"):
        key = (file, dialect, framing)
        if key not in running:
            framing = "" if framing == "binary-2" else f'framing = "{framing}"'
            switch = make_shared(dialect=dialect, link_a=framing, visa_chip=chip("visa"))
            if dialect in DIALECTS:
                name = f"{dialect}.toml"
                switch.configure(dialect=name, link_a=framing)
                shutil.copy(DIALECTS[dialect], switch.directory / name)
            running[key] = switch
        return running[key]

    return of


def check_reply(words, body):
    mti, *wanted = re.split(r" (?=\d+=)", words)
    assert body is not None, "closed without an answer"
    answer = messages.answer(body).elements
    assert answer["t"] == mti, answer
    for pair in wanted:
        number, value = pair.split("=", 1)
        assert answer.get(number) == value, (number, answer)


def send(switch, case, name="link-a"):
    with Link(("127.0.0.1", switch.ports()[name])) as link:
        link.send_body(bytes.fromhex(case["input"]))
        return link.read_body()


def run_send(case, file, switches, dialect):
    switch = switches(file, ASCII if dialect == "ascii" else dialect)
    if any(text.startswith("refused ") for text in case["expect"]):
        return check_printed(case, switch.command("check-config"))
    if switch.process is None:
        switch.start()
    for text in case["expect"]:
        kind, words = text.split(" ", 1)
        if kind == "again":
            other, words = words.split(" reply ", 1)
            [earlier] = [one for one in FILES[file] if one["case"] == other]
            check_reply(words, send(switch, earlier))
        else:
            assert kind == "reply", text
            check_reply(words, send(switch, case))


def run_raw(case, file, switches, framing):
    switch = switches(file, ASCII, framing)
    if switch.process is None:
        switch.start()
    with Link(("127.0.0.1", switch.ports()["link-a"])) as link:
        link.write(bytes.fromhex(case["input"]))
        for text in case["expect"]:
            kind, words = text.split(" ", 1)
            assert kind == "reply", text
            [length] = struct.unpack(">H", link._read(2))
            counted = 2 if framing.endswith("inclusive") else 0
            check_reply(words, link._read(length - counted))


def check_printed(case, result):
    """What a command printed; where it must refuse, it says why on standard error."""
    printed = result.stdout + result.stderr
    for text in case["expect"]:
        kind, words = text.split(" ", 1)
        if kind == "refused":
            assert result.returncode == 1 and words in result.stderr, printed
        elif kind == "shows":
            assert words in printed, printed
        elif kind == "hides":
            assert words not in printed, printed
        elif kind == "matches":
            assert re.search(words, printed), printed
        else:
            pytest.fail(f"unknown: {text}")


def dialect_words(name):
    return ["--dialect", DIALECTS.get(name, name)]


def run_decode(case, file, switches, dialect):
    check_printed(case, run("decode", *dialect_words(dialect), "--input", "hex", case["input"]))


def run_decode_text(case, file, switches, dialect):
    path = switches(file, ASCII).directory / "input"
    path.write_bytes(bytes.fromhex(case["input"]))
    check_printed(case, run("decode", *dialect_words(dialect), path))


def run_decode_dialect(case, file, switches, ending):
    path = switches(file, ASCII).directory / f"dialect.{ending}"
    path.write_text("{}" if ending == "json" else "<isopackager/>")
    check_printed(case, run("decode", "--dialect", path, case["input"]))


def run_explain(case, file, switches, card):
    switch = switches(file, ASCII)
    if switch.process is None:
        switch.start()
    check_printed(case, switch.command("explain-cryptogram", card, case["input"]))


def run_check_config(case, file, switches, where):
    switch = switches(file, ASCII)
    config, line = switch.directory / "changed.toml", case["input"]
    text = switch.config.read_text()
    if where == "link":
        config.write_text(text + link_table("changed", "demo-zpk", more=line))
    else:
        shipped = (REPOSITORY / f"iso-specs/specs/{ASCII}.toml").read_text()
        key = re.escape(line.split(" = ", 1)[0])
        changed, count = re.subn(rf"(?m)^{key} = .*$", lambda _: line, shipped)
        assert count == 1, line
        (switch.directory / "changed-dialect.toml").write_text(changed)
        config.write_text(text + link_table("changed", "demo-zpk", dialect="changed-dialect.toml"))
    check_printed(case, run("check-config", config))


HOW = {
    "send": run_send, "raw": run_raw, "decode": run_decode, "decode-text": run_decode_text,
    "decode-dialect": run_decode_dialect, "explain": run_explain, "check-config": run_check_config,
}


@pytest.mark.parametrize("file, number", ALL, ids=[FILES[f][n]["case"] for f, n in ALL])
def test_a_case(file, number, switches):
    case = FILES[file][number]
    how, what = shlex.split(case["how"])
    assert how in HOW, f"nobody knows how to run {case['how']!r}"
    HOW[how](case, file, switches, what)
