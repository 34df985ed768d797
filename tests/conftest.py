"""No test reaches an account: whatever AWS this machine is signed in to, tests see none of it."""

from __future__ import annotations

import os

_LEFT = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
os.environ.clear()
os.environ.update(
    _LEFT,
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    AWS_EC2_METADATA_DISABLED="true",
)
