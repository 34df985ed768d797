"""The table of models: names in every form, days of retirement, and successors that can be taken."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import get_args

import pytest
from anthropic._data import DEPRECATED_MODELS
from anthropic.types import Model as SdkModel

from local.claude_stand_in import models as stand_in
from turnlog.domain.models import (
    MODELS,
    base_name,
    is_regional,
    is_retired,
    model_of,
    require_not_retired,
    successor_of,
)
from turnlog.errors import ModelRetired

LAST_DAY = date(2026, 11, 29)


def day(text: str) -> date:
    """The day that the SDK writes as `November 30th, 2026`."""
    return datetime.strptime(re.sub(r"(?<=\d)(st|nd|rd|th),", ",", text), "%B %d, %Y").replace(tzinfo=UTC).date()


@pytest.mark.parametrize(
    "name",
    [
        "claude-haiku-4-5",
        "claude-haiku-4-5-20251001",
        "anthropic.claude-haiku-4-5-20251001-v1:0",
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        "us-gov.anthropic.claude-haiku-4-5-20251001-v1",
        "global.anthropic.claude-haiku-4-5",
    ],
)
def test_a_model_is_known_by_each_of_its_names(name: str) -> None:
    model = model_of(name)
    assert model
    assert model.id == "claude-haiku-4-5"


@pytest.mark.parametrize(
    "name", ["", "gpt-6", "us.claude-haiku-4-5", "claude-haiku-4-5/x", "xclaude-haiku-4-5", "x" * 300]
)
def test_a_name_of_another_form_stays_as_it_is_and_unknown(name: str) -> None:
    assert base_name(name) == name
    assert model_of(name) is None
    assert successor_of(name) is None
    assert not is_retired(name, date.max)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("claude-opus-5-5", False),
        ("global.anthropic.claude-opus-5-5", False),
        ("us.anthropic.claude-opus-5-5", True),
        ("anthropic.claude-opus-5-5", True),
    ],
)
def test_bedrock_computes_in_one_area_unless_the_name_says_global(name: str, *, expected: bool) -> None:
    assert is_regional(name) is expected


def test_every_model_that_the_sdk_names_is_known() -> None:
    named = get_args(get_args(SdkModel)[0])
    assert [name for name in named if model_of(name) is None] == []


def test_the_sdk_names_the_same_days_of_retirement() -> None:
    for name, text in DEPRECATED_MODELS.items():
        assert is_retired(name, day(text))
        assert not is_retired(name, day(text) - timedelta(days=1))


def test_a_model_retires_on_the_day_that_the_table_says() -> None:
    dated = "claude-sonnet-4-5-20250929"
    assert not is_retired(dated, LAST_DAY)
    require_not_retired(dated, LAST_DAY)
    assert is_retired(dated, date(2026, 11, 30))
    with pytest.raises(ModelRetired) as refused:
        require_not_retired(dated, date(2026, 11, 30))
    assert refused.value.successor == "claude-sonnet-5-5"


def test_bedrock_s_days_are_not_those_of_the_provider() -> None:
    for name in ("anthropic.claude-opus-4-1-20250805-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"):
        model = model_of(name)
        assert model
        assert (model.retires, model.web_search, is_retired(name, date.max)) == (None, None, False)


def test_a_model_is_active_then_deprecated_then_retired() -> None:
    model = MODELS["claude-opus-4-5"]
    days = date(2026, 11, 22), date(2026, 11, 23), date(2027, 1, 21), date(2027, 1, 22)
    assert [model.lifecycle(on) for on in days] == ["active", "deprecated", "deprecated", "retired"]


def test_a_successor_is_known_of_the_same_line_and_has_none_itself() -> None:
    for model in MODELS.values():
        if model.successor:
            successor = MODELS[model.successor]
            assert (successor.line, successor.successor, successor.retires) == (model.line, None, None)
        else:
            assert model.retires is None


def test_the_table_is_sorted_by_the_day_of_release() -> None:
    released = [model.released for model in MODELS.values() if model.released]
    assert released == sorted(released, reverse=True)
    assert {model.id for model in MODELS.values()} == set(MODELS)


@pytest.mark.parametrize("name", sorted(stand_in.MODELS))
def test_system_messages_are_sent_to_models_that_take_them(name: str) -> None:
    known = model_of(name)
    assert known and known.system_messages == stand_in.MODELS[name].takes_system_messages
