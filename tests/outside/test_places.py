"""Places are trusted only by their owner: the data directory, what is in it, the master key file,
and who listens on the socket. Whatever is planted there by another user learns no PIN, and nothing
that is no file makes the switch wait."""

import contextlib
import json
import os
import time
import shutil
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from messages import CARD_1, Card, pan_of
from process import BINARY, REPOSITORY, Switch, of_card, run

# Somebody else on the machine.
OTHER = 54_321
AS_OTHER = ("setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups")
PIN = "739152846037"
ZPK = bytes.fromhex("B0852A9D7A3B8C1FEA4561F77CD9029B")


def assert_refused(result, *named):
    """By a command that was run to its end."""
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    for part in named:
        assert str(part) in result.stderr, result.stderr
    assert "panic" not in result.stderr


def refuses_everything(switch, *named):
    """Neither the switch nor a command goes on; each says why."""
    said = switch.refuses_to_start()
    for part in named:
        assert str(part) in said, said
    assert_refused(switch.command("card", "set-pin", CARD_1.token, stdin=PIN), *named)


@pytest.fixture
def ran(own):
    """A switch that has run, with a zone key and a master key of its own."""
    own.bring_in_key("zpk-net", ZPK)
    own.start()
    assert own.terminate() == 0
    return own


@pytest.fixture
def public():
    """A directory that every user can enter."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


# Whose it is.


def test_a_data_directory_of_somebody_else_is_refused(make_switch):
    switch = make_switch()
    switch.data.mkdir()
    os.chown(switch.data, OTHER, OTHER)
    refuses_everything(switch, switch.data, f"belongs to uid {OTHER}", "chown 0")
    checked = switch.command("check-config")
    assert checked.returncode == 1 and f"belongs to uid {OTHER}" in checked.stderr
    assert list(switch.data.iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o775, 0o777, 0o702, 0o1777])
def test_a_data_directory_that_others_can_write_into_is_refused(make_switch, mode):
    switch = make_switch()
    switch.data.mkdir()
    switch.data.chmod(mode)
    refuses_everything(switch, f"mode {mode:04o}", f"chmod 700 {switch.data}")
    assert list(switch.data.iterdir()) == []


@pytest.mark.parametrize("name", ["keys", "journal", "snapshots"])
def test_the_directories_in_it_are_under_the_same_rule(ran, name):
    inner = ran.data / name
    inner.mkdir(exist_ok=True)
    for mode in (0o770, 0o777):
        inner.chmod(mode)
        refuses_everything(ran, f"chmod 700 {inner}")
    inner.chmod(0o700)
    os.chown(inner, OTHER, OTHER)
    refuses_everything(ran, inner, f"belongs to uid {OTHER}")
    os.chown(inner, 0, 0)
    ran.start()


@pytest.mark.parametrize("name", ["master.key", "data/keys/zpk-net.key"])
def test_a_key_file_of_somebody_else_is_refused(ran, name):
    path = ran.directory / name
    os.chown(path, OTHER, OTHER)
    refuses_everything(ran, name, f"belongs to uid {OTHER}")
    os.chown(path, 0, 0)
    ran.start()


def test_a_key_file_that_others_can_write_is_refused(ran):
    path = ran.data / "keys" / "zpk-net.key"
    path.chmod(0o660)
    refuses_everything(ran, "zpk-net.key", "mode 0660")


@pytest.mark.parametrize("mode, starts, warns", [
    (0o777, False, False), (0o1777, True, False), (0o775, True, True), (0o755, True, False),
])
def test_what_is_above_is_refused_if_everybody_can_write_there_and_told_if_a_group_can(
    make_switch, mode, starts, warns
):
    """Above data directory and master key alike, however far."""
    switch = make_switch(master_key_file="master.key", zpk="zpk-net")
    switch.data = switch.directory / "a" / "data"
    switch.write_master_key()
    switch.bring_in_key("zpk-net", ZPK)
    switch.directory.chmod(mode)
    if not starts:
        refuses_everything(switch, f"chmod o-w {switch.directory}")
        return
    switch.start()
    lines = [line for line in switch.log().splitlines() if "can exchange what is in it" in line]
    assert len(lines) == warns
    assert all("WARN" in line and f"{switch.directory}: group 0" in line for line in lines)


def test_nothing_is_made_below_a_directory_that_everybody_can_write_into(make_switch):
    switch = make_switch()
    switch.directory.chmod(0o777)
    switch.refuses_to_start()
    assert not switch.data.exists()


def test_a_directory_of_somebody_else_above_is_told(make_switch):
    switch = make_switch()
    os.chown(switch.directory, OTHER, OTHER)
    switch.start()
    assert f"{switch.directory}: it belongs to uid {OTHER}" in switch.log()


def test_where_everybody_puts_things_each_step_must_be_ours(make_switch):
    switch = make_switch()
    between = switch.directory / "between"
    between.mkdir()
    os.chown(between, OTHER, OTHER)
    switch.directory.chmod(0o1777)
    switch.data = between / "data"
    refuses_everything(switch, between, f"belongs to uid {OTHER}")


def test_a_link_to_the_data_directory_is_followed_if_it_is_ours(make_switch, public):
    switch = make_switch()
    real = switch.directory / "real"
    switch.data = public / "link"
    switch.data.symlink_to(real)
    real.mkdir(mode=0o700)
    switch.start()
    # Longer than it takes until the switch looks whether all is in place.
    time.sleep(2.5)
    assert (real / "journal").is_dir() and switch.show(CARD_1.token)["state"] == "ACTIVE"
    assert switch.terminate() == 0
    os.chown(switch.data, OTHER, OTHER, follow_symlinks=False)
    refuses_everything(switch, switch.data, f"belongs to uid {OTHER}")


@pytest.mark.parametrize("spoil, named", [
    (lambda path: os.chown(path, OTHER, OTHER), f"belongs to uid {OTHER}"),
    (lambda path: path.chmod(0o662), "others can write it"),
])
def test_a_file_of_the_journal_is_its_owners_alone(make_switch, spoil, named):
    switch = make_switch().start()
    switch.terminate()
    segment = switch.data / "journal/0000000001.journal"
    spoil(segment)
    said = switch.refuses_to_start()
    assert str(segment) in said and named in said, said


def test_a_umask_of_002_and_a_directory_of_mode_775_are_usual(make_switch):
    switch = make_switch()
    switch.directory.chmod(0o775)
    before = os.umask(0o002)
    try:
        # Relative, as the demo's own.
        switch.data = Path("pinswitch-data")
        switch.start()
        shown = run(*switch.words, "card", "show", CARD_1.token, cwd=switch.directory)
        assert shown.returncode == 0, shown.stderr
    finally:
        os.umask(before)
        switch.data = switch.directory / "pinswitch-data"
    assert switch.data.stat().st_mode & 0o777 == 0o700


def test_each_user_has_a_switch_of_ones_own(public):
    binary = public / "pinswitch"
    shutil.copy(BINARY, binary)
    home = public / "home"
    switch = Switch(home)
    for path in (home, switch.config):
        os.chown(path, OTHER, OTHER)
    # The log is opened before the user changes.
    with contextlib.closing(StopsAtTheEnd(switch)):
        switch.start(*AS_OTHER)
        switch.done_as(OTHER, "card", "show", CARD_1.token)
        assert_refused(switch.command("card", "set-pin", CARD_1.token, stdin=PIN),
                       switch.data, f"belongs to uid {OTHER}", "run it as that user")


class StopsAtTheEnd:
    def __init__(self, switch):
        self.switch = switch

    def close(self):
        self.switch.stop()


# Who listens.


class Listener(threading.Thread):
    """Takes whatever is sent to a socket, and answers that it is done."""

    def __init__(self, path, uid=0):
        super().__init__(daemon=True)
        self.heard = b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        os.chmod(path, 0o777)
        # Whoever listens is who the kernel tells the other side of.
        os.seteuid(uid)
        try:
            self.socket.listen()
        finally:
            os.seteuid(0)
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                while part := connection.recv(4096):
                    self.heard += part
                    connection.sendall(b'"done"\n')

    def stop(self):
        # Wakes the thread up.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self.socket.close()


def hears_nothing(switch, listener, *named):
    try:
        commands = [("card", "set-pin", CARD_1.token), ("card", "show", CARD_1.token)]
        for words in commands:
            assert_refused(switch.command(*words, stdin=PIN), *named)
    finally:
        listener.stop()
    assert listener.heard == b""


def test_the_listener_of_these_tests_hears_a_pin(make_switch):
    switch = make_switch()
    switch.data.mkdir(mode=0o700)
    listener = Listener(switch.data / "control.sock")
    switch.command("card", "set-pin", CARD_1.token, stdin=PIN)
    listener.stop()
    assert PIN.encode() in listener.heard


def test_a_socket_in_a_directory_of_somebody_else_gets_nothing(make_switch):
    switch = make_switch()
    switch.data.mkdir()
    switch.data.chmod(0o777)
    os.chown(switch.data, OTHER, OTHER)
    listener = Listener(switch.data / "control.sock", OTHER)
    os.chown(switch.data / "control.sock", OTHER, OTHER)
    hears_nothing(switch, listener, switch.data, f"belongs to uid {OTHER}")


def test_a_socket_of_somebody_else_gets_nothing(make_switch):
    switch = make_switch()
    switch.data.mkdir(mode=0o700)
    listener = Listener(switch.data / "control.sock")
    os.chown(switch.data / "control.sock", OTHER, OTHER)
    hears_nothing(switch, listener, "control.sock", f"belongs to uid {OTHER}")


def test_somebody_else_who_listens_gets_nothing(make_switch):
    switch = make_switch()
    switch.data.mkdir(mode=0o700)
    listener = Listener(switch.data / "control.sock", OTHER)
    hears_nothing(switch, listener, "control.sock", f"uid {OTHER} listens there")


def test_a_link_to_a_socket_gets_nothing(make_switch, public):
    switch = make_switch()
    switch.data.mkdir(mode=0o700)
    listener = Listener(public / "sock")
    (switch.data / "control.sock").symlink_to(public / "sock")
    hears_nothing(switch, listener, "control.sock", "symbolic link")


# What it is.


def plant(path, kind, public):
    """Puts something into the place of a file, which may be there."""
    aside = public / path.name
    if path.exists():
        shutil.move(path, aside)
    match kind:
        case "link":
            path.symlink_to(aside)
        case "pipe":
            os.mkfifo(path, 0o600)
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
            path.chmod(0o600)
        case "device":
            os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))


KINDS = ["link", "pipe", "socket", "device"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [
    "master.key", "data/keys/zpk-net.key", "data/journal/planted", "data/snapshots/planted",
    "data/journal/*.journal", "data/keys", "data/journal",
])
def test_what_is_no_file_or_directory_of_its_own_is_refused_and_nobody_waits(
    ran, public, name, kind
):
    (ran.data / "snapshots").mkdir(mode=0o700, exist_ok=True)
    path = next(ran.directory.glob(name)) if "*" in name else ran.directory / name
    plant(path, kind, public)
    refuses_everything(ran, path.name)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_a_data_directory_that_is_none_is_refused(make_switch, public, kind):
    switch = make_switch()
    plant(switch.data, kind, public)
    refuses_everything(switch, switch.data, "not a directory")


@pytest.mark.parametrize("kind", KINDS)
def test_the_audit_of_keys_goes_into_a_file(own, public, kind):
    own.bring_in_key("zpk-net", ZPK)
    path = own.data / "audit.log"
    plant(path, kind, public)
    before = public.joinpath("audit.log").read_text()
    refused = own.command("key", "generate", "other", "--usage", "P0")
    assert_refused(refused, "audit.log")
    assert public.joinpath("audit.log").read_text() == before
    assert [line[0] for line in own.key_list()] == ["zpk-net"]


@pytest.mark.parametrize("kind", KINDS)
def test_components_wait_in_a_file(own, public, kind):
    words = ("key", "import", "zpk-net", "--usage", "P0", "--of", "2")
    own.done(*words, "--component", "1", "--custodian", "ann", stdin="5A" * 16)
    plant(own.data / "keys" / "zpk-net.components", kind, public)
    refused = own.command(*words, "--component", "2", "--custodian", "bob", stdin="3C" * 16)
    assert_refused(refused, "zpk-net.components")


def test_a_key_is_not_written_through_a_link(own, public):
    target = public / "target"
    target.write_text("untouched")
    (own.data / "keys").mkdir(parents=True, mode=0o700)
    own.data.chmod(0o700)
    (own.data / "keys" / "one.new").symlink_to(target)
    own.done("key", "generate", "one", "--usage", "P0")
    assert target.read_text() == "untouched"


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_a_configuration_and_a_dialect_are_files_and_may_be_links(make_switch, public, kind):
    dialect = (REPOSITORY / "iso-specs/specs/iso8583-1987-ascii.toml").read_text()
    switch = make_switch(dialect="own.toml")
    own = switch.directory / "own.toml"
    own.write_text(dialect)
    for path in (own, switch.config):
        plant(path, kind, public)
        said = switch.refuses_to_start()
        assert path.name in said and "not a regular file" in said
        if path == own:
            decoded = run("decode", "--dialect", str(own), "0800")
            assert_refused(decoded, "own.toml", "not a regular file")
        path.unlink()
        path.symlink_to(public / path.name)
    switch.start()


def test_cards_may_come_through_a_pipe(make_switch):
    switch = make_switch().start()
    pipe = switch.directory / "cards.jsonl"
    os.mkfifo(pipe)
    line = json.dumps(of_card(Card("piped", pan_of("476135", 314), "2580"))) + "\n"
    writer = threading.Thread(target=pipe.write_text, args=(line,), daemon=True)
    writer.start()
    assert "1 card added" in switch.done("card", "import", str(pipe))
    writer.join(10)
