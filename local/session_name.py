"""`make sid SESSION=…`: the name of a session in logs and in the audit trail, which never have its id."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from local.stack import Aws
from local.state import ROOT, StateFolder

sys.path.append(str(ROOT / "layers" / "turnlog" / "python"))  # Lambda mounts it; here nobody does
from turnlog.domain.server_key import ServerKey
from turnlog.usecases.audit import session_hash


def main() -> int:
    """Prints the name. Returns 1 when no stack runs, which alone has the key of the hash, or no session is given."""
    parser = argparse.ArgumentParser(prog="python -m local.session_name", description="A session's name in logs.")
    parser.add_argument("--state", type=Path, default=ROOT / ".turnlog")
    state = StateFolder(parser.parse_args().state)
    session_id = os.environ.get("SESSION_ID", "").strip()
    if not session_id:
        print("Which session? `make sid SESSION=ses_…`", file=sys.stderr)
        return 1
    running = state.read(state.run_json)
    if not running:
        print("No stack runs here: `make run` starts one.", file=sys.stderr)
        return 1
    secrets = Aws(running["aws_endpoint"]).client("secretsmanager")
    key = secrets.get_secret_value(SecretId=running["secrets"]["ServerKey"])["SecretString"].strip()
    print(session_hash(ServerKey(key), session_id))
    return 0


if __name__ == "__main__":
    sys.exit(main())
