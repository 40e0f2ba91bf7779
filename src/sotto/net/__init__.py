"""The one place that opens an address a caller gave.

Invariant: every connection goes to an address that the SDK's guard has resolved and found public,
a redirect's target included, or to the store that the operator chose; a caller's headers reach
the origin they were given for and no other; and no message or log line holds a query string, a
password or a header's value.
"""

from sotto.net.address import bare, openable, shown
from sotto.net.client import Net
from sotto.net.exchange import NetLimits
from sotto.net.headers import USER_AGENT, check_headers
from sotto.net.upload import Destination

__all__ = [
    "USER_AGENT",
    "Destination",
    "Net",
    "NetLimits",
    "bare",
    "check_headers",
    "openable",
    "shown",
]
