"""How RunPod's ids look: of endpoints and of pods."""

from __future__ import annotations

import re

ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
