"""cancel_turn(): the owner stops a running turn; what there is of it by then stays."""

from __future__ import annotations

from turnlog.errors import TurnNotRunning
from turnlog.ports.session_store import TurnStore
from turnlog.usecases.caller import Caller


def cancel_turn(caller: Caller, session_id: str, number: int, *, store: TurnStore, now_ms: int) -> None:
    """Asks the session's running turn to stop at its next write, if it is the turn `number`.

    A call of the model or of a tool that runs by then comes to its end. Its reply is kept, since it is paid: the turn
    is stored with the stop reason `stopped`, or with the model's own if the reply was the last one anyway.

    Raises Unauthorized, TurnNotRunning, or what SessionStore.read raises.
    """
    view = store.read(caller.require_verified(), session_id, now_ms, newest=1, with_content=False)
    running = view.running
    if running is None or running.number != number or not view.running_at(now_ms):
        raise TurnNotRunning
    if not store.ask_to_stop(view.session, running):
        raise TurnNotRunning
