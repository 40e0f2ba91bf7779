"""The one place that opens an address a caller gave.

Invariant: every connection goes to an address that the SDK's guard has resolved and found public,
a redirect's target included; a caller's headers reach the origin they were given for and no
other; and no message holds a query string, a password or a header's value.
"""

from sotto.net.address import shown
from sotto.net.fetch import Net, NetLimits
from sotto.net.headers import USER_AGENT, check_headers

__all__ = ["USER_AGENT", "Net", "NetLimits", "check_headers", "shown"]
