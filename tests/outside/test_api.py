"""The HTTP API: who may call, what is refused, and what is the same of every call."""

import json
import socket
import time

import pytest
from api_client import Api
from process import REPOSITORY
from test_admin import Metrics


@pytest.fixture(name="switch")
def shared_switch(shared):
    return shared


def test_ping_needs_no_key_and_everything_else_does(make_switch):
    switch = make_switch().start()
    nobody = Api(switch, key=None)
    assert nobody.done("GET", "/ping")["success"] is True
    assert nobody.done("GET", "/v3/ping")["success"] is True
    problem = nobody.refused(401, "unauthorized", "GET", "/apikeys")
    assert problem["error_code"] == "401001"
    for key in [("demo", "wrong"), ("nobody", "demo"), ("demo", "")]:
        answer = Api(switch, key=key).get("/apikeys")
        assert answer.status == 401 and answer.headers["WWW-Authenticate"].startswith("Basic ")
        # Who is not known learns nothing else.
        assert answer.json == problem
    assert Api(switch).get("/apikeys").status == 200


def test_a_ping_brings_its_payload_back(switch):
    api = Api(switch)
    sent = {"token": "12345", "payload": "This is my payload"}
    assert api.done("POST", "/ping", sent) == {
        "success": True, "id": "12345", "payload": "This is my payload"}
    assert api.done("POST", "/v3/ping", {}) == {"success": True}
    for wrong in ({"token": "a" * 37}, {"payload": "a" * 256}, {"other": 1}, {"token": 1}):
        assert api.post("/ping", wrong).status == 400, wrong
    Api(switch, key=None).refused(401, "unauthorized", "POST", "/ping", sent)


def test_a_key_may_do_what_its_scopes_say_until_it_is_revoked(make_switch):
    switch = make_switch().start()
    api = Api(switch)
    new = {"token": "reader", "scopes": ["cards:read", "webhooks"]}
    answer = api.post("/apikeys", new)
    assert answer.status == 201
    secret = answer.json["secret"]
    assert len(secret) >= 32 and answer.json["scopes"] == ["cards:read", "webhooks"]
    api.refused(409, "api_key_taken", "POST", "/apikeys", new)
    reader = Api(switch, key=("reader", secret))
    assert reader.get("/events").status == 200
    reader.refused(403, "forbidden", "GET", "/apikeys")
    reader.refused(403, "forbidden", "POST", "/apikeys", new)
    listed = {key["token"]: key for key in api.done("GET", "/apikeys")}
    assert listed.keys() == {"demo", "reader"} and "secret" not in listed["reader"]
    # It is known after a restart, and its secret is nowhere.
    switch.kill()
    switch.start()
    api, reader = Api(switch), Api(switch, key=("reader", secret))
    assert reader.get("/events").status == 200
    assert api.call("DELETE", "/apikeys/reader").status == 204
    assert reader.get("/events").status == 401
    api.refused(404, "no_such_api_key", "DELETE", "/apikeys/reader")
    assert secret not in switch.log()
    assert not any(secret.encode() in file.read_bytes() for file in switch.data.iterdir()
                   if file.is_file())


def test_the_command_line_makes_keys_too(make_switch):
    switch = make_switch().start()
    added = switch.command("apikey", "add", "ops", "--scope", "admin")
    assert added.returncode == 0, added.stderr
    secret = json.loads(added.stdout)["secret"]
    assert Api(switch, key=("ops", secret)).get("/apikeys").status == 200
    assert "ops" in switch.command("apikey", "list").stdout
    assert switch.command("apikey", "revoke", "ops").returncode == 0
    assert Api(switch, key=("ops", secret)).get("/apikeys").status == 401


BODIES = {
    "no JSON": (b"{", 400, "invalid_json", ""),
    "two documents": (b'{"token": "x", "scopes": []} {}', 400, "invalid_json", ""),
    "no UTF-8": (b"{\"token\": \"\xff\"}", 400, "invalid_json", ""),
    "deep": (b"[" * 10_000, 400, "invalid_request", ""),
    "a list": ([], 400, "invalid_request", ""),
    "a wrong type": ({"token": 1, "scopes": []}, 400, "invalid_request", "/token"),
    "a missing field": ({"token": "x"}, 400, "invalid_request", ""),
    "an unknown field": ({"token": "x", "scopes": ["admin"], "4761340000000019": 1}, 400,
                         "invalid_request", ""),
    "a field with a text for a place": (
        {"token": "x", "scopes": ["admin"], "a, expected 476134 at line ": 1}, 400,
        "invalid_request", ""),
    "a PAN for a token": ({"token": "4761340000000019", "scopes": ["admin"]}, 400,
                          "invalid_field", "/token"),
    "no scope": ({"token": "x", "scopes": []}, 400, "invalid_field", "/scopes"),
    "an unknown scope": ({"token": "x", "scopes": ["all"]}, 400, "invalid_field", "/scopes"),
    "too long": (b" " * 2_000_000, 413, "too_large", ""),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_bad_body_is_refused_with_its_place(switch, kind):
    body, status, code, pointer = BODIES[kind]
    answer = Api(switch).post("/apikeys", body)
    assert answer.status == status, answer
    assert code is None or answer.json["code"] == code
    assert [error["pointer"] for error in answer.json.get("errors", [])] in ([pointer], [])
    assert "476134" not in answer.body.decode()


def test_what_is_not_there_is_a_problem_too(switch):
    api = Api(switch)
    api.refused(404, "no_such_resource", "GET", "/nothing")
    api.refused(404, "no_such_resource", "GET", "/v3/v3/ping")
    api.refused(405, "method_not_allowed", "PATCH", "/apikeys")
    api.refused(415, "unsupported_media_type", "POST", "/apikeys", b"{}", Content_Type="text/plain")
    api.refused(400, "invalid_request", "GET", "/events?count=0")
    api.refused(400, "invalid_request", "GET", "/events?unknown=1")


def test_a_call_has_an_id(switch):
    api = Api(switch)
    assert api.get("/ping", X_Request_Id="my-call.7").headers["X-Request-Id"] == "my-call.7"
    own = api.get("/ping", X_Request_Id="4761340000000019").headers["X-Request-Id"]
    assert own != api.get("/ping").headers["X-Request-Id"] and "476134" not in own
    answer = api.get("/ping")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_description_is_the_committed_one(switch):
    served = Api(switch, key=None).done("GET", "/openapi.json")
    committed = json.loads((REPOSITORY / "switch/openapi.json").read_text())
    assert served == committed, "commit what `pinswitch openapi` prints"
    assert served["openapi"].startswith("3.1")


def test_the_owner_of_a_key_says_for_whom_he_acts(make_switch):
    switch = make_switch().start()
    api = Api(switch)
    api.done("POST", "/users", {"token": "holder"}, X_Audit_User='Ada "L." from 10.0.0.1')
    form = {"card_product_token": "demo-debit", "user_token": "holder", "token": "new"}
    api.done("POST", "/cards", form, X_Audit_User="ada@issuer.example")
    api.done("POST", "/pins/controltoken", {"card_token": "new"}, X_Audit_User="operator 12")
    api.done("POST", "/cardtransitions",
             {"card_token": "new", "state": "ACTIVE", "channel": "API"})
    told = {event["type"]: event["actor"] for event in api.done("GET", "/events")["events"]
            if event["type"].startswith("card") and event["card_token"] == "new"}
    actor = {"kind": "api_key", "name": "demo", "address": "127.0.0.1"}
    assert told == {
        "cardtransition.fulfillment.issued": actor | {"audit_user": "ada@issuer.example"},
        "cardactions.pin.control": actor | {"audit_user": "operator 12"},
        "cardtransition.state.activated": actor,
    }
    log = switch.log()
    assert 'actor=api_key demo for "ada@issuer.example" from 127.0.0.1' in log
    # It cannot be taken for another part of the line.
    assert r'for "Ada \"L.\" from 10.0.0.1" from 127.0.0.1' in log
    for wrong in ["", "a\tb", "a" * 65, "ä", "4761340000000019", "4761 3400 0000 0019"]:
        answer = api.call("GET", "/apikeys", X_Audit_User=wrong.encode("latin-1"))
        assert answer.status == 400, wrong
        assert [one["pointer"] for one in answer.json["errors"]] == ["X-Audit-User"]
        assert not wrong or wrong not in answer.body.decode()
    assert "4761340000000019" not in switch.log()
    assert Api(switch, key=None).call("GET", "/apikeys", X_Audit_User="").status == 401


def test_an_answer_before_the_body_was_read_ends_the_connection(switch):
    form = {"token": "never-made", "metadata": {"a": "b" * 60_000}}
    for api, path, status in [
        (Api(switch, key=None), "/users", 401), (Api(switch), "/nothing", 404),
        (Api(switch), "/users/never-made", 405),
    ]:
        answer = api.post(path, form)
        assert answer.status == status and answer.headers["Connection"] == "close", path
    answer = Api(switch).post("/users", b"x" * 70_000)
    assert (answer.status, answer.headers["Connection"]) == (413, "close")
    answer = Api(switch).post("/users", b"{}", Content_Type="text/plain")
    assert (answer.status, answer.headers["Connection"]) == (415, "close")
    api = Api(switch)
    for call in [lambda: api.get("/ping"), lambda: api.get("/nothing"),
                 lambda: api.post("/ping", form), lambda: api.post("/ping", {}),
                 lambda: Api(switch, key=None).get("/users")]:
        assert "Connection" not in call().headers


@pytest.mark.parametrize("path", ["/events?after=x", "/users?after=x", "/users?count=x",
                                  "/transactions?after=x", "/cardproducts?sort_by=x"])
def test_a_mistake_of_a_query_names_the_parameter(switch, path):
    answer = Api(switch).get(path)
    assert answer.status == 400
    name = path.partition("?")[2].partition("=")[0]
    assert [one["pointer"] for one in answer.json["errors"]] == [name]


def test_who_reads_no_answer_keeps_no_place(make_switch):
    """An answer that is not taken ends the connection; one address never has all places."""
    limits = ("api_connections_max = 8\napi_connections_per_address_max = 4\n"
              "api_request_seconds_max = 1")
    switch = make_switch(limits=limits).start()
    port, asked = switch.api_port(), b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 200

    def silent():
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        peer.connect(("127.0.0.1", port))
        peer.sendall(asked)
        return peer

    peers = [silent() for _ in range(4)]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as fifth:
        assert fifth.recv(1) == b""
    with socket.create_connection(("127.0.0.1", port), timeout=10,
                                  source_address=("127.0.0.2", 0)) as other:
        other.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n")
        assert other.recv(12) == b"HTTP/1.1 200"
    until = time.monotonic() + 20
    while Metrics(switch).value(
            "pinswitch_door_connections_timed_out_total", door="api") < 4:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert Api(switch).done("GET", "/ping")["success"] is True
    for peer in peers:
        peer.close()
