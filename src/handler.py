"""Where the container starts: `python handler.py`."""

from sotto.worker.serve import main

if __name__ == "__main__":
    main(__file__)
