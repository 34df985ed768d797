"""/admin: administrators see which sessions somebody has, end them, and for a reason see what was said."""

from turnlog.entrypoints.http import Api, admin

handler = Api(
    {
        ("GET", "/admin/users/{owner}/sessions"): admin.list_sessions,
        ("POST", "/admin/users/{owner}/terminate"): admin.terminate_all,
        ("POST", "/admin/sessions/{ref}/terminate"): admin.terminate,
        ("POST", "/admin/sessions/{ref}/content"): admin.show_content,
    }
)
