"""Configuration files of the switches under test: free ports, small journal segments."""

import json

TEMPLATE = """\
data_dir = "data"
profile = "{profile}"

[hsm]
master_key_file = "{master_key_file}"

[admin]
listen = "127.0.0.1:{admin_port}"

[api]
listen = "127.0.0.1:0"
{api}

[limits]
connections_max = {connections_max}
in_flight_per_connection_max = {in_flight_per_connection_max}
write_seconds_max = {write_seconds_max}
drain_seconds_max = {drain_seconds_max}
bad_pin_blocks_per_minute = {bad_pin_blocks_per_minute}
{threads}
{limits}

[store]
sync = "{sync}"
segment_mb = {segment_mb}
snapshot_mb = {snapshot_mb}
{store}

[log]
json = {json}

[[links]]
name = "link-a"
network = "net"
listen = "{listen}"
dialect = "{dialect}"
zpk = "{zpk}"
{link_a}

[[links]]
name = "link-b"
network = "net"
listen = "{listen}"
dialect = "{dialect}"
sign_on_required = true
zpk = "{zpk}"

[[products]]
name = "demo-debit"
bins = ["476134", "476135"]
currency = 978

{debit_chip}

[[products]]
name = "demo-chip"
bins = ["476134"]
currency = 978

{visa_chip}

[[products]]
name = "demo-mchip"
bins = ["541333"]
currency = 978

{m_chip}

[[products]]
name = "demo-nolimit"
bins = ["476134"]
currency = 978
pin_retry_limit = "none"

[[products]]
name = "small-amounts"
bins = ["476134"]
currency = 978
limit_per_transaction = 1250
allowed_currencies = [978]

{tables}
"""

DEFAULTS = {
    "profile": "test",
    "master_key_file": "demo",
    "connections_max": 1024,
    "in_flight_per_connection_max": 1024,
    "write_seconds_max": 10,
    "drain_seconds_max": 10,
    "bad_pin_blocks_per_minute": 5,
    "threads": "",
    "limits": "",
    "sync": "state",
    "segment_mb": 1,
    "snapshot_mb": 256,
    "store": "",
    "json": "false",
    "api": "",
    "listen": "127.0.0.1:0",
    "link_a": "",
    "dialect": "iso8583-1987-ascii",
    "zpk": "demo-zpk",
    "tables": "",
    "debit_chip": "",
    "visa_chip": "",
    "m_chip": "",
}


def text(**settings):
    unknown = settings.keys() - DEFAULTS.keys() - {"admin_port"}
    assert not unknown, unknown
    return TEMPLATE.format(**{**DEFAULTS, **settings})


def chip(kind, more=""):
    """The rules of a product's chips under the demo's keys, for the settings `debit_chip`,
    `visa_chip` and `m_chip`."""
    keys = "\n".join(f'imk_{key} = "demo-{kind}-imk-{key}"' for key in ("ac", "smi", "smc"))
    return f"[products.chip]\n{keys}\noffline_pin = true\n{more}"


def link(name, zpk, formats=None, dialect=DEFAULTS["dialect"], network="net", more="",
         listen=DEFAULTS["listen"]):
    """One more link, for the setting `tables`."""
    listed = "" if formats is None else f"pin_block_formats = {formats}\n"
    return f"""
[[links]]
name = "{name}"
network = "{network}"
listen = "{listen}"
dialect = "{dialect}"
zpk = "{zpk}"
{listed}{more}
"""


def product(name, pin_verification, pin_retry_limit="3", earlier=()):
    """One more product, for the setting `tables`; `pin_verification` is its table as a dict, and
    `earlier` holds those it had before."""
    def lines(table):
        return "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())

    before = "".join(
        f"[[products.earlier_pin_verification]]\n{lines(table)}\n" for table in earlier
    )
    return f"""
[[products]]
name = "{name}"
bins = ["476134"]
currency = 978
pin_retry_limit = {pin_retry_limit}
[products.pin_verification]
{lines(pin_verification)}
{before}"""
