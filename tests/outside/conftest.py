"""Fixtures: a switch per test, or one that the tests of a file share. Whatever a test does with
its switch, no log may end in a panic, and log and data hold no PAN of a demo card and no ZPK."""

import itertools
import signal

import pytest

import canaries
from messages import ASCII
from process import BINARY, Switch


def pytest_sessionstart(session):
    if not BINARY.is_file():
        pytest.exit(f"{BINARY} does not exist: run cargo build --release first", returncode=2)
    # Under nohup every switch would inherit that SIGHUP is ignored; what a handler is set for, it
    # does not inherit.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_addoption(parser):
    parser.addoption(
        "--without-peers", action="store_true",
        help="leave out the peers that need more than Rust and Python, and say which",
    )


LEFT_OUT = pytest.StashKey()


# After -k and -m, so that only what would have run is said to be left out.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    if config.getoption("--without-peers"):
        left_out = [item for item in items if item.get_closest_marker("peer")]
        config.stash[LEFT_OUT] = left_out
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter, config):
    left_out = config.stash.get(LEFT_OUT, [])
    peers = {item.get_closest_marker("peer").args for item in left_out}
    for peer in sorted(peers):
        name, needs = peer
        tests = [item for item in left_out if item.get_closest_marker("peer").args == peer]
        terminalreporter.section(f"not run (--without-peers): {name}", yellow=True)
        terminalreporter.line(f"{len(tests)} tests, which need {needs}:")
        for function in dict.fromkeys(f"{test.path.name}::{test.originalname}" for test in tests):
            terminalreporter.line(f"    {function}")


@pytest.fixture
def make_switch(tmp_path):
    """Makes switches that are stopped when the test ends. A panic in any log is a failure."""
    yield from maker(tmp_path)


@pytest.fixture(scope="module")
def make_shared(tmp_path_factory):
    """The same, for all tests of a file."""
    yield from maker(tmp_path_factory.mktemp("shared"))


def maker(directory):
    made, numbers = [], itertools.count(1)

    def make(**changes):
        made.append(Switch(directory / f"switch-{next(numbers)}", **changes))
        return made[-1]

    yield make
    end(made)


@pytest.fixture
def own(make_switch):
    """A switch with a master key of its own and no keys yet; it does not run."""
    switch = make_switch(master_key_file="master.key", zpk="zpk-net")
    switch.write_master_key()
    return switch


@pytest.fixture(scope="module")
def dialect():
    """What the switches speak; a file that tests several has a fixture of its own."""
    return ASCII


@pytest.fixture
def switch(make_switch, dialect):
    return make_switch(dialect=dialect).start()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, dialect):
    """One running switch for all tests of a file."""
    switch = Switch(tmp_path_factory.mktemp("shared") / "switch", dialect=dialect).start()
    yield switch
    code = switch.process.poll()
    end([switch])
    assert code is None, f"the switch has ended with {code}:\n{switch.log()}"


@pytest.fixture
def link(shared):
    with shared.connect() as link:
        yield link


def end(switches):
    for switch in switches:
        switch.stop()
    for switch in switches:
        for start in range(1, switch.starts + 1):
            log = switch.output("stderr", start).read_text()
            assert "panic" not in log, log
            assert not canaries.demo_secrets_in({f"log {start}": log.encode()})
        assert not canaries.demo_secrets_in(canaries.files(switch.data))
