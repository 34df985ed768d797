"""/me: everything of a signed-in user, to take along or to erase."""

from turnlog.entrypoints.http import Api, account

handler = Api({("GET", "/me/export"): account.export, ("DELETE", "/me"): account.erase})
