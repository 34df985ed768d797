"""Settings are read by concern, and production refuses settings of a developer's machine."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import pytest
from pydantic import ValidationError

from tests import deployed
from turnlog import config
from turnlog.config import (
    AnonymousLifeSettings,
    AnonymousLimitSettings,
    ClaudeSettings,
    ContentSettings,
    CorsSettings,
    DiagnosisSettings,
    LambdaSettings,
    ModelSettings,
    OwnerLimitSettings,
    SessionLifeSettings,
    SessionLimitSettings,
    StoreSettings,
    TokenSettings,
)
from turnlog.domain.limits import OwnerLimits, SessionLimits
from turnlog.domain.server_key import ServerKey
from turnlog.usecases.policy import AnonymousLimits

CLAUDE = {"ENVIRONMENT": "production", "CLAUDE_BASE_URL": "https://api.anthropic.com", "CLAUDE_KEY_SECRET": "claude"}


def test_production_allows_no_stand_in() -> None:
    assert ClaudeSettings.read(CLAUDE).allows_stand_in is False


def test_production_demands_https() -> None:
    with pytest.raises(ValidationError, match="https"):
        ClaudeSettings.read(CLAUDE | {"CLAUDE_BASE_URL": "http://127.0.0.1:8788"})


@pytest.mark.parametrize("origin", ["*", "null", "http://app.example", "https://app.example/", "https://A.example"])
def test_what_is_no_origin_of_its_own_opens_the_api_to_no_page(origin: str) -> None:
    with pytest.raises(ValidationError):
        CorsSettings.read({"CORS_ORIGIN": origin})
    assert CorsSettings.read({"CORS_ORIGIN": "https://app.example:8443"}).cors_origin == "https://app.example:8443"


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1:3000", "http://localhost"])
def test_a_page_without_tls_may_call_only_a_stack_on_its_own_machine(origin: str) -> None:
    local = {"ENVIRONMENT": "local", "CORS_ORIGIN": origin}
    assert CorsSettings.read(local).cors_origin == origin
    for elsewhere in ({"ENVIRONMENT": "production", "CORS_ORIGIN": origin}, {"CORS_ORIGIN": origin}):
        with pytest.raises(ValidationError, match="https"):
            CorsSettings.read(elsewhere)
    for other in ("http://localhost.example", "http://127.0.0.1.example", "http://app.example", "http://localhost/"):
        with pytest.raises(ValidationError):
            CorsSettings.read({"ENVIRONMENT": "local", "CORS_ORIGIN": other})


def test_a_local_stack_may_ask_a_stand_in_without_tls() -> None:
    settings = ClaudeSettings.read(CLAUDE | {"ENVIRONMENT": "local", "CLAUDE_BASE_URL": "http://127.0.0.1:8788"})
    assert settings.allows_stand_in is True


@pytest.mark.parametrize("name", ["TOKEN_ISSUER", "TOKEN_JWKS_URL"])
def test_production_believes_no_issuer_without_tls(name: str) -> None:
    tokens = {"ENVIRONMENT": "production", "TOKEN_ISSUER": "https://issuer.example/", "TOKEN_AUDIENCE": "turnlog"}
    tokens |= {"TOKEN_JWKS_URL": "https://issuer.example/jwks.json", "ROLES_CLAIM": "roles"}
    assert TokenSettings.read(tokens).token_issuer == "https://issuer.example/"
    plain = tokens | {name: "http://127.0.0.1:8789/"}
    with pytest.raises(ValidationError, match=f"{name} must begin with https"):
        TokenSettings.read(plain)
    assert TokenSettings.read(plain | {"ENVIRONMENT": "local"}).token_audience == ("turnlog",)
    with pytest.raises(ValidationError, match=f"{name} must be an address of the web"):
        TokenSettings.read(plain | {"ENVIRONMENT": "local", name: "user:ada http://127.0.0.1:8789/"})


@pytest.mark.parametrize(
    ("text", "audiences"),
    [("turnlog", ("turnlog",)), ("app,machine", ("app", "machine")), (" app , machine, ", ("app", "machine"))],
)
def test_an_audience_may_be_several_names_with_commas(text: str, audiences: tuple[str, ...]) -> None:
    tokens = {"ENVIRONMENT": "production", "TOKEN_ISSUER": "https://issuer.example/", "TOKEN_AUDIENCE": text}
    tokens |= {"TOKEN_JWKS_URL": "https://issuer.example/jwks.json", "ROLES_CLAIM": "roles"}
    assert TokenSettings.read(tokens).token_audience == audiences
    with pytest.raises(ValidationError):
        TokenSettings.read(tokens | {"TOKEN_AUDIENCE": " , "})


def test_content_is_encrypted_unless_that_is_switched_off() -> None:
    keys = {"KEYS_TABLE": "keys", "CONTENT_KEY": "arn"}
    assert ContentSettings.read(keys).encrypts is True
    for missing in ({}, {"KEYS_TABLE": "keys"}, {"CONTENT_KEY": "arn"}):
        with pytest.raises(ValidationError, match="KEYS_TABLE"):
            ContentSettings.read(missing)
    assert ContentSettings.read({"CONTENT_ENCRYPTION": "off"}).encrypts is False
    assert ContentSettings.read({"CONTENT_ENCRYPTION": "off"} | keys).keys_table == "keys"
    with pytest.raises(ValidationError):
        ContentSettings.read({"CONTENT_ENCRYPTION": "no"} | keys)


@pytest.mark.parametrize("store", ["filesystem", "write_behind"])
def test_a_store_on_files_needs_its_folder(store: str) -> None:
    with pytest.raises(ValidationError, match="SESSIONS_FOLDER"):
        StoreSettings.read({"SESSION_STORE": store})
    assert StoreSettings.read({"SESSION_STORE": store, "SESSIONS_FOLDER": "here"}).sessions_folder == "here"


def test_models_are_names_separated_by_commas() -> None:
    assert ModelSettings.read({"CLAUDE_MODELS": "a, b,"}).claude_models == ("a", "b")
    with pytest.raises(ValidationError):
        ModelSettings.read({"CLAUDE_MODELS": ""})


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(ValidationError, match="claude_key_secret"):
        ClaudeSettings.read({"ENVIRONMENT": "production", "CLAUDE_BASE_URL": "https://api.anthropic.com"})


def test_an_anonymous_session_lives_shorter_and_takes_fewer_turns_as_deployed() -> None:
    users, strangers = deployed.environment("SessionFunction"), deployed.environment("AnonymousFunction")
    life, shorter = SessionLifeSettings.read(users).life, AnonymousLifeSettings.read(strangers).life
    assert (shorter.idle.total_seconds(), shorter.lifetime.total_seconds()) == (600, 3600)
    assert (life.idle.total_seconds(), life.lifetime.total_seconds()) == (1800, 86_400)
    assert AnonymousLimitSettings.read(users).limits == AnonymousLimits(True, 20, 10, 20)
    assert AnonymousLimitSettings.read(strangers).limits == AnonymousLimits(True, 20, 10, 20)


def test_no_setting_has_a_default_of_its_own() -> None:
    """The template is the one place of default values."""
    kinds = [kind for kind in vars(config).values() if isinstance(kind, type) and issubclass(kind, config.Settings)]
    # Without the variables: no store, no keys, no page, no traceback, no adapter.
    theirs = {StoreSettings, ContentSettings, CorsSettings, DiagnosisSettings, LambdaSettings}
    assert len(kinds) > 12
    for kind in set(kinds) - theirs:
        assert [name for name, field in kind.model_fields.items() if not field.is_required()] == []


def test_limits_become_durations() -> None:
    life = SessionLifeSettings.read({"SESSION_IDLE_MINUTES": "5", "SESSION_LIFETIME_HOURS": "2"}).life
    assert (life.idle.total_seconds(), life.lifetime.total_seconds()) == (300, 7200)


@pytest.mark.parametrize("function", ["query", "session", "anonymous", "summarize_upload", "authorizer"])
def test_a_function_can_be_imported_without_any_environment(function: str) -> None:
    paths = f"import sys; sys.path[:0] = ['layers/turnlog/python', 'functions/{function}']; import app"
    done = subprocess.run([sys.executable, "-c", paths], env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("function", ["authorizer"])
def test_a_function_that_never_asks_claude_does_not_import_its_sdk(function: str) -> None:
    code = (
        f"import sys; sys.path[:0] = ['layers/turnlog/python', 'functions/{function}']; import app; "
        "print('anthropic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


class TestServerKey:
    def test_purposes_and_borders_between_parts_make_other_hashes(self) -> None:
        key = ServerKey("secret")
        made = {key.keyed_hash("a", b"xy"), key.keyed_hash("b", b"xy"), key.keyed_hash("a", b"x", b"y")}
        made |= {key.keyed_hash("a", b"", b"xy"), ServerKey("other").keyed_hash("a", b"xy")}
        assert len(made) == 5
        assert {len(each) for each in made} == {16}

    def test_the_same_input_gives_the_same_hash(self) -> None:
        assert ServerKey("secret").keyed_hash("a", b"x") == ServerKey("secret").keyed_hash("a", b"x")


def test_a_limit_of_nothing_is_none_and_any_other_is_read() -> None:
    """The template's defaults are 0, which means no limit."""
    names = ("SESSION_TURNS", "SESSION_TOKENS", "SESSION_BYTES", "SESSION_TURNS_A_MINUTE")
    assert SessionLimitSettings.read(dict.fromkeys(names, "0")).limits == SessionLimits()
    assert SessionLimitSettings.read(dict.fromkeys(names, "7")).limits == SessionLimits(7, 7, 7, 7)
    owner = {"OWNER_TURNS_A_MINUTE": "0", "OWNER_BUDGET_A_DAY": "0", "OWNER_BUDGET_UNIT": "usd"}
    assert OwnerLimitSettings.read(owner).limits == OwnerLimits(None, None, "usd")
    given = owner | {"OWNER_TURNS_A_MINUTE": "3", "OWNER_BUDGET_A_DAY": "2.5"}
    assert OwnerLimitSettings.read(given).limits == OwnerLimits(3, Decimal("2.5"), "usd")
    for wrong in ("-1", "many", "1.5"):
        with pytest.raises(ValidationError):
            SessionLimitSettings.read(dict.fromkeys(names, "0") | {"SESSION_TURNS": wrong})
