"""The app as a Hugging Face Space: clips are uploaded, nothing is kept."""

from __future__ import annotations

import os

from carvid.app.desk import Desk
from carvid.app.limits import Limits
from carvid.app.models import Models
from carvid.app.server import Server, workspace

LIMITS = Limits(
    upload_mb=100, frames=600, seconds=60, sessions=16, idle_s=1800, expressions=8, from_disk=False
)


def main() -> None:
    """Serve until the Space is stopped."""
    models = Models(os.environ.get("CARVID_PRESET", "fast"))
    port = int(os.environ.get("PORT", "7860"))
    with workspace(None) as root:
        desk = Desk(root, keep=False, limits=LIMITS, models=models)
        with Server(desk, "0.0.0.0", port, public=True) as server:
            server.wait()


if __name__ == "__main__":
    main()
