"""A switch under test: a process of its own, with its own directory."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import messages
import settings
from link import Link

REPOSITORY = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("PINSWITCH", REPOSITORY / "target/release/pinswitch")).resolve()
# A master key of the tests' own, where the demo's will not do.
MASTER = bytes(range(7, 39))
START_SECONDS = 20
STOP_SECONDS = 30

LISTENING = re.compile(r'listening link="([^"]+)" address=127\.0\.0\.1:(\d+)')
API_LISTENS = re.compile(
    r'the API listens address=127\.0\.0\.1:(\d+)|"the API listens","address":"127\.0\.0\.1:(\d+)"'
)
LISTENING_JSON = re.compile(r'"listening","link":"([^"]+)","address":"127\.0\.0\.1:(\d+)"')


# Below the ports that the system gives to others by itself, so that none is taken meanwhile.
_ports = itertools.cycle(range(20_000 + os.getpid() % 10_000, 32_000))


def free_port():
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def run(*words, stdin="", **options):
    """Runs the command line to its end."""
    return subprocess.run(
        [BINARY, *map(str, words)], input=stdin, capture_output=True, text=True,
        timeout=START_SECONDS, **options,
    )


def components(key, count):
    """Random parts that give the key by exclusive-or, in hexadecimal."""
    parts = [os.urandom(len(key)) for _ in range(count - 1)]
    last = key
    for part in parts:
        last = bytes(a ^ b for a, b in zip(last, part))
    return [part.hex().upper() for part in [*parts, last]]


def of_card(card):
    """A card as the switch wants a new one."""
    return {
        "token": card.token, "pan": card.pan, "expiration": card.expiry,
        "pan_sequence_number": card.sequence, "card_product_token": card.product, "pin": card.pin,
    }


class Switch:
    """Configured once, started any number of times on the same data."""

    def __init__(self, directory, **changes):
        self.directory = Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.config = self.directory / "switch.toml"
        self.data = self.directory / "data"
        self.admin_port = free_port()
        self.process = None
        self.starts = 0
        self.configure(**changes)

    def configure(self, **changes):
        dialect = changes.get("dialect", messages.ASCII)
        # A file of one's own is a copy of the ASCII dialect.
        self.dialect = dialect if dialect in messages.SPECS else messages.ASCII
        self.config.write_text(settings.text(admin_port=self.admin_port, **changes))

    @property
    def words(self):
        return ["--config", str(self.config), "--data-dir", str(self.data)]

    # Starting and stopping.

    def launch(self, *under):
        """Starts the process, as the last words of a command if one is given, and does not wait
        until it listens."""
        assert self.process is None
        self.starts += 1
        with open(self.output("stdout"), "wb") as out, open(self.output("stderr"), "wb") as err:
            self.process = subprocess.Popen(
                [*under, BINARY, *self.words], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                cwd=self.directory,
            )
        return self

    def start(self, *under):
        self.launch(*under)
        deadline = time.monotonic() + START_SECONDS
        links = self.config.read_text().count("[[links]]")
        while len(self.ports()) < links:
            assert self.process.poll() is None, f"it ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"it does not listen:\n{self.log()}"
            time.sleep(0.005)
        return self

    def refuses_to_start(self):
        """Starts it, expects exit code 1, and gives what it says."""
        self.launch()
        assert self.wait() == 1, self.log()
        return self.log()

    def wait(self):
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as late:
            late.add_note(self.log())
            raise
        self.process = None
        return code

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        self.process.kill()
        return self.wait()

    def stop(self):
        """For the end of a test: whatever state it is in."""
        if self.process is not None:
            self.process.kill()
            self.wait()

    # What it says.

    def output(self, name, start=None):
        return self.directory / f"{name}-{start or self.starts}"

    def log(self):
        """Standard error of the newest start."""
        return self.output("stderr").read_text()

    def ports(self):
        found = LISTENING.findall(self.log()) + LISTENING_JSON.findall(self.log())
        return {name: int(port) for name, port in found}

    def api_port(self):
        found = None
        deadline = time.monotonic() + START_SECONDS
        while not (found := API_LISTENS.search(self.log())):
            assert time.monotonic() < deadline, f"its API does not listen:\n{self.log()}"
            time.sleep(0.005)
        return int(found[1] or found[2])

    def get(self, path):
        """Status and text of a page of the admin address."""
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    # Talking to it.

    def connect(self, name="link-a", **options):
        options = {"dialect": self.dialect, **options}
        return Link(("127.0.0.1", self.ports()[name]), **options)

    def command(self, *words, stdin=""):
        return run(*self.words, *words, stdin=stdin)

    def done(self, *words, stdin=""):
        result = self.command(*words, stdin=stdin)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def done_as(self, uid, *words):
        """The same, by another user."""
        result = run(*self.words, *words, user=uid, group=uid, extra_groups=[])
        assert result.returncode == 0, result.stderr
        return result.stdout

    def bring_in(self, name, parts, *words, usage="P0"):
        """Each custodian brings one component; what the last call, or one refused, said."""
        for number, part in enumerate(parts, start=1):
            result = self.command(
                "key", "import", name, "--usage", usage, "--component", str(number),
                "--of", str(len(parts)), "--custodian", f"custodian-{number}", *words,
                stdin=part + "\n",
            )
            if result.returncode != 0:
                break
        return result

    def write_master_key(self, text=MASTER.hex(), mode=0o600):
        path = self.directory / "master.key"
        path.write_text(text)
        path.chmod(mode)

    def write_aes_dialects(self):
        """aes-ascii.toml and aes-binary.toml: the built-in dialects with the 16 bytes of format 4
        in DE52."""
        for name in ("ascii", "binary"):
            builtin = (REPOSITORY / f"iso-specs/specs/iso8583-1987-{name}.toml").read_text()
            text, changed = re.subn(r"(?m)^(52 = .*max = )8,", r"\g<1>16,", builtin)
            assert changed == 1
            (self.directory / f"aes-{name}.toml").write_text(text)

    def bring_in_key(self, name, key, *words, usage="P0"):
        result = self.bring_in(name, components(key, 2), *words, usage=usage)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def key_list(self):
        """Lines of `key list`, split into words."""
        return [line.split() for line in self.done("key", "list").splitlines()]

    def metric(self, name):
        """Sum of a metric over its labels."""
        lines = re.findall(rf"(?m)^{name}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics")[1])
        return sum(map(float, lines))

    def control(self):
        """A connection to the control socket."""
        control = socket.socket(socket.AF_UNIX)
        control.settimeout(STOP_SECONDS)
        control.connect(str(self.data / "control.sock"))
        return control

    def say(self, line):
        """One line on the control socket, whatever it is; the line that comes back."""
        with self.control() as control:
            control.sendall(line.encode() + b"\n")
            return control.makefile().readline()

    def ask(self, command):
        """One command on the control socket, which costs no process; the card as it is then, or
        why not."""
        outcome = json.loads(self.say(json.dumps(command)))
        assert outcome != "done", command
        ((kind, said),) = outcome.items()
        assert kind in ("card", "refused"), kind
        return said["text"] if kind == "refused" else said

    def asked(self, command):
        said = self.ask(command)
        assert isinstance(said, dict), said
        return said

    def add_all(self, cards):
        """Adds and activates cards, many at once, so that they share their waits for the disk."""
        def add(card):
            self.asked({"add": of_card(card)})
            return self.asked({"activate": {"token": card.token}})

        with ThreadPoolExecutor(16) as threads:
            return list(threads.map(add, cards))

    def show(self, token):
        return json.loads(self.done("card", "show", token))

    def add(self, card, activate=True):
        self.done("card", "add", stdin=json.dumps(of_card(card)))
        if activate:
            self.done("card", "activate", card.token)
        return card
