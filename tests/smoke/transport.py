"""The check that callers speak TLS of today. An update of the API's body could reset it in silence."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from tests.smoke.account import Account, answers
from tests.smoke.outcome import LeftOut, Unexpected

_POLICY = "SecurityPolicy_TLS13_"
_MODE = "STRICT"


def transport(account: Account, *, is_local: bool) -> str:
    """The API takes nothing older than TLS 1.2, and no request past its own host name."""
    if is_local:
        raise LeftOut("there is no TLS on the loopback interface")
    api_id = account.outputs.get("ApiId", "")
    client = account.client("apigateway")
    try:
        with answers("apigateway:GET of the API"):
            found: dict[str, Any] = client.get_rest_api(restApiId=api_id)
    except ClientError as error:
        raise Unexpected(f"the API {api_id} cannot be read: {error}") from error
    policy, mode = found.get("securityPolicy", "none"), found.get("endpointAccessMode", "none")
    if not policy.startswith(_POLICY) or mode != _MODE:
        raise Unexpected(f"security policy {policy}, access mode {mode}: deploy again, and compare with template.yaml")
    return f"{policy}, {mode}"
