"""The port to the audit trail."""

from __future__ import annotations

from typing import Protocol


class AuditTrail(Protocol):
    """Keeps who did what to which session, and who was refused: written down before it takes effect.

    The parameters name all fields that an event can have, so that nothing else gets in: never content, a secret, a raw
    session id or an address.
    """

    def note(
        self,
        action: str,
        *,
        request_id: str,
        route: str = "",
        owner: str = "",
        delegate: str = "",
        subject: str = "",
        session: str = "",
        to: str = "",
        source: str = "",
        reason: str = "",
    ) -> None:
        """Returns when the event is kept, once or twice. Raises AuditUnavailable: then the act must not happen.

        `owner` is who acts, `delegate` the back end that acts for `owner` as one of its people, and `subject` whose
        things are acted on, where that may be another; all are owner_hash.
        `session` is a keyed hash of the session's id, `to` of the id that it gets or that comes of it, `source` of an
        address. `reason` is an error's code, a limit's name or the reason that an administrator gives. Empty fields are
        left out.
        """
