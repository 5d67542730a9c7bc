"""Metrics and health, read with the parsers of Prometheus."""

import os
import shutil
import subprocess
import time

import messages
import pytest
from messages import CARD_1, CARD_4, authorization, network_management, other_pin, reversal
from process import REPOSITORY
from prometheus_client.parser import text_string_to_metric_families

TYPES = {
    "pinswitch_messages": "counter",
    "pinswitch_responses": "counter",
    "pinswitch_request_duration_seconds": "histogram",
    "pinswitch_inflight": "gauge",
    "pinswitch_connections": "gauge",
    "pinswitch_connections_waiting": "gauge",
    "pinswitch_connections_refused": "counter",
    "pinswitch_pin_verifications": "counter",
    "pinswitch_pin_suspensions": "counter",
    "pinswitch_cryptogram_verifications": "counter",
    "pinswitch_offline_pin_bypasses": "counter",
    "pinswitch_issuer_scripts": "counter",
    "pinswitch_bad_pin_blocks": "counter",
    "pinswitch_reject_headers": "counter",
    "pinswitch_journal_sync_seconds": "histogram",
    "pinswitch_journal_synced_records": "counter",
    "pinswitch_events_dropped_unread": "counter",
    "pinswitch_clock_settled": "gauge",
    "pinswitch_duplicate_window_seconds": "gauge",
    "pinswitch_log_lines_dropped": "counter",
    "pinswitch_reversals": "counter",
    "pinswitch_connections_closed": "counter",
    "pinswitch_overload_answers": "counter",
    "pinswitch_late_answers": "counter",
    "pinswitch_door_connections_refused": "counter",
    "pinswitch_door_connections_timed_out": "counter",
    "pinswitch_accept_failures": "counter",
    "pinswitch_build_info": "gauge",
    "process_cpu_seconds": "counter",
    "process_resident_memory_bytes": "gauge",
    "process_open_fds": "gauge",
    "process_start_time_seconds": "gauge",
}
REASONS = {
    "0000", "1001", "1004", "1011", "1012", "1015", "1021", "1025", "1026", "1029", "1809",
    "1872", "9904", "9907", "9909", "9913", "9914",
}


class Metrics:
    """One reading of the metrics page."""

    def __init__(self, switch):
        status, self.text = switch.get("/metrics")
        assert status == 200
        self.families = {f.name: f for f in text_string_to_metric_families(self.text)}
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name, **labels):
        """The sum over all samples that have these labels."""
        wanted = set(labels.items())
        found = [v for (n, has), v in self.samples.items() if n == name and wanted <= has]
        assert found, (name, labels)
        return sum(found)


def test_names_and_types_are_as_documented(shared):
    families = Metrics(shared).families
    assert {name: families[name].type for name in TYPES} == TYPES


def test_every_metric_has_help_and_type_once(shared):
    metrics = Metrics(shared)
    lines = metrics.text.splitlines()
    helped = [line.split()[2] for line in lines if line.startswith("# HELP")]
    typed = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(set(typed)) == len(typed) and len(set(helped)) == len(helped)
    assert sorted(helped) == sorted(typed)
    assert all(family.documentation for family in metrics.families.values())


def test_promtool_finds_nothing_to_complain_about(shared):
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    promtool = promtool or REPOSITORY / ".tools/prometheus/usr/bin/promtool"
    with shared.connect() as link:
        link.ask(authorization(CARD_1, CARD_1.pin))
    result = subprocess.run(
        [promtool, "check", "metrics"], input=Metrics(shared).text, capture_output=True, text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout + result.stderr == ""


def test_label_sets_exist_before_anything_happens(switch):
    metrics = Metrics(switch)
    for mti in ("0100", "0101", "0200", "0201", "0400", "0800", "other"):
        assert metrics.value("pinswitch_messages_total", mti=mti, direction="in") == 0
    for mti in ("0110", "0210", "0810"):
        labels = {"network": "net", "mti": mti}
        assert metrics.value("pinswitch_messages_total", direction="out", **labels) == 0
        for code in REASONS:
            assert metrics.value("pinswitch_responses_total", code=code, **labels) == 0
    results = {dict(labels)["result"] for name, labels in metrics.samples
               if name == "pinswitch_pin_verifications_total"}
    assert len(results) == 4
    for name in ("pinswitch_pin_suspensions_total", "pinswitch_pin_verifications_total",
                 "pinswitch_bad_pin_blocks_total", "pinswitch_connections_refused_total",
                 "pinswitch_inflight", "pinswitch_connections", "pinswitch_connections_waiting",
                 "pinswitch_door_connections_refused_total",
                 "pinswitch_door_connections_timed_out_total", "pinswitch_accept_failures_total",
                 "pinswitch_log_lines_dropped_total",
                 "pinswitch_request_duration_seconds_count"):
        assert metrics.value(name) == 0
    build = dict(next(labels for name, labels in metrics.samples if name == "pinswitch_build_info"))
    assert metrics.value("pinswitch_build_info") == 1 and {"version", "revision"} <= build.keys()


def test_counts_move_as_the_messages_do(switch):
    before = Metrics(switch)
    with switch.connect() as link:
        link.ask(network_management("001"))
        link.codes(authorization(CARD_1, f"111{n}") for n in range(4))
        link.ask(authorization(CARD_4, CARD_4.pin))
        link.ask(authorization(CARD_4, other_pin(CARD_4.pin), mti="0201"))
        link.ask(authorization(CARD_4, changes={"52": "0" * 16}))
        link.ask(authorization(CARD_4, changes={"4": None}))
        approved = authorization(CARD_4, CARD_4.pin)
        link.ask(approved)
        link.ask(reversal(approved))
        link.ask(reversal(approved, mti="0420"))
        link.ask(authorization(CARD_4, mti="0401"))
        link.ask(authorization(CARD_4, mti="0300"))
        link.send(authorization(CARD_4, mti="0110"))
        link.echo()
        after = Metrics(switch)
        assert after.value("pinswitch_connections", network="net", link="link-a") == 1

    def moved(name, **labels):
        return after.value(name, **labels) - before.value(name, **labels)

    counted = {
        ("0800", "0810", "0000"): 2, ("0100", "0110", "1809"): 2, ("0100", "0110", "1872"): 2,
        ("0100", "0110", "0000"): 2, ("0201", "0210", "1809"): 1, ("0100", "0110", "1026"): 1,
        ("0100", "0110", "9904"): 1, ("0400", "0410", "0000"): 2, ("0420", "0430", "0000"): 1,
        ("other", "other", "1015"): 1,
    }
    for (_, mti, code), count in counted.items():
        assert moved("pinswitch_responses_total", network="net", mti=mti, code=code) == count
    assert moved("pinswitch_responses_total") == sum(counted.values())
    came = {"0800": 2, "0201": 1, "0400": 1, "0401": 1, "0420": 1}
    for mti, count in came.items():
        assert moved("pinswitch_messages_total", mti=mti, direction="in") == count
    # The response 0110 came in, and nothing went out for it.
    assert moved("pinswitch_messages_total", direction="in") == sum(counted.values()) + 1
    assert moved("pinswitch_messages_total", direction="out") == sum(counted.values())
    assert moved("pinswitch_pin_suspensions_total") == 1
    assert moved("pinswitch_pin_verifications_total") == 7
    assert moved("pinswitch_reversals_total", original="known") == 2
    assert moved("pinswitch_reversals_total", original="unknown") == 1
    assert moved("pinswitch_bad_pin_blocks_total", link="link-a") == 1
    assert moved("pinswitch_request_duration_seconds_count") == sum(counted.values())
    assert after.value("pinswitch_inflight") == 0


def test_each_of_four_changes_is_a_sync(switch):
    name = "pinswitch_journal_sync_seconds_count"
    before, records = Metrics(switch).value(name), synced_records(switch)
    with switch.connect() as link:
        link.codes(authorization(CARD_4, other_pin(CARD_4.pin)) for _ in range(4))
    # A sync is counted after those who waited for it have gone on.
    deadline = time.monotonic() + 5
    while Metrics(switch).value(name) < before + 4 or synced_records(switch) < records + 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def synced_records(switch):
    return Metrics(switch).value("pinswitch_journal_synced_records_total")


@pytest.mark.parametrize("sync", ["state", "all"])
def test_of_a_hundred_unusable_blocks_in_one_write_the_hsm_is_asked_about_five(make_switch, sync):
    switch = make_switch(sync=sync).start()
    wrong = authorization(CARD_4, other_pin(CARD_4.pin))
    unusable = [authorization(CARD_4, changes={"52": "0" * 16}) for _ in range(100)]
    with switch.connect() as link:
        codes = [answer.code for answer in link.ask_all([wrong, *unusable])]
    assert codes == ["55"] + ["81"] * 100
    metrics = Metrics(switch)
    name = "pinswitch_pin_verifications_total"
    assert metrics.value(name, result="bad_pin_block") == 5
    assert metrics.value(name, result="mismatch") == 1
    assert metrics.value("pinswitch_bad_pin_blocks_total") == 5
    assert metrics.value("pinswitch_responses_total", code="1026") == 100
    assert switch.show(CARD_4.token)["pin_try_counter"] == 1


def test_a_repeat_is_a_message_but_no_verification(switch):
    request = authorization(CARD_1, "1111")
    with switch.connect() as link:
        for mti in ("0100", "0101", "0101"):
            link.ask(dict(request, t=mti))
    metrics = Metrics(switch)
    assert metrics.value("pinswitch_messages_total", mti="0101", direction="in") == 2
    assert metrics.value("pinswitch_responses_total", mti="0110", code="1809") == 3
    assert metrics.value("pinswitch_pin_verifications_total") == 1


def test_no_label_holds_card_data(shared):
    with shared.connect() as link:
        for card in messages.DEMO_CARDS:
            link.ask(authorization(card, card.pin))
    labels = {label for _, labels in Metrics(shared).samples for label in labels}
    for card in messages.DEMO_CARDS:
        assert not any(card.pan in value or card.token in value for _, value in labels)


@pytest.mark.parametrize("path, says", [("/livez", "ok"), ("/readyz", "store: ok")])
def test_health_is_200_while_it_runs(shared, path, says):
    status, text = shared.get(path)
    assert status == 200 and says in text


def test_an_unknown_page_is_404(shared):
    assert shared.get("/")[0] == 404
