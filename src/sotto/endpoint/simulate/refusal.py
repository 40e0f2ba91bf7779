"""The one error of the simulation: what was given cannot be simulated."""


class SimulationError(Exception):
    """What cannot be used and what to do instead; the message names the option or the line."""
