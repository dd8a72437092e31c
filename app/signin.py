"""Optional sign-in through OpenID Connect: without a section [auth] in .streamlit/secrets.toml the page is open.

[auth]                      # as Streamlit's st.login describes it; needs `pip install ml-workbench[signin]`
redirect_uri = "https://…/oauth2callback"
cookie_secret = "…"
client_id = "…"
client_secret = "…"
server_metadata_url = "https://…/.well-known/openid-configuration"

[roles]                     # by e-mail address, see page.approval
approvers = ["head.of.marketing@example.org"]
viewers = ["*@example.org"]
"""

from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from ml_workbench.page.approval import Role, role_of
from ml_workbench.plan.errors import SettingsError


class Visitor(NamedTuple):
    "Somebody who signed in."

    email: str
    role: Role


def configured() -> bool:
    "Whether people must sign in; a secrets file that cannot be read counts as one that asks for it."
    if st.secrets.load_if_toml_exists():
        return "auth" in st.secrets
    return any(Path(path).is_file() for path in st.get_option("secrets.files"))


def _turned_away(title: str, *told: str) -> None:
    "A calm word instead of the page."
    said = "".join(f"<p>{escape(line)}</p>" for line in told)
    st.html(f'<section class="mlw-message" role="alert"><h2>{escape(title)}</h2>{said}</section>')


def _sign_in() -> None:
    "Ask for a sign-in, and end the page."
    _turned_away(
        "Sign in to see what it earned", "This page shows figures of the business to those who may see them."
    )
    with st.container(horizontal=True, horizontal_alignment="center"):
        st.button("Sign in", type="primary", on_click=st.login, key="sign-in")
    st.stop()


def visitor() -> Visitor | None:
    "Who signed in; None where nobody has to."
    if not configured():
        return None
    email = str(st.user.get("email") or "")
    try:
        roles = dict(st.secrets.get("roles", {}))
        return Visitor(email, role_of(email, roles, verified=st.user.get("email_verified") is not False))
    except SettingsError as error:
        _turned_away("The roles need a correction", f".streamlit/secrets.toml: {error}")
        st.stop()


def welcome() -> None:
    "Let the right people in, and say who is in; nothing where no sign-in is configured."
    if not configured():
        return
    if not st.secrets.load_if_toml_exists():
        _turned_away(
            "The sign-in needs a correction", ".streamlit/secrets.toml cannot be read, so nobody is let in."
        )
        st.stop()
    if find_spec("authlib") is None:
        _turned_away("The sign-in lacks a library", "Install it with: pip install ml-workbench[signin]")
        st.stop()
    if not st.user.get("is_logged_in"):
        _sign_in()
    known = visitor()
    with st.container(
        horizontal=True, horizontal_alignment="right", vertical_alignment="center", key="visitor"
    ):
        shown = f"{escape(known.email or 'unknown address')}, {known.role}"
        st.html(f"<span class='mlw-small'>{shown}</span>", width="content")
        st.button("Sign out", type="tertiary", on_click=st.logout, key="sign-out")
    if known.role == "nobody":
        _turned_away(
            "Not for this address",
            "You are signed in, but your address is not among those who may see this page.",
        )
        st.stop()
