"""A network's side of one connection: frames with a 2-byte length, each wait with a limit."""

import select
import socket
import struct

import messages

# Longer than any answer takes, so that a hang is a failure and not a hang of the tests.
WAIT_SECONDS = 10


def frame(body):
    return struct.pack(">H", len(body)) + body


class Link:
    def __init__(self, address, receive_buffer=None, dialect=messages.ASCII, own=None):
        """`own` is the address that the switch sees: every 127.x.x.x is this machine."""
        self.dialect = dialect
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(WAIT_SECONDS)
        if own:
            self.socket.bind((own, 0))
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes without a goodbye: the peer gets an RST."""
        linger_for_no_time = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_no_time)
        self.socket.close()

    def encode(self, request):
        return messages.encode(request, self.dialect)

    def write(self, data):
        self.socket.sendall(data)

    def send_body(self, body):
        self.write(frame(body))

    def send(self, *requests):
        """All of them in one write."""
        self.write(b"".join(frame(self.encode(request)) for request in requests))

    def fill(self, request, ended=lambda: False):
        """Sends a request over and over and never reads, until the peer does not read any more
        either."""
        data = frame(self.encode(request)) * 200
        self.socket.settimeout(0.5)
        try:
            while not ended():
                self.write(data)
        except (TimeoutError, ConnectionError):
            pass
        self.socket.settimeout(WAIT_SECONDS)

    def is_silent(self, seconds):
        """Whether nothing comes for so long."""
        return not self._unread and not select.select([self.socket], [], [], seconds)[0]

    def read_body(self):
        """The next frame; None if the peer closed cleanly, at the border of a frame."""
        header = self._read(2)
        if header is None:
            return None
        body = self._read(struct.unpack(">H", header)[0])
        assert body is not None, "the connection was closed inside a frame"
        return body

    def _read(self, count):
        while len(self._unread) < count:
            part = self.socket.recv(65536)
            if not part:
                assert not self._unread, "the connection was closed inside a frame"
                return None
            self._unread += part
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken

    def read(self):
        body = self.read_body()
        return None if body is None else messages.answer(body, self.dialect)

    def read_all(self):
        """Every answer until the peer closes cleanly."""
        return list(iter(self.read, None))

    def arrived(self):
        """The answers that have come, after a wait for some bytes; None when the peer is gone,
        cleanly or not."""
        try:
            part = self.socket.recv(65536)
        except ConnectionError:
            return None
        if not part:
            return None
        self._unread += part
        answers = []
        while len(self._unread) >= 2:
            size = 2 + struct.unpack(">H", self._unread[:2])[0]
            if len(self._unread) < size:
                break
            answers.append(messages.answer(self._unread[2:size], self.dialect))
            self._unread = self._unread[size:]
        return answers

    def ask(self, request):
        self.send(request)
        answer = self.read()
        assert answer is not None, "closed without an answer"
        return answer

    def ask_all(self, requests):
        """Sends all at once; the answers in the order of the requests, by DE11."""
        requests = list(requests)
        self.send(*requests)
        answers = {}
        for _ in requests:
            answer = self.read()
            assert answer is not None, f"closed after {len(answers)} answers"
            assert answer.stan not in answers, "two answers to one request"
            answers[answer.stan] = answer
        return [answers[request["11"]] for request in requests]

    def codes(self, requests):
        return [self.ask(request).code for request in requests]

    def echo(self):
        return self.ask(messages.network_management("301")).code

    def is_closed(self):
        """Waits for the peer's clean close and says whether nothing came before it."""
        return self.read_body() is None
