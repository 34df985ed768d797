"""The people of a deployment that has a Cognito user pool of its own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

OWN_POOL = "cognito"
"""The word for an issuer that means the stack's own user pool."""


class UserPoolError(Exception):
    """The pool has refused. The message says why, and how to go on."""


class UserPool:
    """One user pool, by a client of `cognito-idp` with an administrator's rights."""

    def __init__(self, client: Any, pool_id: str, client_id: str) -> None:
        self._client = client
        self._pool_id = pool_id
        self._client_id = client_id

    def create(self, user: str, roles: Sequence[str] = ()) -> str:
        """Makes a user with these roles and returns the password. Raises UserPoolError, and then makes none."""
        self._require(roles)
        try:
            # No invitation: the pool knows no address to which it could go.
            self._client.admin_create_user(UserPoolId=self._pool_id, Username=user, MessageAction="SUPPRESS")
        except self._client.exceptions.UsernameExistsException as error:
            raise UserPoolError(f"There is a user {user} already.") from error
        self.set_roles(user, roles)
        return self.renew_password(user)

    def renew_password(self, user: str) -> str:
        """Gives the user a password that nobody has seen, and returns it."""
        password = f"{secrets.token_urlsafe(18)}-aA1"  # with each kind of character that a policy may ask for
        self._client.admin_set_user_password(UserPoolId=self._pool_id, Username=user, Password=password, Permanent=True)
        return password

    def set_roles(self, user: str, roles: Sequence[str]) -> None:
        """Puts the user into the groups of these roles and out of all others. Raises UserPoolError for another role."""
        self._require(roles)
        named = {"UserPoolId": self._pool_id, "Username": user}
        found = self._client.admin_list_groups_for_user(**named)["Groups"]
        had = {each["GroupName"] for each in found}
        for role in set(roles) - had:
            self._client.admin_add_user_to_group(**named, GroupName=role)
        for role in had - set(roles):
            self._client.admin_remove_user_from_group(**named, GroupName=role)

    def _require(self, roles: Sequence[str]) -> None:
        for role in roles:
            try:
                self._client.get_group(UserPoolId=self._pool_id, GroupName=role)
            except self._client.exceptions.ResourceNotFoundException as error:
                raise UserPoolError(f"There is no role {role}.") from error

    def has(self, user: str) -> bool:
        """True if there is such a user."""
        try:
            self._client.admin_get_user(UserPoolId=self._pool_id, Username=user)
        except self._client.exceptions.UserNotFoundException:
            return False
        return True

    def token(self, user: str, password: str) -> str:
        """Returns an access token of the user, good for an hour. Raises UserPoolError."""
        try:
            answer = self._client.admin_initiate_auth(
                UserPoolId=self._pool_id,
                ClientId=self._client_id,
                AuthFlow="ADMIN_USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": user, "PASSWORD": password},
            )
        except self._client.exceptions.UserNotFoundException as error:
            raise UserPoolError(f"There is no user {user}: `make user-aws USER={user}` makes one.") from error
        except self._client.exceptions.NotAuthorizedException as error:
            raise UserPoolError(f"This is not the password of {user}, or there is no such user.") from error
        if "AuthenticationResult" not in answer:
            raise UserPoolError(f"The pool asks {user} for {answer.get('ChallengeName')} first.")
        return str(answer["AuthenticationResult"]["AccessToken"])

    def token_at_once(self, user: str, roles: Sequence[str]) -> str:
        """Returns a token of the user with these roles, who is made if there is none, and gets a new password.

        That is for a pool on one machine: people would lose the passwords that they have.
        """
        if self.has(user):
            self.set_roles(user, roles)
            return self.token(user, self.renew_password(user))
        return self.token(user, self.create(user, roles))

    @contextmanager
    def passing_user(self) -> Iterator[str]:
        """Yields a token of a user that exists inside the block alone."""
        user = f"turnlog-{secrets.token_hex(6)}"
        password = self.create(user)
        try:
            yield self.token(user, password)
        finally:
            self._client.admin_delete_user(UserPoolId=self._pool_id, Username=user)


def pool_of(outputs: Mapping[str, str], client: Callable[[], Any]) -> UserPool | None:
    """The user pool that the outputs of a stack name; None, and no `client` made, for a stack without one."""
    if "UserPoolId" not in outputs:
        return None
    return UserPool(client(), outputs["UserPoolId"], outputs["UserPoolClientId"])
