"""The system calls of a running switch, from strace: what it does between a request and its
answer, and what it does when the disk is slow or fails."""

import contextlib
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

LINE = re.compile(
    r"^(?P<pid>\d+) +(?P<time>\d+\.\d+) (?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\()"
    r"(?P<rest>.*)$"
)
DURATION = re.compile(r" = (-?\d+)[^=]*<(\d+\.\d+)>$")
CALLS = "read,readv,recvfrom,write,writev,sendto,sendmsg,pwrite64,pwritev,fdatasync,fsync"


@dataclass(frozen=True)
class Call:
    name: str
    # The file or socket, as strace names it.
    target: str
    result: int
    began: float
    ended: float

    @property
    def is_journal_sync(self):
        return self.name in ("fdatasync", "fsync") and ".journal" in self.target

    @property
    def is_journal_write(self):
        return "write" in self.name and ".journal" in self.target

    @property
    def is_request(self):
        reads = self.name in ("read", "readv", "recvfrom")
        return reads and self.target.startswith("TCP:") and self.result > 2

    @property
    def is_answer(self):
        writes = self.name in ("write", "writev", "sendto", "sendmsg")
        return writes and self.target.startswith("TCP:") and self.result > 2


def calls(text):
    """Finished calls, by the time they began. A call may stand on two lines."""
    unfinished, found = {}, []
    for line in text.splitlines():
        match = LINE.match(line)
        if not match:
            continue
        pid, now, rest = match["pid"], float(match["time"]), match["rest"]
        if rest.endswith("<unfinished ...>"):
            unfinished[pid] = (match["name"], target_of(rest), now)
            continue
        end = DURATION.search(rest)
        if end is None:
            continue
        result, took = int(end[1]), float(end[2])
        if match["resumed"]:
            if pid in unfinished:
                name, target, began = unfinished.pop(pid)
                found.append(Call(name, target, result, began, began + took))
        else:
            found.append(Call(match["name"], target_of(rest), result, now, now + took))
    return sorted(found, key=lambda call: call.began)


def target_of(arguments):
    match = re.match(r"\d+<(TCP:\[.*?\]|[^>]*)>", arguments)
    return match[1] if match else ""


@contextlib.contextmanager
def traced(switch, path, *options):
    """strace on the running switch. It lets go at the end unless the switch has ended."""
    assert shutil.which("strace"), "strace is not installed: tests/run installs it"
    with open(path.with_suffix(".messages"), "w") as said:
        strace = subprocess.Popen(
            ["strace", "-f", "-ttt", "-T", "-yy", "-s", "0", "-o", path, *options,
             "-p", str(switch.process.pid)],
            stderr=said,
        )
        try:
            deadline = time.monotonic() + 10
            while not all(map(is_traced, threads_of(switch))):
                assert strace.poll() is None, path.with_suffix(".messages").read_text()
                assert time.monotonic() < deadline, "strace does not attach to every thread"
                time.sleep(0.01)
            yield
        finally:
            strace.terminate()
            strace.wait(10)


def launched(path, inject):
    """Words before those of a process, so that strace is there from its first call; the process
    stays our child."""
    call = inject.removeprefix("inject=").partition(":")[0]
    return ["strace", "-D", "-f", "-o", str(path), "-e", f"trace={call}", "-e", inject]


def threads_of(switch):
    return Path(f"/proc/{switch.process.pid}/task").iterdir()


def is_traced(thread):
    return "TracerPid:\t0\n" not in (thread / "status").read_text()
