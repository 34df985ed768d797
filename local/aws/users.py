"""A user of a deployment's user pool, and a token of that user, for the command line.

`python -m local.aws.users create` makes the user TURNLOG_USER with the roles ROLES and prints a password, once.
`python -m local.aws.users token` prints a token of that user, whose password is in PASSWORD or is asked for.
STACK names the deployment, `turnlog` if nothing does.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Sequence

from botocore.exceptions import ClientError

from local.aws.account import DEFAULT_STACK, Account, NotReady
from local.aws.user_pool import UserPool, UserPoolError, pool_of

LONGEST_NAME = 128
"""Characters of a user's name (Cognito's limit)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 1 when the pool or AWS refused, 2 when something was not said."""
    parser = argparse.ArgumentParser(prog="python -m local.aws.users")
    parser.add_argument("action", choices=["create", "token"])
    action = parser.parse_args(arguments).action
    user = os.environ.get("TURNLOG_USER", "")
    if not user.strip() or len(user) > LONGEST_NAME:
        print(f"Say who: USER=ada, 1 to {LONGEST_NAME} characters.", file=sys.stderr)
        return 2
    try:
        pool = _pool(os.environ.get("STACK") or DEFAULT_STACK)
        if action == "create":
            password = pool.create(user, os.environ.get("ROLES", "").split())
            print(f"The user {user} has this password, which is not shown again:", file=sys.stderr)
            print(password)
        else:
            password = os.environ.get("PASSWORD", "")
            if not password and not sys.stdin.isatty():
                print("Without a terminal the password comes from PASSWORD.", file=sys.stderr)
                return 2
            print(pool.token(user, password or getpass.getpass(f"password of {user}: ")))
    except NotReady as error:
        print(f"{error}\n    {error.mend}", file=sys.stderr)
        return 1
    except (UserPoolError, ClientError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _pool(stack: str) -> UserPool:
    account = Account()
    found = account.stack(stack)
    if found is None:
        raise UserPoolError(f"There is no stack {stack} in {account.region}; STACK names another.")
    pool = pool_of(found.outputs, lambda: account.client("cognito-idp"))
    if pool is None:
        raise UserPoolError(f"The stack {stack} has no user pool: its tokens come from its own issuer.")
    return pool


if __name__ == "__main__":
    sys.exit(main())
