"""No two callers have one owner: signed-in users, people of back ends, and holders of secrets are apart for ever."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from turnlog.domain.owners import MAX_USER, anonymous_owner_of, delegated_owner, is_user, owner_hash

ISSUERS = st.sampled_from(["https://issuer.example/", "https://issuer.example", "http://127.0.0.1:8789/"])
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
# A few characters make it likely that two texts could be taken for one another; a subject may hold any.
SUBJECTS = st.text(max_size=30) | st.lists(
    st.sampled_from(["a", "|", " ", ":", "user:", "user:a ", "https://issuer.example/|", "https://issuer.example/|a"])
).map("".join)
USERS = st.text(VISIBLE, min_size=1, max_size=MAX_USER) | st.lists(
    st.sampled_from(["a", "|", ":", "user:", "https://issuer.example/|"]), min_size=1, max_size=4
).map("".join)
SIGNED_IN = st.builds("{}|{}".format, ISSUERS, SUBJECTS)
often = settings(max_examples=500, deadline=None, derandomize=True, database=None)


@pytest.mark.asvs("8.4.1")
@often
@given(one=st.tuples(SIGNED_IN, USERS), other=st.tuples(SIGNED_IN, USERS))
@example(one=("https://i/|a", "b"), other=("https://i/|b", "a"))
@example(one=("https://i/|a", "user:b"), other=("https://i/|user:a", "b"))
@example(one=("https://i/|a b", "c"), other=("https://i/|b", "c"))
def test_two_people_have_one_owner_only_if_they_are_the_same(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (delegated_owner(*one) == delegated_owner(*other)) == (one == other)


@pytest.mark.asvs("8.4.1")
@often
@given(delegate=SIGNED_IN, user=USERS, signed_in=SIGNED_IN, secret=st.text(max_size=50))
def test_no_subject_and_no_secret_imitates_a_person(delegate: str, user: str, signed_in: str, secret: str) -> None:
    assert delegated_owner(delegate, user) not in (delegate, signed_in, anonymous_owner_of(secret))


@often
@given(delegate=SIGNED_IN, user=USERS)
def test_back_end_and_user_can_be_told_from_the_owner(delegate: str, user: str) -> None:
    """That is why no two pairs share one."""
    found = re.fullmatch(r"user:([^ ]+) (.*)", delegated_owner(delegate, user), flags=re.DOTALL)
    assert found
    assert found.groups() == (user, delegate)


@pytest.mark.parametrize("user", ["", " ", "a b", "a ", "\t", "a\n", "\x7f", "é", "a" * (MAX_USER + 1)])
def test_what_is_no_user_has_no_owner(user: str) -> None:
    assert not is_user(user)
    with pytest.raises(ValueError, match="no user"):
        delegated_owner("https://issuer.example/|a", user)


def test_the_name_under_which_a_person_s_things_are_filed_does_not_change() -> None:
    """It is in keys of DynamoDB and in prefixes of S3."""
    owner = delegated_owner("https://issuer.example/|back-end", "ada")
    assert owner == "user:ada https://issuer.example/|back-end"
    assert owner_hash(owner) == "vKFpFJA9XLTwtJJpdrPS6D0PuRdTtMOIiNs55UJaatY"
