"""Rotation: two versions of a key are live until the older is retired. Under load no answer is
wrong while the senders change over, whatever format their PIN blocks have."""

import random
import re
import subprocess
import threading
import time
from collections import Counter

import pytest
import settings
from messages import Card, authorization, other_pin, pan_of, random_pin
from process import BINARY, MASTER, components, run
from psec import tr31
from verification import ibm3624, kcv, tdes_key, translated_block, visa_pvv

SOURCE = random.Random(9797)
ZPK, NEW_ZPK = tdes_key(SOURCE), tdes_key(SOURCE)
AES_ZPK = SOURCE.randbytes(16)
KEK = SOURCE.randbytes(32)
PVK_VISA, PVK_IBM = tdes_key(SOURCE), tdes_key(SOURCE)
METRIC = "pinswitch_pin_blocks_under_older_key_total"
METHODS = [
    translated_block(),
    visa_pvv("pvv", "pvk-visa", PVK_VISA),
    ibm3624("offset", "pvk-ibm", PVK_IBM, "leftmost-11-F"),
]
WAIT_SECONDS = 20
# Answers of each sender that are waited for between two steps.
SOME = 30


@pytest.fixture
def ready(make_switch):
    """A switch with all keys and one card of each product; it does not run."""
    switch = make_switch()
    products = [settings.product(m.name, m.table, '"none"') for m in METHODS]
    products.append(settings.product("limited", METHODS[0].table))
    links = [
        settings.link("format-0-1-3", "zpk", [0, 1, 3]), settings.link("format-1", "zpk", [1]),
        settings.link("format-4", "zpk-aes", [4], "aes-ascii.toml"),
    ]
    switch.configure(
        master_key_file="master.key", zpk="zpk", tables="".join(links + products),
        bad_pin_blocks_per_minute=255,
    )
    switch.write_master_key()
    switch.write_aes_dialects()
    switch.bring_in_key("zpk", ZPK)
    switch.bring_in_key("zpk-aes", AES_ZPK, "--algorithm", "A")
    switch.bring_in_key("pvk-visa", PVK_VISA, usage="V2")
    switch.bring_in_key("pvk-ibm", PVK_IBM, usage="V1")
    return switch


@pytest.fixture
def running(ready):
    return ready.start()


def new_card(switch, number, product):
    card = Card(f"{product}-{number}", pan_of("476134", number), random_pin(SOURCE, 8), product)
    switch.add_all([card])
    return card


def codes(switch, requests, link="link-a"):
    with switch.connect(link) as link:
        return link.codes(requests)


def versions(switch, name="zpk"):
    """Version and check value of each, as `key list` has them."""
    return [(words[2], words[4]) for words in switch.key_list() if words[0] == name]


# What the senders do.


class Sender(threading.Thread):
    """Sends right and wrong PINs all the time, two batches in flight, and notes every answer."""

    BATCH = 20
    # Answers after which those to all requests of before have come.
    FLYING_MAX = 2 * BATCH

    def __init__(self, switch, link, card, iso_formats, zpk):
        super().__init__(daemon=True)
        self.link = switch.connect(link)
        self.card, self.iso_formats, self.zpk = card, iso_formats, zpk
        self.source = random.Random(card.token)
        self.ended, self.fault = threading.Event(), None
        # What each request in flight must be answered, by DE11.
        self.flying = {}
        # Answers by the key of their requests.
        self.said, self.wrong_answers = Counter(), []
        self.start()

    def run(self):
        try:
            self.work()
        except BaseException as fault:
            self.fault = fault

    def work(self):
        while not self.ended.is_set():
            if len(self.flying) <= self.BATCH:
                self.send_batch()
            self.read_one()
        while self.flying:
            self.read_one()

    def send_batch(self):
        """Two of three PINs are right, so that answers which wait for the disk and answers which
        do not overtake each other."""
        requests = []
        for _ in range(self.BATCH):
            is_right, zpk = self.source.random() < 0.67, self.zpk
            pin = self.card.pin if is_right else wrong_pin(self.card)
            iso_format = self.source.choice(self.iso_formats)
            request = authorization(self.card, pin, zpk=zpk, iso_format=iso_format)
            requests.append(request)
            self.flying[request["11"]] = ("00" if is_right else "55", zpk, iso_format)
        self.link.send(*requests)

    def read_one(self):
        answer = self.link.read()
        self.note(*self.flying.pop(answer.stan), answer.code)

    def note(self, expected, zpk, iso_format, code):
        self.said[zpk] += 1
        if code != expected:
            self.wrong_answers.append((iso_format, expected, code))

    def stop(self):
        self.ended.set()
        self.join(WAIT_SECONDS)
        assert not self.is_alive() and self.fault is None, self.fault
        self.link.close()

    def wait_for(self, count, zpk):
        """Until it has had so many more answers to requests under a key."""
        goal, deadline = self.said[zpk] + count, time.monotonic() + WAIT_SECONDS
        while self.said[zpk] < goal:
            assert self.fault is None and time.monotonic() < deadline, self.fault
            time.sleep(0.005)


class Counting(Sender):
    """One wrong, one wrong, one right, again and again, on a card whose third wrong PIN in a row
    would suspend it; one in flight."""

    FLYING_MAX = 1

    def work(self):
        wrong, right = wrong_pin(self.card), self.card.pin
        while not self.ended.is_set():
            for pin, expected in ((wrong, "55"), (wrong, "55"), (right, "00")):
                zpk, iso_format = self.zpk, self.source.choice(self.iso_formats)
                request = authorization(self.card, pin, zpk=zpk, iso_format=iso_format)
                self.note(expected, zpk, iso_format, self.link.ask(request).code)


def wrong_pin(card):
    """Another PIN, with another PVV too: the first digit differs, as psec has it below."""
    return str((int(card.pin[0]) + 5) % 10) + card.pin[1:]


def senders_of(switch, zpk, is_aes):
    if is_aes:
        plans = [("format-4", product, [4]) for product in ("translated", "pvv", "offset")]
    else:
        plans = [
            ("format-0-1-3", "translated", [0, 1, 3]), ("format-1", "translated", [1]),
            ("format-0-1-3", "pvv", [0, 3]), ("link-a", "offset", [0, 3]),
        ]
    cards = [new_card(switch, number, plan[1]) for number, plan in enumerate(plans, 1)]
    (pvv,) = (card for card in cards if card.product == "pvv")
    assert METHODS[1].value(pvv) != METHODS[1].value_of(wrong_pin(pvv), pvv.pan)
    senders = [Sender(switch, link, card, formats, zpk)
               for card, (link, _, formats) in zip(cards, plans)]
    limited = new_card(switch, 99, "limited")
    return [*senders, Counting(switch, plans[0][0], limited, plans[0][2], zpk)]


# How a new version comes in; each gives the new key.


def generated(switch, name, algorithm):
    said = switch.done(
        "key", "generate", name, "--usage", "P0", "--algorithm", algorithm, "--rotate"
    )
    return tr31.unwrap(MASTER, said.splitlines()[0])[1]


def imported_in_components(switch, name, algorithm):
    key = NEW_ZPK if algorithm == "T" else MASTER
    switch.bring_in_key(name, key, "--algorithm", algorithm, "--rotate")
    return key


def imported_as_a_block(switch, name, algorithm):
    switch.bring_in_key("kek", KEK, "--algorithm", "A", usage="K1")
    header = tr31.Header("D", "P0", algorithm, "B", "00", "N")
    words = ("--usage", "P0", "--algorithm", algorithm, "--under", "kek", "--rotate")
    switch.done("key", "import", name, *words, stdin=tr31.wrap(KEK, header, NEW_ZPK) + "\n")
    return NEW_ZPK


@pytest.mark.parametrize("is_aes, bring_in", [
    (False, generated), (False, imported_in_components), (False, imported_as_a_block),
    (True, generated),
])
def test_a_zone_key_is_rotated_under_load_without_a_wrong_answer(running, is_aes, bring_in):
    name, old = ("zpk-aes", AES_ZPK) if is_aes else ("zpk", ZPK)
    senders = senders_of(running, old, is_aes)
    for sender in senders:
        sender.wait_for(SOME, old)
    assert running.metric(METRIC) == 0

    new = bring_in(running, name, "A" if is_aes else "T")
    for sender in senders:
        sender.wait_for(SOME, old)
    risen = running.metric(METRIC)
    assert risen > 0

    for sender in senders:
        sender.zpk = new
        sender.wait_for(SOME, new)
    assert running.metric(METRIC) > risen
    for sender in senders:
        # What was in flight under the old key is answered by then.
        sender.wait_for(sender.FLYING_MAX + 1, new)
    risen = running.metric(METRIC)
    for sender in senders:
        sender.wait_for(SOME, new)
    assert running.metric(METRIC) == risen

    assert running.done("key", "retire", name).startswith("retired KCV ")
    for sender in senders:
        sender.wait_for(SOME, new)
        sender.stop()
    assert [sender.wrong_answers for sender in senders] == [[]] * len(senders)
    # Before the rotation nothing was counted.
    assert risen < sum(sender.said[old] for sender in senders)
    limited = running.show(senders[-1].card.token)
    assert (limited["state"], limited["pin_try_counter"]) == ("ACTIVE", 0)

    link, iso_format = ("format-4", 4) if is_aes else ("link-a", 0)
    card = senders[-1].card
    requests = [authorization(card, card.pin, zpk=zpk, iso_format=iso_format) for zpk in (old, new)]
    assert codes(running, requests, link) == ["81", "00"]
    assert running.metric(METRIC) == risen


def under_each_key(card, *zpks):
    """The right and a wrong PIN in formats 0 and 3 under each key."""
    return [
        authorization(card, pin, zpk=zpk, iso_format=iso_format)
        for zpk in zpks for iso_format in (0, 3) for pin in (card.pin, other_pin(card.pin))
    ]


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_both_versions_are_live_after_a_restart(running, end):
    card = new_card(running, 1, "translated")
    new = generated(running, "zpk", "T")
    getattr(running, end)()
    running.start()
    assert codes(running, under_each_key(card, ZPK, new)) == ["00", "55"] * 4
    assert versions(running) == [("1", kcv(ZPK)), ("2", kcv(new))]
    running.done("key", "retire", "zpk")
    getattr(running, end)()
    running.start()
    assert codes(running, under_each_key(card, ZPK, new)) == ["81"] * 4 + ["00", "55"] * 2
    assert versions(running) == [("2", kcv(new))]


def test_a_rotation_while_the_switch_is_down_is_in_use_when_it_starts(ready):
    new = generated(ready, "zpk", "T")
    ready.start()
    card = new_card(ready, 1, "translated")
    assert codes(ready, under_each_key(card, ZPK, new)) == ["00", "55"] * 4
    assert ready.terminate() == 0
    ready.done("key", "retire", "zpk")
    ready.start()
    assert codes(ready, under_each_key(card, ZPK, new)) == ["81"] * 4 + ["00", "55"] * 2


def test_rotations_go_on_one_after_another(running):
    card, live = new_card(running, 1, "translated"), ZPK
    for version in range(2, 8):
        new = generated(running, "zpk", "T")
        assert versions(running) == [(str(version - 1), kcv(live)), (str(version), kcv(new))]
        assert codes(running, under_each_key(card, live, new)) == ["00", "55"] * 4
        running.done("key", "retire", "zpk")
        live = new


def test_a_key_command_that_is_killed_leaves_the_old_or_the_new_keys(running):
    card, source = new_card(running, 1, "translated"), random.Random(99)
    began = time.monotonic()
    generated(running, "zpk", "T")
    took = time.monotonic() - began
    running.done("key", "retire", "zpk")
    seen = Counter()
    for _ in range(40):
        words = ["key", "generate", "zpk", "--usage", "P0", "--rotate"]
        command = subprocess.Popen(
            [BINARY, *running.words, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        time.sleep(source.uniform(0, 1.5 * took))
        command.kill()
        command.communicate()
        live = versions(running)
        seen[len(live)] += 1
        if len(live) == 2:
            running.done("key", "retire", "zpk")
    assert seen.keys() == {1, 2}
    running.kill()
    running.start()
    block = (running.data / "keys" / "zpk.key").read_text().strip()
    zpk = tr31.unwrap(MASTER, block)[1]
    assert codes(running, [authorization(card, card.pin, zpk=zpk)]) == ["00"]


# What is refused.


def refused(switch, *words, stdin=""):
    before = (switch.data / "keys" / "zpk.key").read_text()
    result = switch.command("key", *words, stdin=stdin)
    assert (result.returncode, result.stdout) == (1, "")
    assert (switch.data / "keys" / "zpk.key").read_text() == before
    return result.stderr


def test_a_third_live_version_is_refused(running):
    card = new_card(running, 1, "translated")
    new = generated(running, "zpk", "T")
    said = refused(running, "generate", "zpk", "--usage", "P0", "--rotate")
    assert "two versions are live already" in said
    assert codes(running, under_each_key(card, ZPK, new)) == ["00", "55"] * 4


def test_the_live_value_is_no_new_version(running):
    for parity in (0, 1):
        key = bytes(byte ^ parity for byte in ZPK)
        result = running.bring_in("zpk", components(key, 2), "--rotate")
        assert result.returncode == 1 and "value of the live one" in result.stderr
        running.done("key", "discard", "zpk")
    assert versions(running) == [("1", kcv(ZPK))]


@pytest.mark.parametrize("words, named", [
    (("zpk", "--usage", "P0", "--algorithm", "A"), "usage, algorithm and mode"),
    (("zpk", "--usage", "V2"), "usage, algorithm and mode"),
    (("none", "--usage", "P0"), "does not exist"),
])
def test_a_rotation_to_another_kind_or_of_no_key_is_refused(running, words, named):
    assert named in refused(running, "generate", *words, "--rotate")


@pytest.mark.parametrize("name, named", [
    ("zpk", "only one version"), ("own-pek", "only one version"), ("none", "does not exist"),
])
def test_the_only_version_is_never_retired(running, name, named):
    assert named in refused(running, "retire", name)


# PIN verification keys.


@pytest.mark.parametrize("product, pvk, usage", [
    ("pvv", "pvk-visa", "V2"), ("offset", "pvk-ibm", "V1"),
])
@pytest.mark.parametrize("is_running", [True, False])
def test_a_pvk_stays_as_long_as_a_card_has_a_pin_under_it(
    running, product, pvk, usage, is_running
):
    cards = [new_card(running, number, product) for number in range(1, 6)]
    old = versions(running, pvk)[0]
    running.done("key", "generate", pvk, "--usage", usage, "--rotate")
    later = [new_card(running, number, product) for number in range(6, 9)]
    assert codes(running, rights(cards + later)) == ["00"] * 8

    def retired():
        if not is_running:
            assert running.terminate() == 0
        result = running.command("key", "retire", pvk)
        if not is_running:
            running.start()
        return result

    for left in range(5, 0, -1):
        result = retired()
        assert (result.returncode, result.stdout) == (1, "")
        assert f"{left} card" in result.stderr and old[1] in result.stderr
        assert len(versions(running, pvk)) == 2
        running.asked({"set_pin": {"token": cards[left - 1].token, "pin": "86420975"}})
    result = retired()
    assert result.returncode == 0 and f"retired KCV {old[1]}" in result.stdout
    (now,) = versions(running, pvk)
    assert now != old
    pins = [authorization(card, "86420975", zpk=ZPK) for card in cards]
    assert codes(running, pins + rights(later)) == ["00"] * 8


def rights(cards):
    return [authorization(card, card.pin, zpk=ZPK) for card in cards]


# Commands at the same time.


def at_once(switch, commands):
    """Exit codes of key commands that all run at the same time."""
    started = []
    for words, stdin in commands:
        command = subprocess.Popen(
            [BINARY, *switch.words, "key", *words], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        started.append((command, stdin))
    for command, stdin in started:
        command.stdin.write(stdin.encode())
        command.stdin.close()
    return [command.wait(WAIT_SECONDS) for command, _ in started]


def test_no_key_is_lost_when_commands_run_at_once(running):
    names = [f"key-{number}" for number in range(12)]
    commands = [(["generate", name, "--usage", "V1"], "") for name in names]
    assert at_once(running, commands) == [0] * 12
    assert {words[0] for words in running.key_list()} >= {*names, "zpk"}


def test_of_rotations_at_once_one_is_done(running):
    card = new_card(running, 1, "translated")
    commands = [(["generate", "zpk", "--usage", "P0", "--rotate"], "")] * 6
    assert sorted(at_once(running, commands)) == [0] + [1] * 5
    assert [version for version, _ in versions(running)] == ["1", "2"]
    blocks = (running.data / "keys" / "zpk.key").read_text().split()
    zpks = [tr31.unwrap(MASTER, block)[1] for block in blocks]
    assert codes(running, under_each_key(card, *zpks)) == ["00", "55"] * 4


def test_two_custodians_at_once_make_the_key(running):
    for attempt in range(5):
        name, key = f"new-{attempt}", tdes_key(SOURCE)
        commands = [
            (["import", name, "--usage", "P0", "--component", str(number), "--of", "2",
              "--custodian", f"custodian-{number}"], part + "\n")
            for number, part in enumerate(components(key, 2), 1)
        ]
        assert at_once(running, commands) == [0, 0]
        assert versions(running, name) == [("1", kcv(key))]


@pytest.mark.parametrize("usage", ["V1", "V2"])
def test_a_pvk_that_no_product_names_stops_nothing(running, usage):
    made = running.command("key", "generate", "other", "--usage", usage, "--mode", "G")
    running.terminate()
    running.start()
    assert made.returncode == 0, made.stderr


def test_two_keys_with_one_check_value_are_refused(ready):
    """A PIN reference names its key by it. Some five thousand random keys hold such a pair."""
    source, found = random.Random(1), {}
    while kcv(key := tdes_key(source)) not in found:
        found[kcv(key)] = key
    ready.bring_in_key("pvk-a", found[kcv(key)], usage="V2")
    refused = ready.bring_in("pvk-b", components(key, 2), usage="V2")
    assert refused.returncode == 1 and "pvk-a and pvk-b" in refused.stderr
    assert "pvk-b" not in [words[0] for words in ready.key_list()]


def test_a_rotation_that_the_running_switch_cannot_take_over_changes_no_file(running):
    before = versions(running)
    refused = running.command("key", "generate", "zpk", "--usage", "P0", "--mode", "E", "--rotate")
    assert refused.returncode == 1
    assert versions(running) == before
    running.terminate()
    running.start()


def test_a_rotation_that_was_a_mistake_is_taken_back(running):
    before = versions(running)
    running.done("key", "generate", "zpk", "--usage", "P0", "--rotate")
    assert len(versions(running)) == 2
    running.done("key", "retire", "zpk", "--newer")
    assert versions(running) == before
    card = new_card(running, 7, METHODS[0].name)
    assert codes(running, rights([card])) == ["00"]


def test_the_running_switch_logs_what_has_come_and_gone(running):
    running.done("key", "generate", "zpk", "--usage", "P0", "--rotate")
    (_, new) = versions(running)
    running.done("key", "retire", "zpk")
    log = running.log()
    assert re.search(rf"key added.*zpk.*version=2.*{new[1]}", log)
    assert re.search(rf"key removed.*zpk.*version=1.*{kcv(ZPK)}", log)


def test_a_key_that_nothing_needs_is_removed_and_another_stays(running):
    running.done("key", "generate", "wrong", "--usage", "P0", "--mode", "E")
    assert "names this key" in running.command("key", "remove", "zpk").stderr
    running.done("key", "remove", "wrong")
    assert "wrong" not in [words[0] for words in running.key_list()]
    running.terminate()
    running.start()


def test_a_change_that_nobody_reads_the_output_of_is_in_use_all_the_same(running):
    words = ["key", "generate", "zpk", "--usage", "P0", "--rotate"]
    with subprocess.Popen([BINARY, *running.words, *words], stdout=subprocess.PIPE) as process:
        process.stdout.close()
    assert "key added" in running.log()


def test_a_change_while_the_switch_starts_is_in_use_when_it_runs(ready):
    """It finds nobody to tell; the switch looks again before it serves."""
    ready.start()
    ready.done("seed", "--cards", "200000")
    ready.terminate()
    ready.launch()
    time.sleep(0.05)
    ready.done("key", "generate", "zpk", "--usage", "P0", "--rotate")
    deadline = time.monotonic() + 20
    while "listening" not in ready.log():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ((_, old), (_, new)) = versions(ready)
    log = ready.log()
    assert re.search(rf"(key in use|key added).*zpk.*{new}", log)


def test_the_key_of_the_references_is_rotated_and_goes_when_no_card_needs_it(running):
    card = new_card(running, 3, METHODS[0].name)
    running.done("key", "generate", "own-pek", "--usage", "P0", "--rotate")
    assert codes(running, rights([card])) == ["00"]
    refused = running.command("key", "retire", "own-pek")
    assert refused.returncode == 1 and "cards have a PIN reference" in refused.stderr
    assert codes(running, rights([card])) == ["00"]


def test_nothing_is_retired_while_the_running_switch_goes_on_with_other_keys(running):
    """Its zone key is gone from the directory: no reload succeeds, and it makes references with the
    key that it knows."""
    path = running.data / "keys" / "zpk.key"
    running.done("key", "generate", "own-pek", "--usage", "P0", "--rotate")
    path.rename(path.with_suffix(".away"))
    refused = running.command("key", "retire", "own-pek")
    assert refused.returncode == 1 and "does not take the keys" in refused.stderr
    path.with_suffix(".away").rename(path)
    assert [words[0] for words in running.key_list()].count("own-pek") == 2


def test_a_key_that_the_running_switch_needs_is_not_removed_by_another_configuration(running):
    other = running.directory / "other.toml"
    text = running.config.read_text().replace('zpk = "zpk"', 'zpk = "zpk-other"')
    other.write_text(text)
    words = ["--config", str(other), "--data-dir", str(running.data), "key", "remove", "zpk"]
    refused = run(*words)
    assert refused.returncode == 1 and "does not take the keys" in refused.stderr
    card = new_card(running, 9, METHODS[0].name)
    assert codes(running, rights([card])) == ["00"]
    running.terminate()
    running.start()
    assert codes(running, rights([card])) == ["00"]


def test_the_key_of_the_references_never_leaves(running):
    refused = running.command(
        "key", "generate", "own-pek", "--usage", "P0", "--rotate", "--exportable"
    )
    assert refused.returncode == 1
    assert running.command("key", "export", "own-pek", "--under", "zpk").returncode == 1


def test_nothing_changes_that_cannot_be_written_into_the_audit_log(running):
    before = versions(running)
    (running.data / "audit.log").unlink()
    (running.data / "audit.log").mkdir()
    refused = running.command("key", "generate", "zpk", "--usage", "P0", "--rotate")
    assert refused.returncode == 1 and versions(running) == before
