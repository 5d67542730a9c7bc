"""Users by the HTTP API: what is kept of a cardholder, and what is not."""

import json
import re
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_client import Api

ADA = {
    "token": "ada", "active": True, "first_name": "Ada", "middle_name": "King",
    "last_name": "Byron", "gender": "F", "birth_date": "1815-12-10", "email": "ada@example.com",
    "phone": "+15550001234", "address1": "12 St James's Square", "address2": "2nd floor",
    "city": "London", "state": "Westminster", "postal_code": "SW1Y 4JH", "country": "GB",
    "company": "Analytical Engines", "corporate_card_holder": False,
    "uses_parent_account": False, "metadata": {"tier": "gold"},
}
# Accepted, because Marqeta's clients send it, and forgotten at once.
FORGOTTEN = {
    "ssn": "123-45-6789", "password": "Sup3r-Secret!", "passport_number": "X7654321",
    "id_card_number": "ID-998877", "nationality": "British",
    "identifications": [{"type": "TAXPAYER_ID", "value": "TAX-556677"}],
}


@pytest.fixture(scope="module")
def api(shared):
    return Api(shared)


def test_a_user_is_shown_as_it_was_sent(api):
    answer = api.post("/users", ADA)
    assert answer.status == 201
    user = answer.json
    assert ADA.items() <= user.items()
    assert user.keys() - ADA.keys() == {"status", "created_time", "last_modified_time"}
    assert user["status"] == "ACTIVE" and user["created_time"] == user["last_modified_time"]
    assert api.done("GET", "/users/ada") == user == api.done("GET", "/v3/users/ada")
    assert api.done("GET", "/users/ada?fields=token,city") == {"token": "ada", "city": "London"}
    api.refused(404, "no_such_user", "GET", "/users/nobody")


def test_nothing_is_required_and_a_token_is_made(api):
    user = api.done("POST", "/users", {})
    assert uuid.UUID(user["token"]).version == 4
    assert user.keys() == {"token", "active", "status", "created_time", "last_modified_time"}
    assert (user["active"], user["status"]) == (True, "ACTIVE")


def test_the_same_token_is_the_same_user(api):
    sent = {"token": "twice", "first_name": "A", "metadata": {"x": "1", "y": "2"}, "ssn": "1"}
    first = api.post("/users", sent)
    # Another order and other spaces are the same payload.
    again = api.post("/users", json.dumps(dict(reversed(sent.items())), indent=3).encode())
    assert (first.status, again.status) == (201, 201) and first.json == again.json
    for other in [{"first_name": "B"}, {"ssn": "2"}, {"metadata": {}}, {"city": "Rome"}]:
        problem = api.refused(409, "token_taken", "POST", "/users", sent | other)
        assert problem["error_code"] == "409002"
    # A change takes nothing from that: the answer is what the user is now.
    api.done("PUT", "/users/twice", {"city": "Rome"})
    assert api.done("POST", "/users", sent)["city"] == "Rome"


def test_a_change_keeps_what_it_does_not_name(api):
    before = api.done("POST", "/users", {"token": "changing", "city": "Rome", "phone": "1"})
    after = api.done("PUT", "/users/changing", {"phone": "2", "active": False})
    assert after["city"] == "Rome" and after["phone"] == "2" and after["status"] == "SUSPENDED"
    assert after["created_time"] == before["created_time"]
    assert after["last_modified_time"] >= before["last_modified_time"]
    assert api.done("GET", "/users/changing") == after
    api.refused(404, "no_such_user", "PUT", "/users/nobody", {"phone": "2"})
    api.refused(400, "invalid_field", "PUT", "/users/changing", {"token": "other"})


def test_a_change_is_bound_to_a_version(api):
    first = api.post("/users", {"token": "bound"}).headers["ETag"]
    assert re.fullmatch(r'"\d+"', first)
    assert api.get("/users/bound").headers["ETag"] == first
    second = api.put("/users/bound", {"city": "Rome"}, If_Match=first).headers["ETag"]
    assert second != first
    for stale in [first, f"W/{second}", '"0"']:
        api.refused(412, "version_changed", "PUT", "/users/bound", {"city": "X"}, If_Match=stale)
    assert api.put("/users/bound", {}, If_Match=f'{first}, {second}').status == 200
    assert api.put("/users/bound", {"city": "Oslo"}, If_Match="*").json["city"] == "Oslo"
    api.refused(400, "invalid_request", "PUT", "/users/bound", {}, If_Match="7")


MISTAKES = [
    ({"first_name": 5}, "/first_name"),
    ({"first_name": "x" * 41}, "/first_name"),
    ({"first_name": "a\u0000b"}, "/first_name"),
    ({"phone": "1" * 17}, "/phone"),
    ({"gender": "X"}, "/gender"),
    ({"active": "true"}, "/active"),
    ({"metadata": []}, "/metadata"),
    ({"metadata": {"a": 1}}, "/metadata/a"),
    ({"token": "a b"}, "/token"),
    ({"token": ""}, "/token"),
    ({"token": "x" * 37}, "/token"),
    ({"token": "4761340000000019"}, "/token"),
    ({"colour": "red"}, "/colour"),
    ({"4761340000000019": "red"}, ""),
]


@pytest.mark.parametrize("body, pointer", MISTAKES)
def test_a_mistake_has_its_place_and_repeats_nothing(api, body, pointer):
    for method, path in [("POST", "/users"), ("PUT", "/users/mistaken")]:
        api.post("/users", {"token": "mistaken"})
        problem = api.refused(400, "invalid_request", method, path, body)
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
        assert "476134" not in json.dumps(problem) and "red" not in json.dumps(problem)


def test_a_list_is_read_to_its_end(make_switch):
    api = Api(make_switch().start())
    empty = api.done("GET", "/users")
    assert empty == {"count": 0, "start_index": 0, "end_index": 0, "is_more": False, "data": []}
    tokens = [f"user-{number:02}" for number in range(23)]
    for token in tokens:
        api.done("POST", "/users", {"token": token, "city": "Rome"})
    api.done("PUT", "/users/user-03", {"city": "Oslo"})
    newest_first = ["user-03", *reversed([token for token in tokens if token != "user-03"])]

    page = api.done("GET", "/users")
    assert [user["token"] for user in page["data"]] == newest_first[:5]
    assert (page["count"], page["start_index"], page["end_index"], page["is_more"]) == (5, 0, 4, 1)

    # By place, and by cursor.
    seen, start = [], 0
    while True:
        page = api.done("GET", f"/users?count=7&start_index={start}&sort_by=-lastModifiedTime")
        assert page["start_index"] == start and page["end_index"] == start + page["count"] - 1
        seen += [user["token"] for user in page["data"]]
        start += page["count"]
        if not page["is_more"]:
            break
    assert seen == newest_first
    seen, after = [], ""
    while True:
        page = api.done("GET", f"/users?count=7&sort_by=token&fields=token{after}")
        assert all(user.keys() == {"token"} for user in page["data"])
        seen += [user["token"] for user in page["data"]]
        if not page["is_more"]:
            assert "next" not in page
            break
        after = f"&after={page['next']}"
    assert seen == tokens
    by_creation = api.done("GET", "/users?count=100&sort_by=created_time")
    assert [user["token"] for user in by_creation["data"]] == tokens
    assert api.done("GET", "/users?start_index=1000")["data"] == []


def test_a_wrong_question_for_a_list_is_refused(api):
    problem = api.refused(413, "count_too_large", "GET", "/users?count=101")
    assert problem["error_code"] == "413003"
    for wrong in ["count=0", "count=x", "start_index=-1", "sort_by=ssn", "fields=", "other=1",
                  "count=1&count=2"]:
        api.refused(400, "invalid_request", "GET", f"/users?{wrong}")
    api.refused(400, "invalid_field", "GET", "/users?after=nobody-has-this")
    api.refused(400, "invalid_request", "POST", "/users?show=1", {})


def at_once(shared, call, count=16):
    """Answers of the same call, each by a client of its own, at the same time."""
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda number: call(Api(shared), number), range(count)))


def test_the_same_call_many_times_at_once_makes_one_user(shared):
    sent = {"token": "raced", "city": "Rome"}
    answers = at_once(shared, lambda api, _: api.post("/users", sent))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.headers["ETag"] for answer in answers}) == 1
    others = at_once(shared, lambda api, number: api.post(
        "/users", {"token": "raced-by-others", "city": str(number)}))
    assert sorted(answer.status for answer in others) == [201] + [409] * 15


def test_of_changes_bound_to_one_version_one_is_made(shared):
    version = Api(shared).post("/users", {"token": "contended"}).headers["ETag"]
    answers = at_once(shared, lambda api, number: api.put(
        "/users/contended", {"city": str(number)}, If_Match=version))
    assert sorted(answer.status for answer in answers) == [200] + [412] * 15
    (made,) = [answer.json for answer in answers if answer.status == 200]
    assert Api(shared).done("GET", "/users/contended") == made
    # Without a version none is lost: each changes what it names.
    at_once(shared, lambda api, number: api.done(
        "PUT", "/users/contended", {("city", "phone", "company", "state")[number % 4]: "1"}))
    user = Api(shared).done("GET", "/users/contended")
    assert [user[name] for name in ("city", "phone", "company", "state")] == ["1"] * 4


def test_a_user_has_a_largest_size(api):
    metadata = {f"name-{number}": "x" * 200 for number in range(100)}
    problem = api.refused(413, "limit_reached", "POST", "/users", {"metadata": metadata})
    assert "document_bytes_max" in problem["detail"]


def test_any_path_is_answered_with_a_problem(api):
    for path in ["/users/%ff", "/users/a%2Fb", "/users/" + "x" * 300, "/users/%00",
                 "/cardproducts/%ff", "/cardproducts/" + "x" * 300]:
        answer = api.get(path)
        assert 400 <= answer.status < 500, (path, answer)
        assert answer.headers["Content-Type"] == "application/problem+json", (path, answer)


def test_scopes(api, shared):
    reader, writer = (
        Api(shared, key=(name, api.done("POST", "/apikeys", {"token": name, "scopes": [scope]})
                         ["secret"]))
        for name, scope in [("reader", "cards:read"), ("writer", "cards:write")]
    )
    api.post("/users", {"token": "scoped"})
    assert reader.get("/users").status == reader.get("/users/scoped").status == 200
    reader.refused(403, "forbidden", "POST", "/users", {})
    reader.refused(403, "forbidden", "PUT", "/users/scoped", {})
    assert writer.post("/users", {}).status == 201
    writer.refused(403, "forbidden", "GET", "/users")
    writer.refused(403, "forbidden", "GET", "/users/scoped")


def test_nothing_of_a_person_is_in_the_log_or_in_clear_on_the_disk(make_switch):
    switch = make_switch().start()
    api = Api(switch)
    sent = ADA | FORGOTTEN
    user = api.done("POST", "/users", sent)
    assert not user.keys() & FORGOTTEN.keys()
    api.done("PUT", "/users/ada", {"phone": "+15559998888", "ssn": "987-65-4321"})
    api.done("GET", "/users?count=100")
    api.refused(409, "token_taken", "POST", "/users", sent | {"first_name": "Augusta"})
    before = api.done("GET", "/users/ada")
    assert switch.terminate() == 0
    switch.start()
    api = Api(switch)
    assert api.done("GET", "/users/ada") == before
    assert api.done("POST", "/users", sent)["phone"] == "+15559998888"
    switch.terminate()
    personal = [
        "Byron", "ada@example.com", "+15550001234", "+15559998888", "James's", "123-45-6789",
        "987-65-4321", "Sup3r-Secret!", "X7654321", "ID-998877", "TAX-556677", "Augusta",
    ]
    texts = [switch.output("stderr", start).read_bytes() for start in (1, 2)]
    texts += [path.read_bytes() for path in switch.data.rglob("*") if path.is_file()]
    for word in personal:
        assert not any(word.encode() in text for text in texts), word
    audit = [line for line in texts[0].decode().splitlines() if " audit: " in line]
    assert any('action="create user" user="ada" done=true' in line for line in audit), audit[-5:]
    assert any('action="change user" user="ada" done=true' in line for line in audit)
    assert any('action="create user" done=false' in line for line in audit), audit[-5:]
