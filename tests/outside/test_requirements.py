"""`tests/requirements.txt` says of each requirement which tests show it, or which part of the
documentation says it. What it names must be there."""

import re

from process import REPOSITORY

MAP = REPOSITORY / "tests/requirements.txt"
COUNT = 206
# What cards, their PINs and their chips do, by the HTTP API and in transactions, is built: users,
# products with the parameters of Marqeta, Galileo and Enfuce, cards, states, the counter of wrong
# PINs, PINs set, shown and checked, offline PIN and its scripts, and simulated transactions. Each
# range has its first number and its last.
COMPLETE = [
    (1, 3), (6, 6), (8, 8), (16, 16), (20, 20), (24, 24), (73, 86), (90, 103), (105, 117),
    (125, 143), (175, 175), (183, 186), (193, 193), (195, 197), (199, 199), (204, 205),
]
NOT_BUILT = "not built: "
ENTRY = re.compile(r"R(\d+) ([^|]+) \| (.+)")
WORDS = range(3, 9)


def entries():
    """Number, name and what follows of each line that is no comment."""
    lines = [line for line in MAP.read_text().splitlines() if line and not line.startswith("#")]
    found = [(line, ENTRY.fullmatch(line)) for line in lines]
    assert [line for line, entry in found if entry is None] == []
    return [(int(entry[1]), entry[2], entry[3]) for _, entry in found]


def test_every_requirement_has_its_line():
    assert [number for number, _, _ in entries()] == list(range(1, COUNT + 1))
    odd = [number for number, name, _ in entries() if len(name.split()) not in WORDS]
    assert odd == []


def test_what_the_map_names_is_there():
    missing = [(number, said) for number, _, said in entries() if not is_there(said)]
    assert missing == []


def test_what_is_complete_is_built():
    missing = [(number, said) for number, _, said in entries()
               if is_complete(number) and said.startswith(NOT_BUILT)]
    assert missing == []


def is_complete(number):
    return any(first <= number <= last for first, last in COMPLETE)


def is_there(said):
    if said.startswith(NOT_BUILT):
        return True
    if said.startswith("docs: "):
        file, heading = said.removeprefix("docs: ").split(" ", 1)
        path = REPOSITORY / file
        return path.is_file() and re.search(rf"(?m)^#+ {re.escape(heading)}$", path.read_text())
    return all(is_test(name) for name in said.split(", "))


def is_test(name):
    """A table of scenarios is a file; any other test is a function of one."""
    file, _, function = name.partition("::")
    path = REPOSITORY / file
    if not path.is_file():
        return False
    if not function:
        return path.parent == REPOSITORY / "tests/scenarios" or path.name == "offline_pin.txt"
    text = path.read_text()
    if path.suffix == ".py":
        return re.search(rf"(?m)^def {function}\(", text) is not None
    attributes = r"#\[(tokio::)?test[^\]]*\]\s*(#\[[^\]]*\]\s*)*(async )?"
    return re.search(rf"{attributes}fn {function}\(", text) is not None


def test_the_map_would_tell_what_is_missing():
    for said in ("tests/outside/test_api.py::test_nothing", "tests/nothing.txt",
                 "tests/outside/nothing.py::test_x", "docs: README.md No such heading",
                 "docs: NOTHING.md Commands", "tests/run", "tests/products.rs::nothing"):
        assert not is_there(said), said
    for said in ("docs: README.md Commands", "tests/scenarios/pin_retry.txt",
                 "tests/offline_pin.txt", "tests/offline_pin.rs::every_line_of_the_table"):
        assert is_there(said), said
    assert [number for number in range(1, 10) if is_complete(number)] == [1, 2, 3, 6, 8]
