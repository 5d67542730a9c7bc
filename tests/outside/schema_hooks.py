"""What schemathesis leaves out against a switch under test; it reads this file itself."""

import schemathesis

# An answer with some fields only is described as the whole.
PARTS = ("/users/{token}", "/cards/{token}", "/cardproducts/{token}")


@schemathesis.hook
def filter_case(context, case):
    token, query = (case.path_parameters or {}).get("token"), case.query or {}
    # Without its own key it would not be let in any more.
    revokes_itself = case.method == "DELETE" and token == "demo"
    return not revokes_itself and not (case.path in PARTS and "fields" in query)
