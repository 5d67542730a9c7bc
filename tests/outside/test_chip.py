"""Chip cards: cryptograms, the issuer's answer, scripts and the rules of the offline PIN, with
pyemv as the chip."""

import itertools
import json
import random
from dataclasses import replace

import pytest
import settings
from chip import FAILED, NOTHING, OK, PROFILES, Chip, told
from messages import CARD_2, CARD_3, Card, authorization, other_pin, pan_of, reversal
from pyemv import tlv
from process import REPOSITORY
from test_admin import Metrics
from verification import tdes_key, visa_pvv

NEW_PIN = "913572"
VISA, M_CHIP = PROFILES[0], PROFILES[3]
# No PIN try is left, and the terminal has taken a signature; or nothing.
SIGNED = dict(pin=FAILED, exhausted=True, tags={"9F34": "1E0300"}, tvr="0000208000")
EXHAUSTED = dict(pin=FAILED, exhausted=True)


@pytest.fixture
def make_chips(make_switch):
    """A switch with the demo's chips; `chip` adds to the rules of those of Visa."""
    def make(chip=""):
        visa = settings.chip("visa", "ftpam = 5000\nftpdy = 7\n" + chip)
        return make_switch(visa_chip=visa, m_chip=settings.chip("mchip"))

    return make


def names(profile):
    return profile.name


def set_pin(switch, card, pin=NEW_PIN):
    result = switch.command("card", "set-pin", card.token, stdin=pin)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def sync(switch, card):
    return switch.show(card.token)["chip_sync"]


def trail(switch, card):
    result = switch.command("transaction", "show", card.token, "--count", "1")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)[0]["trail"]


@pytest.mark.parametrize("profile", PROFILES, ids=names)
def test_a_right_cryptogram_is_approved_and_answered(make_chips, profile):
    switch = make_chips().start()
    chip = Chip(profile)
    with switch.connect() as link:
        request = chip.request(pin=OK)
        answer = link.ask(request)
        assert answer.code == "00"
        assert told(answer) == (chip.arpc(), None, None)
        # A repeat is told the same, byte by byte.
        assert link.ask(dict(request, t="0101")).raw == answer.raw
        # Each counter once.
        replayed = link.ask(dict(request, **{"11": "999999", "37": "999999999999"}))
        assert (replayed.code, replayed.reason, "55" in replayed.elements) == ("59", "1029", False)
        declined = link.ask(chip.request(pin=FAILED, amount=999_999))
        assert (declined.code, declined.reason) == ("55", "1809")
        assert told(declined) == (chip.arpc("55", approves=False), None, None)
        # Online, with a right and a wrong PIN.
        card = profile.card
        approved = link.ask(chip.request(online_pin=card.pin, tags={"9F34": "420300"}))
        assert (approved.code, told(approved)) == ("00", (chip.arpc(), None, None))
        wrong = link.ask(chip.request(online_pin=other_pin(card.pin), tags={"9F34": "420300"}))
        assert (wrong.code, told(wrong)) == ("55", (chip.arpc("55", False), None, None))
        assert switch.show(card.token)["pin_try_counter"] == 1


@pytest.mark.parametrize("profile", PROFILES, ids=names)
def test_any_wrong_bit_is_1029_and_counts_no_pin(make_chips, profile):
    switch = make_chips().start()
    chip, card = Chip(profile), profile.card
    set_pin(switch, card)
    with switch.connect() as link:
        for tag in ("9F02", "9F03", "9F1A", "95", "5F2A", "9A", "9C", "9F37", "82", "9F36", "9F26",
                    "9F10"):
            request = chip.request(pin=OK, online_pin=other_pin(card.pin))
            data = {name: bytearray.fromhex(value) for name, value in chip.data.items()}
            # Of the issuer data, a bit of the CVR that no rule reads.
            data[tag][5 if tag == "9F10" else -1] ^= 1
            changed = tlv.encode({name: bytes(value) for name, value in data.items()})
            answer = link.ask(dict(request, **{"55": changed.hex().upper()}))
            assert (answer.code, answer.reason) == ("59", "1029"), tag
            assert "55" not in answer.elements
    shown = switch.show(card.token)
    assert (shown["pin_try_counter"], shown["chip_sync"]) == (0, "pending {change, attempts 0}")


def test_who_has_no_card_learns_nothing_of_its_pin(make_chips):
    """A PIN beside a wrong cryptogram, or beside one that came before, is in no metric and no
    record, and unusable PIN blocks do not lock the holder out."""
    switch = make_chips().start()
    chip, online, numbers = Chip(VISA), {"9F34": "420300"}, itertools.count(100_000)
    with switch.connect() as link:
        replayed = chip.request(online_pin=CARD_2.pin, tags=online)
        assert link.ask(replayed).code == "00"
        verified = Metrics(switch).value("pinswitch_pin_verifications_total")
        for right, wrong in itertools.repeat((CARD_2.pin, other_pin(CARD_2.pin)), 20):
            guesses = [authorization(CARD_2, pin) for pin in (right, wrong)]
            guesses.append(authorization(CARD_2, changes={"52": "0" * 16}))
            forged = chip.request(tags=online | {"9F26": "11" * 8})
            for guess, data in itertools.product(guesses, (replayed["55"], forged["55"])):
                number = str(next(numbers))
                changes = {"11": number, "37": number * 2, "22": "051", "55": data}
                answer = link.ask(dict(guess, **changes))
                assert (answer.code, answer.reason) == ("59", "1029")
        shown = json.loads(switch.done("transaction", "show", CARD_2.token, "--count", "120"))
        assert {entry["pin"] for entry in shown} == {None}
        assert Metrics(switch).value("pinswitch_pin_verifications_total") == verified
        assert link.ask(chip.request(online_pin=CARD_2.pin, tags=online)).code == "00"
    assert switch.show(CARD_2.token)["pin_try_counter"] == 0


@pytest.mark.parametrize("profile", PROFILES, ids=names)
def test_a_changed_pin_goes_to_the_chip(make_chips, profile):
    """The PIN that the chip finds in the script is the new one, under a MAC that is right."""
    switch = make_chips().start()
    chip, card = Chip(profile), profile.card
    assert set_pin(switch, card)["chip_sync"] == "pending {change, attempts 0}"
    with switch.connect() as link:
        # Exhausted by the old PIN: approved with the next method of the card's list, and the
        # script changes and unblocks.
        answer = link.ask(chip.request(**EXHAUSTED))
        assert (answer.code, answer.reason) == ("75", "1872")
        answer = link.ask(chip.request(**SIGNED, amount=700_000))
        assert answer.code == "00"
        assert told(answer) == (chip.arpc(), bytes([1, 0, 0, 2]), chip.pin_change(NEW_PIN))
        assert sync(switch, card) == "sent {change, attempts 1}"
        assert "no PIN try left on the chip" in trail(switch, card)
        assert link.ask(chip.request(pin=OK, scripts=1)).code == "00"
        assert sync(switch, card) == "in_sync"


def test_the_trail_tells_the_pin_tries_that_the_chip_has_left(make_chips):
    """What the CVR says, under the cryptogram; where it has no counter, as Visa's, 9F17."""
    switch = make_chips().start()

    def left(chip, **how):
        with switch.connect() as link:
            link.ask(chip.request(**how))
        counter = "the chip's PIN try counter "
        found = trail(switch, chip.profile.card)
        return [step.removeprefix(counter) for step in found if step.startswith(counter)]

    visa, m_chip = Chip(VISA), Chip(M_CHIP)
    assert left(visa, pin=FAILED, tags={"9F17": "02"}) == ["(left 2)"]
    assert left(visa, pin=FAILED) == []
    assert left(visa, pin=FAILED, exhausted=True, tags={"9F17": "00"}) == ["(left 0)"]
    assert left(visa, pin=OK, tags={"9F17": "03"}) == []
    assert left(m_chip, pin=FAILED) == ["(left 0)"]
    m_chip.tries_left = 2
    assert left(m_chip, pin=FAILED) == ["(left 2)"]
    assert left(m_chip, pin=FAILED, tags={"9F17": "01"}) == ["(left 2)"]


def test_a_product_says_how_its_cvns_are_made_and_answered(make_chips):
    """Of a CVN that is known, what an approval is; of one that nobody knows, everything."""
    known = '[[products.chip.cvn]]\nscheme = "visa"\ncvn = "0A"\napprove = "3130"\n'
    made_up = """
        [[products.chip.cvn]]
        scheme = "visa"
        cvn = "13"
        card_keys = "option_b"
        session_key = "common"
        covered_iad = "whole"
        padding = "bit"
        arpc = "method_2"
        approve = "03920000"
        decline = "00000001"
        script_keys = "visa"
        script_pin = "vis"
    """
    switch = make_chips(chip=known + made_up).start()
    other = Chip(replace(PROFILES[1], cvn="13"), atc=100)
    with switch.connect() as link:
        chip = Chip(VISA)
        request = chip.request(pin=OK)
        answer = link.ask(request)
        assert (answer.code, told(answer)[0]) == ("00", chip.arpc("10"))
        assert link.ask(dict(request, t="0101")).raw == answer.raw
        declined = link.ask(chip.request(pin=FAILED))
        assert (declined.code, told(declined)[0]) == ("55", chip.arpc("55"))
        set_pin(switch, CARD_2)
        request = other.request(pin=OK)
        answer = link.ask(request)
        assert (answer.code, told(answer)[0]) == ("00", other.arpc(update="03920000"))
        assert told(answer)[2] == other.pin_change(NEW_PIN)
        assert link.ask(dict(request, t="0101")).raw == answer.raw
        declined = link.ask(other.request(pin=FAILED, amount=999_999))
        assert (declined.code, told(declined)[0]) == ("55", other.arpc(update="00000001"))
    explained = switch.command("explain-cryptogram", CARD_2.token, request["55"]).stdout
    values = dict(line.split(": ", 1) for line in explained.splitlines())
    assert values["9F26 as computed"] == values["9F26 as received"]


@pytest.mark.parametrize("ftpam, why", [
    (True, "passes while the change waits: below FTPAM (amount 1000, FTPAM 5000)"),
    (False, "passes while the change waits: FTPAM is not set"),
])
def test_an_exhausted_chip_that_passes_without_its_pin_is_told_like_any_bypass(
    make_switch, ftpam, why
):
    rules = 'approve_exhausted = "always"\n' + ("ftpam = 5000\n" if ftpam else "")
    switch = make_switch(visa_chip=settings.chip("visa", rules)).start()
    chip = Chip(VISA)
    with switch.connect() as link:
        assert link.ask(chip.request(1_000, FAILED, exhausted=True)).reason == "1872"
        set_pin(switch, CARD_2)
        if ftpam:
            above = chip.request(5_000, FAILED, exhausted=True)
            assert link.ask(above).reason == "1872"
        assert Metrics(switch).value("pinswitch_offline_pin_bypasses_total") == 0
        assert link.ask(chip.request(1_000, FAILED, exhausted=True)).code == "00"
    assert why in trail(switch, CARD_2)
    assert Metrics(switch).value("pinswitch_offline_pin_bypasses_total") == 1
    assert switch.log().count("offline PIN bypassed") == 1


def test_below_ftpam_a_wrong_offline_pin_passes_after_a_change(make_chips):
    switch = make_chips().start()
    chip = Chip(VISA)
    with switch.connect() as link:
        assert link.ask(chip.request(4_999, FAILED)).code == "55"
        set_pin(switch, CARD_2)
        for amount, code in ((5_000, "55"), (5_001, "55"), (4_999, "00")):
            assert link.ask(chip.request(amount, FAILED)).code == code, amount
        assert trail(switch, CARD_2)[-2:] == [
            "bypass: below FTPAM (amount 4999, FTPAM 5000)", "the answer carries a script (sent 1)"
        ]
        metrics = Metrics(switch)
        assert metrics.value("pinswitch_offline_pin_bypasses_total") == 1
        assert metrics.value("pinswitch_issuer_scripts_total", state="sent") == 1
        assert metrics.value("pinswitch_cryptogram_verifications_total", result="ok") == 4
        assert switch.log().count("offline PIN bypassed") == 1
        newest, *_ = json.loads(switch.done("transaction", "show", CARD_2.token))
        (line,) = [one for one in switch.log().splitlines() if "offline PIN bypassed" in one]
        assert f'token="{CARD_2.token}" transaction={newest["id"]}' in line
        # Other currency, contactless, cash.
        other = chip.request(100, FAILED, tags={"5F2A": "0840"}, changes={"49": "840"})
        assert link.ask(other).code == "55"
        assert link.ask(chip.request(100, FAILED, changes={"3": "010000"})).code == "70"
        contactless = link.ask(chip.request(100, NOTHING, entry="071"))
        assert (contactless.code, told(contactless)[2]) == ("00", None)


def test_a_lost_answer_is_sent_again_and_given_up_in_the_end(make_chips):
    switch = make_chips(chip="script_resends_max = 2").start()
    chip = Chip(VISA)
    set_pin(switch, CARD_2)
    with switch.connect() as link:
        for attempt in (1, 2, 3):
            answer = link.ask(chip.request(pin=OK))
            assert told(answer)[1:] == (bytes([attempt, 0, 0, 2]), chip.pin_change(NEW_PIN))
            assert sync(switch, CARD_2) == f"sent {{change, attempts {attempt}}}"
        answer = link.ask(chip.request(pin=OK))
        assert (answer.code, told(answer)[2]) == ("00", None)
        assert sync(switch, CARD_2) == "failed {change, attempts 3}"


def test_what_is_known_of_a_chip_outlives_kill_9(make_chips):
    switch = make_chips().start()
    chip = Chip(VISA)
    set_pin(switch, CARD_2)
    request = chip.request(pin=OK)
    with switch.connect() as link:
        answer = link.ask(request)
        assert told(answer)[2] == chip.pin_change(NEW_PIN)
    for _ in range(2):
        switch.kill()
        switch.start()
        assert sync(switch, CARD_2) == "sent {change, attempts 1}"
        with switch.connect() as link:
            # The same answer, from the record and the PIN that waits; and no counter twice.
            assert link.ask(dict(request, t="0101")).raw == answer.raw
            again = link.ask(dict(request, **{"11": "999999", "37": "999999999999"}))
            assert again.reason == "1029"
    with switch.connect() as link:
        assert link.ask(chip.request(pin=OK, scripts=1)).code == "00"
        # The script's PIN is no longer there: the repeat has the answer without it.
        repeated = link.ask(dict(request, t="0101"))
        assert (repeated.code, told(repeated)[1:]) == ("00", (None, None))
        assert told(repeated)[0] == told(answer)[0]


def test_a_decision_stands_though_the_chip_cannot_be_answered_again(make_chips):
    """Without its card nobody can make the issuer's answer to the chip again."""
    switch = make_chips().start()
    card = replace(CARD_2, token="removed", pan=pan_of(CARD_2.pan[:6], 77))
    switch.add(card)
    chip = Chip(replace(VISA, card=card))
    with switch.connect() as link:
        approved = chip.request(online_pin=card.pin, tags={"9F34": "420300"})
        declined = chip.request(pin=FAILED, amount=999_999)
        requests = [approved, declined]
        answers = [link.ask(request) for request in requests]
        assert [(answer.code, "55" in answer.elements) for answer in answers] == [
            ("00", True), ("55", True),
        ]
        switch.done("card", "remove", card.token)
        for request, answer in zip(requests, answers):
            repeated = link.ask(dict(request, t="0101"))
            # All but DE55 and its bit.
            kept = answer.elements.keys() - {"55", "p"}
            assert repeated.elements.keys() - {"p"} == kept
            assert {name: repeated.elements[name] for name in kept} == {
                name: answer.elements[name] for name in kept
            }


def test_what_the_chip_says_of_a_script_counts(make_chips):
    switch = make_chips().start()
    chip = Chip(M_CHIP)
    set_pin(switch, CARD_3)
    with switch.connect() as link:
        sent = chip.request(pin=OK)
        assert told(link.ask(sent))[2] == chip.pin_change(NEW_PIN)
        # Failed by its CVR: sent again in that very answer.
        again = link.ask(chip.request(pin=OK, scripts=1, script_failed=True))
        assert told(again)[1:] == (bytes([2, 0, 0, 2]), chip.pin_change(NEW_PIN))
        # A reversal of that: the answer did not reach the chip.
        lost = chip.request(pin=OK, scripts=1, script_failed=True)
        assert told(link.ask(lost))[1] == bytes([3, 0, 0, 2])
        assert link.ask(reversal(lost)).code == "00"
        assert sync(switch, CARD_3) == "pending {change, attempts 3}"
        # An advice under a wrong cryptogram, on a link that has not signed on, proves nothing.
        other = chip.request(pin=OK)
        assert told(link.ask(other))[1] == bytes([4, 0, 0, 2])
        wrong = other["55"].replace(chip.arqc.hex().upper(), "11" * 8)
        for stan, data in (("777777", wrong + "9F5B052004000002"), ("777778", other["55"])):
            advice = dict(other, t="0120", **{"11": stan, "37": stan * 2, "55": data})
            assert link.ask(advice).code == "00"
            assert sync(switch, CARD_3) == "sent {change, attempts 4}"
        # With the script's result in it, it did.
        done = chip.request(pin=OK)
        assert told(link.ask(done))[1] == bytes([5, 0, 0, 2])
        result = {"55": done["55"] + "9F5B052005000002"}
        assert link.ask(reversal(done, changes=result)).code == "00"
        assert sync(switch, CARD_3) == "in_sync"


def test_a_reversed_answer_may_have_come_to_the_chip(make_chips):
    """The change is pending again; but the chip has the PIN, tells so, and nothing passes."""
    switch = make_chips().start()
    for profile in (VISA, M_CHIP):
        chip, card = Chip(profile), profile.card
        set_pin(switch, card)
        with switch.connect() as link:
            sent = chip.request(pin=OK)
            assert told(link.ask(sent))[2] == chip.pin_change(NEW_PIN)
            assert link.ask(reversal(sent)).code == "00"
            assert sync(switch, card) == "pending {change, attempts 1}"
            switch.kill()
            switch.start()
        with switch.connect() as link:
            exhausted = link.ask(chip.request(999_900, FAILED, exhausted=True, scripts=1))
            assert (exhausted.code, exhausted.reason) == ("75", "1872")
            assert told(exhausted)[2] is None
        assert sync(switch, card) == "in_sync"


def test_a_refund_is_one_if_the_chip_was_told_so_too(make_chips):
    switch = make_chips().start()
    chip = Chip(VISA)
    refund = {"3": "200000"}
    with switch.connect() as link:
        def ask(**how):
            return link.ask(chip.request(changes=refund, **how)).code

        assert ask(pin=FAILED, tags={"9C": "20"}) == "00"
        assert ask(pin=FAILED, tags={"9C": "00"}) == "55"
        # What cannot be verified is no worse than nothing.
        assert ask(tags={"9C": "20", "9F26": None}) == "00"
        assert ask(tags={"9C": "20", "9F10": "0102"}) == "00"
        assert ask(tags={"9C": "20", "9F26": "11" * 8}) == "59"


def test_an_unblock_is_queued_and_rides(make_chips):
    switch = make_chips().start()
    chip = Chip(VISA)
    with switch.connect() as link:
        for _ in range(2):
            answer = link.ask(chip.request(**SIGNED))
            assert (answer.code, answer.reason) == ("75", "1872")
        assert switch.show(CARD_2.token)["state"] == "ACTIVE"
        assert switch.command("card", "unblock", CARD_2.token).returncode == 0
        answer = link.ask(chip.request(**SIGNED))
        assert (answer.code, told(answer)[2]) == ("00", chip.unblock())
    assert switch.command("card", "unblock", "demo-card-1").returncode == 1


def test_an_unblock_waits_behind_a_pin_that_is_on_its_way(make_chips):
    """The chip may have it already, and have been blocked after it."""
    switch = make_chips().start()
    chip = Chip(VISA)
    set_pin(switch, CARD_2)
    with switch.connect() as link:
        assert told(link.ask(chip.request(pin=OK)))[2] == chip.pin_change(NEW_PIN)
        switch.done("card", "unblock", CARD_2.token)
        assert sync(switch, CARD_2) == "sent {change, attempts 1}, then unblock"
    switch.kill()
    switch.start()
    with switch.connect() as link:
        answer = link.ask(chip.request(**SIGNED, scripts=1))
        assert (answer.code, told(answer)[2]) == ("00", chip.unblock())
        assert "an unblock is queued for the chip" in trail(switch, CARD_2)
        assert sync(switch, CARD_2) == "sent {unblock, attempts 1}"
        # The card is drawn out of the next payment, which nobody hears of. What its chip tells
        # then may be of the one script or of the other: it passes no more.
        chip.atc += 1
        doubtful = chip.request(**SIGNED, scripts=1, completed=False)
        assert link.ask(doubtful).reason == "1872"
        assert "the script may have reached the chip (ATC of the script 2)" in trail(switch, CARD_2)
        assert link.ask(chip.request(**SIGNED)).reason == "1872"
        # Until somebody asks for it again.
        switch.done("card", "unblock", CARD_2.token)
        answer = link.ask(chip.request(**SIGNED))
        assert (answer.code, told(answer)[2]) == ("00", chip.unblock())


@pytest.mark.parametrize("profile", PROFILES, ids=names)
def test_a_chip_tells_of_its_script_also_in_an_advice(make_chips, profile):
    """Another one has answered in the issuer's place, and the chip has forgotten it since."""
    switch = make_chips().start()
    chip, card = Chip(profile), profile.card
    set_pin(switch, card)
    with switch.connect() as link:
        assert told(link.ask(chip.request(pin=OK)))[2] == chip.pin_change(NEW_PIN)
        stand_in = chip.request(pin=OK, scripts=1)
        wrong = stand_in["55"].replace(chip.arqc.hex().upper(), "11" * 8)
        for stan, data, state in [
            ("777777", wrong, "sent {change, attempts 1}"), ("777778", stand_in["55"], "in_sync"),
        ]:
            advice = dict(stand_in, t="0120", **{"11": stan, "37": stan * 2, "55": data})
            assert link.ask(advice).code == "00"
            assert sync(switch, card) == state
        answer = link.ask(chip.request(4999, FAILED))
        assert (answer.code, answer.reason) == ("55", "1809")


def test_a_right_online_pin_unblocks_at_an_atm_where_the_product_says_so(make_chips):
    for setting, unblocks in (("", False), ('preset = "mexico"', True)):
        switch = make_chips(chip=setting).start()
        chip = Chip(VISA)
        online = dict(online_pin=CARD_2.pin, exhausted=True)
        with switch.connect() as link:
            answer = link.ask(chip.request(**online, tags={"9F34": "420300"}))
            assert (answer.code, told(answer)[2]) == ("00", None)
            request = chip.request(
                **online, tags={"9F34": "420300", "9C": "01"}, changes={"3": "010000"})
            answer = link.ask(request)
            assert answer.code == "00"
            assert told(answer)[2] == (chip.unblock() if unblocks else None)


@pytest.mark.parametrize("offline_pin", [True, False])
def test_who_takes_de52_out_on_the_way_gains_nothing(make_switch, offline_pin):
    of_visa = settings.chip("visa").replace("true", str(offline_pin).lower())
    switch = make_switch(visa_chip=of_visa).start()
    chip, online = Chip(VISA), "0000048000"
    with switch.connect() as link:
        for entry in ("051", "951", "071", "801", "000"):
            for tags, tvr in (({"9F34": "420300"}, None), ({"9F34": "1F0302"}, online)):
                answer = link.ask(chip.request(entry=entry, tags=tags, tvr=tvr))
                assert (answer.code, answer.reason) == ("70", "1012"), (entry, tags)
        assert trail(switch, CARD_2)[-1] == "the terminal says online PIN, and there is no DE52"
        # The same cryptogram with the PIN, and a forged one, which is told first.
        request = chip.request(tags={"9F34": "420300"})
        assert link.ask(request).reason == "1012"
        again = dict(chip.request(online_pin=CARD_2.pin), **{"55": request["55"]})
        chip.atc -= 1
        assert link.ask(again).code == "00"
        forged = chip.request(tags={"9F34": "420300", "9F26": "11" * 8})
        assert link.ask(forged).reason == "1029"
        # Nothing has verified the holder of a contact chip.
        nothing = link.ask(chip.request(tvr="0000808000"))
        assert nothing.reason == ("1809" if offline_pin else "1012")


def test_always_is_below_ftpam_where_that_is_set(make_chips):
    switch = make_chips('approve_exhausted = "always"\n').start()
    chip = Chip(VISA)
    set_pin(switch, CARD_2)
    with switch.connect() as link:
        answer = link.ask(chip.request(5_000, **EXHAUSTED))
        assert (answer.code, answer.reason) == ("75", "1872")
        answer = link.ask(chip.request(4_999, **EXHAUSTED))
        assert (answer.code, told(answer)[2]) == ("00", chip.pin_change(NEW_PIN))


def test_the_pin_asked_for_after_the_cryptogram_comes_with_the_same(make_chips):
    switch = make_chips().start()
    chip = Chip(VISA)
    with switch.connect() as link:
        request = chip.request(tags={"9F34": "420300"})
        assert link.ask(request).code == "70"
        with_pin = dict(chip.request(online_pin=CARD_2.pin), **{"55": request["55"]})
        chip.atc -= 1
        assert link.ask(with_pin).code == "00"
        once_more = dict(with_pin, **{"11": "888888", "37": "888888888888"})
        assert link.ask(once_more).code == "59"


@pytest.mark.parametrize("tags", [
    {"9F26": None}, {"9F10": None}, {"9F37": None}, {"9F36": None}, {"95": None},
    {"9F10": "06010B03A00000"}, {"9F10": "0102"}, {"9F10": "FF" * 32}, {"9F27": "00"},
    {"9F36": "0000"}, {"9F36": "FFFF"},
], ids=str)
def test_chip_data_that_cannot_be_verified_is_1029(make_chips, tags):
    switch = make_chips().start()
    with switch.connect() as link:
        for pin in (None, CARD_2.pin):
            answer = link.ask(Chip(VISA).request(pin=OK, tags=tags, online_pin=pin))
            assert (answer.code, answer.reason) == ("59", "1029")
    assert len(trail(switch, CARD_2)) >= 1


UNREADABLE = [
    "9F26", "9F2608AABB", "9F02060000000000009F0206000000000000", "9F0205000000000", "9F361000",
    "7F" * 20, "9F5B04000000", "5F340199", "9F34031E03009F34031E0300", "9F34021E03", "9F27028080",
]


@pytest.mark.parametrize("data", UNREADABLE, ids=str)
def test_chip_data_that_cannot_be_read_is_a_format_error(make_chips, data):
    switch = make_chips().start()
    with switch.connect() as link:
        request = Chip(VISA).request(pin=OK, changes={"55": data + "0" * (len(data) % 2)})
        answer = link.ask(request)
        assert (answer.code, answer.reason) in (("30", "055"), ("30", "023"))


def test_what_no_rule_reads_of_chip_data_refuses_no_payment(make_chips):
    """Terminal capabilities, type and serial number, transaction category, application, and what
    only is told: PIN try counter, script results."""
    switch = make_chips().start()
    chip = Chip(VISA)
    other = {"9F33": "E0F8", "9F35": "2222", "9F1E": "31", "9F53": "", "84": "A0" * 17,
             "9F17": "0303", "9F5B": "2001000002" * 5 + "20"}
    with switch.connect() as link:
        for tag, value in other.items():
            request = chip.request(pin=OK, tags={tag: None})
            objects = f"{tag}{len(value) // 2:02X}{value}{tag}0101"
            answer = link.ask(dict(request, **{"55": request["55"] + objects}))
            assert (answer.code, told(answer)[0]) == ("00", chip.arpc()), tag


def not_as_it_should_be(request):
    """Elements with which the chip data of a request are not readable, or contradict DE22."""
    yield from ({"55": data + "0" * (len(data) % 2)} for data in UNREADABLE)
    yield from ({"22": entry, "55": request["55"]} for entry in ("011", "021", "901"))


@pytest.mark.parametrize("mti", ["0400", "0401", "0420"])
def test_a_reversal_is_taken_whatever_its_chip_data_are(make_chips, mti):
    switch = make_chips().start()
    chip = Chip(VISA)
    with switch.connect() as link:
        for changes in not_as_it_should_be(chip.request()):
            original = chip.request(pin=OK)
            assert link.ask(original).code == "00"
            answer = link.ask(reversal(original, mti=mti, changes=changes))
            assert (answer.mti, answer.code) == ("0430" if mti == "0420" else "0410", "00")
            again = link.ask(dict(original, t="0101"))
            assert (again.code, again.reason) == ("94", "9913"), changes
        # All else of it counts.
        wrong = reversal(chip.request(), mti=mti, changes={"55": "9F26", "90": "9" * 42})
        assert link.ask(wrong).reason == "090"


@pytest.mark.parametrize("mti", ["0120", "0121", "0220"])
def test_an_advice_is_acknowledged_whatever_its_chip_data_are(make_chips, mti):
    switch = make_chips().start()
    chip = Chip(VISA)
    with switch.connect() as link:
        for changes in not_as_it_should_be(chip.request()):
            answer = link.ask(dict(chip.request(pin=OK), t=mti, **changes))
            assert (answer.mti, answer.code) == (mti[:2] + "30", "00"), changes
        wrong = dict(chip.request(pin=OK), t=mti, **{"4": "X" * 12, "55": "9F26"})
        assert link.ask(wrong).reason == "004"


def test_chip_data_that_cannot_be_read_are_no_evidence(make_chips):
    """They name the script and its success, and 9F34 twice."""
    switch = make_chips().start()
    chip = Chip(VISA)
    set_pin(switch, CARD_2)
    with switch.connect() as link:
        sent = chip.request(pin=OK)
        assert told(link.ask(sent))[1] == bytes([1, 0, 0, 2])
        done, twice = "9F5B052001000002", "9F34031E0300" * 2
        advice = dict(sent, t="0120", **{"11": "777777", "37": "7" * 12})
        assert link.ask(dict(advice, **{"55": sent["55"] + done + twice})).code == "00"
        assert sync(switch, CARD_2) == "sent {change, attempts 1}"
        assert link.ask(reversal(sent, changes={"55": sent["55"] + done + twice})).code == "00"
        assert sync(switch, CARD_2) == "pending {change, attempts 1}"


def test_without_chip_data_a_contact_chip_needs_a_pin(make_chips):
    switch = make_chips().start()
    with switch.connect() as link:
        request = Chip(VISA).request(changes={"55": None})
        assert (link.ask(request).reason, trail(switch, CARD_2)) == (
            "1029", ["a chip without DE55, and no PIN"])
        with_pin = Chip(VISA).request(changes={"55": None}, online_pin=CARD_2.pin)
        assert link.ask(with_pin).code == "00"
        for entry in ("011", "021", "901"):
            assert link.ask(Chip(VISA).request(pin=OK, entry=entry)).reason == "055"


STRIPES = [{"22": "801"}, {"22": "901", "35": f"{CARD_2.pan}=2912201000", "2": None}]


@pytest.mark.parametrize("stripe", STRIPES, ids=["80", "service code"])
@pytest.mark.parametrize("rule, without_pin, why", [
    ("", "1012", ["the stripe of a card with a chip was read",
                  "a PIN is required, and there is none"]),
    ('fallback = "decline"', "1029", ["the stripe of a card with a chip was read"]),
    ('fallback = "allow"', None, ["no PIN is required"]),
])
def test_the_stripe_of_a_chip_card_follows_a_rule_of_its_own(
    make_chips, stripe, rule, without_pin, why
):
    switch = make_chips(rule).start()
    with switch.connect() as link:
        assert link.ask(authorization(CARD_2, changes=stripe)).reason == without_pin
        assert trail(switch, CARD_2) == why
        with_pin = link.ask(authorization(CARD_2, CARD_2.pin, changes=stripe))
        wrong = link.ask(authorization(CARD_2, other_pin(CARD_2.pin), changes=stripe))
        declines = without_pin == "1029"
        assert (with_pin.reason, wrong.reason) == (("1029",) * 2 if declines else (None, "1809"))
        # The demo's cards: DE22 901, and no service code.
        assert link.ask(authorization(CARD_2)).code == "00"
    assert switch.show(CARD_2.token)["pin_try_counter"] == (0 if declines else 1)


@pytest.mark.parametrize("profile", PROFILES, ids=names)
def test_a_cryptogram_is_explained_under_public_keys(make_chips, profile):
    switch = make_chips().start()
    chip = Chip(profile)
    request = chip.request(pin=OK)
    result = switch.command("explain-cryptogram", profile.card.token, request["55"])
    assert result.returncode == 0, result.stderr
    values = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert values["9F26 as computed"] == values["9F26 as received"] == chip.arqc.hex().upper()
    assert values["card master key"] == chip.engine.icc_mk_ac.hex().upper()
    assert profile.card.pan not in result.stdout
    for wrong in ("9F2", "9F02", "", request["55"][:-2]):
        assert switch.command("explain-cryptogram", profile.card.token, wrong).returncode == 1
    assert switch.command("explain-cryptogram", "demo-card-1", request["55"]).returncode == 1


def test_a_dialect_may_want_the_response_code_in_the_chip_data(make_switch):
    builtin = (REPOSITORY / "iso-specs/specs/iso8583-1987-ascii.toml").read_text()
    text = builtin.replace("reason_code_field = 44", "reason_code_field = 44\nchip_response_code = true")
    switch = make_switch(dialect="own.toml", visa_chip=settings.chip("visa"))
    (switch.directory / "own.toml").write_text(text)
    switch.start()
    chip = Chip(VISA)
    with switch.connect() as link:
        for request, code in ((chip.request(pin=OK), "00"), (chip.request(pin=FAILED), "55")):
            answer = link.ask(request)
            data = tlv.decode(bytes.fromhex(answer.elements["55"]))
            assert (answer.code, data["8A"]) == (code, code.encode())


@pytest.mark.parametrize("is_running", [True, False])
def test_the_key_of_a_pin_that_waits_for_a_chip_is_not_retired(make_switch, is_running):
    """Its PIN reference is under a PVK, so that nothing else needs the key."""
    source = random.Random(24)
    pvk = tdes_key(source)
    product = settings.product("pvv", visa_pvv("pvv", "pvk", pvk).table) + settings.chip("visa")
    switch = make_switch(master_key_file="master.key", zpk="zpk", tables=product)
    switch.write_master_key()
    switch.bring_in_key("pvk", pvk, usage="V2")
    usages = {"zpk": "P0", **{f"demo-visa-imk-{name}": usage for name, usage in (
        ("ac", "E0"), ("smi", "E2"), ("smc", "E1"))}}
    for name, usage in usages.items():
        switch.bring_in_key(name, tdes_key(source), usage=usage)
    switch.start()
    card = Card("pvv-1", pan_of("476134", 1), "4713", "pvv")
    switch.add_all([card])
    set_pin(switch, card)
    switch.done("key", "generate", "own-pek", "--usage", "P0", "--rotate")
    if not is_running:
        assert switch.terminate() == 0
    refused = switch.command("key", "retire", "own-pek")
    assert refused.returncode == 1 and "1 card" in refused.stderr
    if not is_running:
        switch.start()
    # This one waits in its place, under the new key.
    set_pin(switch, card, "753197")
    switch.done("key", "retire", "own-pek")
