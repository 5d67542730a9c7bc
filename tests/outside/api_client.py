"""A client of the HTTP API, by Python's own HTTP."""

import base64
import http.client
import json

DEMO_KEY = ("demo", "demo")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.body!r}"


class Api:
    """Calls as one API key, each on the same connection while the switch keeps it open."""

    def __init__(self, switch, key=DEMO_KEY, tls=None):
        self.port, self.connection, self.tls = switch.api_port(), None, tls
        self.headers = {} if key is None else {"Authorization": basic(*key)}

    def connect(self):
        if self.tls is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)

    def call(self, method, path, body=None, **headers):
        """A body is sent as JSON; bytes are sent as they are. Names of headers are written with
        `_` for `-`."""
        if self.connection is None:
            self.connection = self.connect()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            given.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request(method, path, body, self.headers | given)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.will_close:
            self.connection.close()
            self.connection = None
        return Answer(answer.status, answer.headers, text)

    def get(self, path, **headers):
        return self.call("GET", path, **headers)

    def post(self, path, body=None, **headers):
        return self.call("POST", path, body, **headers)

    def put(self, path, body=None, **headers):
        return self.call("PUT", path, body, **headers)

    def done(self, method, path, body=None, **headers):
        """The JSON of a call that succeeds; `None` where it answers nothing."""
        answer = self.call(method, path, body, **headers)
        assert answer.status < 400, (method, path, answer)
        return answer.json if answer.body else None

    def refused(self, status, code, method, path, body=None, **headers):
        """The problem of a call that is refused."""
        answer = self.call(method, path, body, **headers)
        assert answer.status == status, (method, path, answer)
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json
        assert problem["code"] == code, problem
        assert problem["status"] == status and problem["error_code"].startswith(str(status))
        assert problem["error_message"] == problem["detail"]
        return problem


def basic(key, secret):
    return "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()
