"""The one error of the watchdog: it cannot watch as it was told to."""


class WatchdogError(Exception):
    """What cannot be used and what to do instead; the message names the option or the file."""
