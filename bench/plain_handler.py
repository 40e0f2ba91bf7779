"""The handler as it is usually written: import everything, load the model, then start the SDK.

What `python handler.py` is measured against: the same engine and the same warm-up, one step after
the other, and an SDK that is imported as it comes.
"""

from __future__ import annotations

import os
from typing import Any

import runpod

from sotto.settings import Settings
from sotto.worker import job as jobs

if __name__ == "__main__":
    service = jobs.open_service(Settings.from_env(os.environ))
    service.workshop.warm_up()

    async def handle(job: dict[str, Any]) -> Any:
        """Answer a job."""
        return await jobs.run(job, service)

    runpod.serverless.start({"handler": handle})
