"""The plan of a deploy: what was asked for on the command line, before anything is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from local import parameters
from local.aws.account import DEFAULT_STACK, DeployedStack
from local.template import declared_parameters


@dataclass(frozen=True, slots=True)
class Plan:
    """The stack's name, the parameters that are given, and the key for Claude.

    `issuer` is the address of an OpenID Connect issuer; or the word for the stack's own user pool; or empty: then a
    stack keeps what it has, and a new one makes a pool. `asks` is False when nobody is there to confirm the changes.
    """

    stack: str
    issuer: str
    jwks_url: str
    parameters: Mapping[str, str]
    claude_key: str
    asks: bool = True

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Plan:
        """Raises ValueError when PARAMETERS has not the form `Name=value …`."""
        return cls(
            stack=environ.get("STACK") or DEFAULT_STACK,
            issuer=environ.get("ISSUER", ""),
            jwks_url=environ.get("JWKS_URL", ""),
            parameters=parameters.read(environ.get("PARAMETERS", "")),
            claude_key=environ.get("ANTHROPIC_API_KEY", "").strip(),
            asks=not environ.get("YES"),
        )

    def value(self, name: str, stack: DeployedStack | None) -> str:
        """The value that the parameter will have: the one given, else the stack's own, else the template's default."""
        default = str(declared_parameters()[name].get("Default", ""))
        return self.parameters.get(name, (stack.parameters if stack else {}).get(name, default))
