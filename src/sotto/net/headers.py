"""The headers a caller may have sent along.

Invariant: what passes is one line of HTTP each, and none of it steers the transfer itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sotto import __version__
from sotto.errors import RequestError

USER_AGENT = f"Sotto/{__version__}"

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(r"([\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
OURS = re.compile(
    r"accept-encoding|connection|content-length|expect|host|if-range|keep-alive|proxy-.*|range|te|"
    r"trailer|transfer-encoding|upgrade",
    re.IGNORECASE,
)


def check_headers(headers: Mapping[str, str], field: str) -> None:
    """Raise RequestError, naming `field`, unless every header may be sent as it is."""
    for name, value in headers.items():
        shown = repr(name[:60])
        if not NAME.fullmatch(name):
            raise RequestError(field, f"{shown} is not the name of an HTTP header")
        if OURS.fullmatch(name):
            raise RequestError(field, f"{shown} is set by the transfer itself; leave it out")
        if not VALUE.fullmatch(value):
            raise RequestError(
                field,
                f"the value of {shown} has a line break, a control character, a space at an end "
                "or a character beyond Latin-1",
            )
