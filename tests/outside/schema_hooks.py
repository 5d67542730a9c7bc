"""What schemathesis does otherwise against a switch under test; it reads this file itself."""

import itertools
import re

import schemathesis

KEY = "Idempotency-Key"

_numbers = itertools.count()


@schemathesis.hook
def filter_case(context, case):
    # Without its own key it would not be let in any more.
    token = (case.path_parameters or {}).get("token")
    return not (case.method == "DELETE" and token == "demo")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Most calls get a key of their own: what is made up is nearly always "0", and all but the
    first call with it would be refused."""
    number = next(_numbers)
    if number % 8 and re.fullmatch("[!-~]{1,255}", (case.headers or {}).get(KEY, "")):
        case.headers[KEY] = f"call-{number}"
