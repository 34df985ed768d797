"""The simulated DynamoDB is as strict as the real one, and no better in its snapshots."""

from __future__ import annotations

import random
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from moto.dynamodb.parsing.reserved_keywords import ReservedKeywords

from tests.promises.simulator.attribute_values import InvalidValue, Item, checked, size
from tests.promises.simulator.dynamodb import SimulatedDynamoDB
from tests.promises.simulator.expressions import InvalidExpression, Names, condition
from tests.promises.simulator.reserved_words import RESERVED
from tests.promises.simulator.tables import STALE_MS

TABLE = "table"


def item(sk: str = "a", **attributes: str | int) -> Item:
    given = {name: {"N": str(value)} if isinstance(value, int) else {"S": value} for name, value in attributes.items()}
    return {"pk": {"S": "p"}, "sk": {"S": sk}, **given}


def key(sk: str = "a") -> Item:
    return item(sk)


@pytest.fixture
def client() -> SimulatedDynamoDB:
    return SimulatedDynamoDB()


def put(client: SimulatedDynamoDB, *items: Item) -> None:
    for each in items:
        client.put_item(TableName=TABLE, Item=each)


def held(client: SimulatedDynamoDB, sk: str = "a") -> Item | None:
    found: Item | None = client.get_item(TableName=TABLE, Key=key(sk), ConsistentRead=True).get("Item")
    return found


def sort_keys(page: dict[str, Any]) -> list[str]:
    return [each["sk"]["S"] for each in page["Items"]]


def query(client: SimulatedDynamoDB, **given: Any) -> dict[str, Any]:
    values = {":p": {"S": "p"}, **given.pop("values", {})}
    expression = "pk = :p" + given.pop("and_", "")
    return client.query(
        TableName=TABLE, KeyConditionExpression=expression, ExpressionAttributeValues=values, **{**_STRONG, **given}
    )


_STRONG = {"ConsistentRead": True}


class TestConditions:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("attribute_exists(a)", True),
            ("attribute_exists(zz)", False),
            ("attribute_not_exists(zz)", True),
            ("a = :one", True),
            ("a = :text", False),
            ("a <> :text", True),
            ("zz = :one", False),
            ("zz <> :one", True),
            ("zz < :one OR zz >= :one", False),
            ("a < :ten AND a <= :one AND :ten > a AND a >= :one", True),
            ("t < :text", False),  # a number and a text have no order
            ("b BETWEEN :one AND :ten AND attribute_exists(a)", True),
            ("b BETWEEN :ten AND :one", False),
            ("begins_with(t, :start)", True),
            ("begins_with(t, :text)", False),
            ("begins_with(a, :start)", False),
            ("NOT a = :one OR b = :nine", True),
            ("NOT (a = :one OR b = :nine)", False),
            ("a = :ten AND a = :one OR a = :one", True),  # AND binds closer than OR
            ("a = :one OR a = :one AND a = :ten", True),
            ("(a = :one OR a = :one) AND a = :ten", False),
            ("m.deep = :one", True),
            ("m.#n = :one", True),
            ("m.several[1] = :nine AND attribute_not_exists(m.several[2])", True),
            ("attribute_not_exists(m.deep.deeper)", True),
        ],
    )
    def test_a_condition_means_what_dynamodb_says(self, text: str, expected: bool) -> None:
        given = checked(
            {
                "a": {"N": "1.0"},
                "b": {"N": "9"},
                "t": {"S": "starts here"},
                "m": {"M": {"deep": {"N": "1"}, "several": {"L": [{"N": "8"}, {"N": "9"}]}}},
            }
        )
        values: Item = {
            ":one": {"N": "1"},
            ":nine": {"N": "9"},
            ":ten": {"N": "10"},
            ":text": {"S": "1"},
            ":start": {"S": "starts"},
        }
        assert condition(text)[0](given, Names({"#n": "deep"}, values)) is expected

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "a",
            "a =",
            "a = :one AND",
            "a == :one",
            "(a = :one",
            "a = :one)",
            "ttl = :one",
            "token = :one",
            "a IN (:one)",
            "contains(a, :one)",
            "a = 1",
            "a = :one; drop",
            "a BETWEEN :one OR :one",
            "a = :one " + " " * 5000 + "OR a = :one",
        ],
    )
    def test_what_dynamodb_or_the_simulator_does_not_know_is_an_error(self, text: str) -> None:
        with pytest.raises(InvalidExpression):
            condition(text)

    def test_the_reserved_words_are_those_that_moto_knows(self) -> None:
        assert set(ReservedKeywords.get_reserved_keywords()) == RESERVED


class TestValues:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("1.50", "1.5"),
            ("1E+3", "1000"),
            ("-0", "0"),
            ("0.0000001", "0.0000001"),
            ("007", "7"),
            ("9" * 38, "9" * 38),
        ],
    )
    def test_numbers_come_back_without_exponent_or_zeros(self, given: str, kept: str) -> None:
        assert checked({"n": {"N": given}}) == {"n": {"N": kept}}

    @pytest.mark.parametrize(
        "value",
        [
            {"N": "1" * 39},
            {"N": "one"},
            {"N": 1},
            {"N": "NaN"},
            {"N": "1E+126"},
            {"S": 1},
            {"B": "text"},
            {"S": "a", "N": "1"},
            {},
            {"SS": ["a"]},
            {"NULL": False},
        ],
    )
    def test_a_malformed_value_is_refused(self, value: dict[str, Any]) -> None:
        with pytest.raises(InvalidValue):
            checked({"n": value})

    def test_names_count_in_the_size(self) -> None:
        assert size({"pk": {"S": "é"}, "b": {"B": b"12345"}, "n": {"N": "-12.5"}, "m": {"M": {"k": {"S": "v"}}}}) == (
            (2 + 2) + (1 + 5) + (1 + 1 + 2 + 1) + (1 + 3 + 1 + 2)
        )

    def test_stored_items_share_nothing_with_given_or_returned_ones(self, client: SimulatedDynamoDB) -> None:
        given: Item = {**item(), "m": {"M": {"x": {"S": "kept"}}}}
        put(client, given)
        given["m"]["M"]["x"]["S"] = "changed"
        (held(client) or {})["m"]["M"]["x"]["S"] = "changed"
        assert (held(client) or {})["m"]["M"]["x"] == {"S": "kept"}


class TestWritingOneItem:
    def test_a_failed_condition_shows_the_item_when_asked_to(self, client: SimulatedDynamoDB) -> None:
        put(client, item(x=1))
        refused = {"TableName": TABLE, "Item": item(x=2), "ConditionExpression": "attribute_not_exists(pk)"}
        with pytest.raises(ClientError) as error:
            client.put_item(**refused, ReturnValuesOnConditionCheckFailure="ALL_OLD")
        assert error.value.response["Error"]["Code"] == "ConditionalCheckFailedException"
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert error.value.response.get("Item") == item(x=1)
        with pytest.raises(ClientError) as error:
            client.put_item(**refused)
        assert "Item" not in error.value.response
        assert held(client) == item(x=1)

    def test_a_failed_condition_on_nothing_shows_nothing(self, client: SimulatedDynamoDB) -> None:
        with pytest.raises(ClientError) as error:
            client.delete_item(
                TableName=TABLE,
                Key=key(),
                ConditionExpression="attribute_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        assert "Item" not in error.value.response

    def test_an_update_makes_the_item_when_there_is_none(self, client: SimulatedDynamoDB) -> None:
        client.update_item(
            TableName=TABLE,
            Key=key(),
            UpdateExpression="ADD n :one SET t = :one, u = if_not_exists(u, :one) + :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
        assert held(client) == item(n=1, t=1, u=2)

    def test_an_update_reads_the_item_as_it_was(self, client: SimulatedDynamoDB) -> None:
        put(client, item(a=1, b=5, c=9))
        answer = client.update_item(
            TableName=TABLE,
            Key=key(),
            UpdateExpression="SET a = b, b = a - :two REMOVE c",
            ExpressionAttributeValues={":two": {"N": "2"}},
            ReturnValues="ALL_NEW",
        )
        assert answer["Attributes"] == item(a=5, b=-1) == held(client)

    @pytest.mark.parametrize(
        "expression",
        [
            "SET zz = missing",
            "SET t = t + :one",
            "ADD t :one",
            "SET pk = :one",
            "SET a = :one, a = :one",
            "SET a = :one SET b = :one",
            "SET a.b = :one",
            "a = :one",
            "SET #a = :one",
            "SET a = :one, b = :two",
            "SET a = a",
        ],
    )
    def test_an_update_that_makes_no_sense_is_refused_and_nothing_changes(
        self, client: SimulatedDynamoDB, expression: str
    ) -> None:
        put(client, item(a=1, t="text"))
        with pytest.raises(ClientError, match="ValidationException"):
            client.update_item(
                TableName=TABLE,
                Key=key(),
                UpdateExpression=expression,
                ExpressionAttributeValues={":one": {"N": "1"}},
            )
        assert held(client) == item(a=1, t="text")

    @pytest.mark.parametrize(
        "given",
        [
            {"Item": item(), "Condition": "a"},
            {"Key": key()},
            {},
        ],
    )
    def test_an_argument_that_boto3_or_the_simulator_does_not_know_is_an_error(
        self, client: SimulatedDynamoDB, given: dict[str, Any]
    ) -> None:
        with pytest.raises(ParamValidationError):
            client.put_item(TableName=TABLE, **given)

    @pytest.mark.parametrize(
        "given",
        [
            {"Item": {"pk": {"S": "p"}}},
            {"Item": {"pk": {"S": "p"}, "sk": {"S": ""}}},
            {"Item": {"pk": {"S": "p"}, "sk": {"N": "1"}}},
            {"Item": {**item(), "big": {"B": b"x" * 409_600}}},
            {"Item": item(), "ConditionExpression": "a = :undefined"},
            {"Item": item(), "ExpressionAttributeValues": {":unused": {"S": "x"}}},
            {"Item": item(), "ReturnValues": "ALL_NEW"},
        ],
    )
    def test_a_request_that_makes_no_sense_is_refused(self, client: SimulatedDynamoDB, given: dict[str, Any]) -> None:
        with pytest.raises(ClientError, match="ValidationException"):
            client.put_item(TableName=TABLE, **given)

    def test_tables_do_not_share_items(self, client: SimulatedDynamoDB) -> None:
        put(client, item(x=1))
        assert client.get_item(TableName="other", Key=key()).get("Item") is None


class TestQuery:
    @pytest.fixture
    def client(self) -> SimulatedDynamoDB:
        client = SimulatedDynamoDB()
        put(client, *(item(sk, x=at) for at, sk in enumerate("bdace")))
        client.put_item(TableName=TABLE, Item={"pk": {"S": "q"}, "sk": {"S": "other"}})
        return client

    def test_items_come_in_order_of_their_sort_key_in_either_direction(self, client: SimulatedDynamoDB) -> None:
        assert sort_keys(query(client)) == list("abcde")
        assert sort_keys(query(client, ScanIndexForward=False)) == list("edcba")

    @pytest.mark.parametrize(
        ("and_", "values", "expected"),
        [
            (" AND sk BETWEEN :f AND :l", {":f": {"S": "b"}, ":l": {"S": "d"}}, "bcd"),
            (" AND sk > :f", {":f": {"S": "c"}}, "de"),
            (" AND begins_with(sk, :f)", {":f": {"S": "c"}}, "c"),
            (" AND sk = :f", {":f": {"S": "zz"}}, ""),
        ],
    )
    def test_a_range_of_sort_keys(
        self, client: SimulatedDynamoDB, and_: str, values: dict[str, Any], expected: str
    ) -> None:
        assert sort_keys(query(client, and_=and_, values=values)) == list(expected)

    def test_a_page_ends_at_its_limit_and_says_where_also_when_nothing_follows(self, client: SimulatedDynamoDB) -> None:
        first = query(client, Limit=3)
        assert first["LastEvaluatedKey"] == key("c")
        rest = query(client, Limit=2, ExclusiveStartKey=first["LastEvaluatedKey"])
        assert (sort_keys(rest), rest["LastEvaluatedKey"]) == (["d", "e"], key("e"))
        last = query(client, Limit=2, ExclusiveStartKey=rest["LastEvaluatedKey"])
        assert (last["Items"], "LastEvaluatedKey" in last) == ([], False)

    def test_a_page_goes_on_after_an_item_that_is_no_longer_there(self, client: SimulatedDynamoDB) -> None:
        client.delete_item(TableName=TABLE, Key=key("c"))
        assert sort_keys(query(client, ExclusiveStartKey=key("c"))) == ["d", "e"]
        assert sort_keys(query(client, ExclusiveStartKey=key("c"), ScanIndexForward=False)) == ["b", "a"]

    def test_the_limit_counts_what_was_looked_at_before_the_filter(self, client: SimulatedDynamoDB) -> None:
        page = query(client, Limit=3, FilterExpression="x > :min", values={":min": {"N": "2"}})
        assert (sort_keys(page), page["Count"], page["ScannedCount"]) == (["c"], 1, 3)

    def test_a_page_holds_a_megabyte(self, client: SimulatedDynamoDB) -> None:
        put(client, *({**item(f"f{at}"), "big": {"B": b"x" * 300_000}} for at in range(5)))
        page = query(client, values={":f": {"S": "f"}}, and_=" AND sk > :f")
        assert sort_keys(page) == ["f0", "f1", "f2", "f3"]
        assert page["LastEvaluatedKey"] == key("f3")

    def test_a_projection_leaves_out_the_rest(self, client: SimulatedDynamoDB) -> None:
        page = query(client, Limit=1, ProjectionExpression="sk, #x", ExpressionAttributeNames={"#x": "x"})
        assert page["Items"] == [{"sk": {"S": "a"}, "x": {"N": "2"}}]

    @pytest.mark.parametrize("expression", ["sk = :p", "pk > :p", "pk = :p AND x = :p", "pk = :p OR sk = :p"])
    def test_a_key_condition_names_the_partition_and_then_the_sort_key(
        self, client: SimulatedDynamoDB, expression: str
    ) -> None:
        with pytest.raises(ClientError, match="ValidationException"):
            client.query(
                TableName=TABLE, KeyConditionExpression=expression, ExpressionAttributeValues={":p": {"S": "p"}}
            )


class TestReadsWithoutASnapshot:
    def test_an_eventually_consistent_read_may_see_what_was_there_a_moment_ago(self) -> None:
        now_ms = 0
        client = SimulatedDynamoDB(lambda: now_ms, random.Random(1))
        put(client, item(x=1), item(x=2))
        stale = [client.get_item(TableName=TABLE, Key=key()).get("Item") for _ in range(50)]
        assert {str(found) for found in stale} == {str(None), str(item(x=1)), str(item(x=2))}
        assert {str(held(client)) for _ in range(50)} == {str(item(x=2))}
        now_ms = STALE_MS
        assert {str(client.get_item(TableName=TABLE, Key=key())["Item"]) for _ in range(50)} == {str(item(x=2))}

    def test_a_query_sees_each_item_at_some_moment_since_it_began(self) -> None:
        client = SimulatedDynamoDB(chance=random.Random(1))
        put(client, item("a", x=1), item("b", x=1))
        client.tables.view_from = client.tables.instant
        put(client, item("a", x=2), item("b", x=2))
        seen = {tuple(each["x"]["N"] for each in query(client)["Items"]) for _ in range(50)}
        assert seen == {("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")}
        client.tables.view_from = None
        assert [each["x"]["N"] for each in query(client)["Items"]] == ["2", "2"]


class TestTransactions:
    @staticmethod
    def add(sk: str, condition: str = "attribute_not_exists(n) OR n < :max", maximum: int = 1) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": TABLE,
                "Key": key(sk),
                "UpdateExpression": "ADD n :one",
                "ConditionExpression": condition,
                "ExpressionAttributeValues": {":one": {"N": "1"}, ":max": {"N": str(maximum)}},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def test_all_or_nothing_and_a_reason_for_each(self, client: SimulatedDynamoDB) -> None:
        put(client, item("full", n=1))
        with pytest.raises(ClientError) as error:
            client.transact_write_items(TransactItems=[self.add("a"), self.add("full")])
        reasons: Any = error.value.response["CancellationReasons"]
        assert error.value.response["Error"]["Code"] == "TransactionCanceledException"
        assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed"]
        assert reasons[1]["Item"] == item("full", n=1)
        assert held(client) is None

    def test_the_same_token_has_no_further_effect_for_ten_minutes(self) -> None:
        now_ms = 0
        client = SimulatedDynamoDB(lambda: now_ms)
        for _ in range(2):
            client.transact_write_items(TransactItems=[self.add("a", maximum=9)], ClientRequestToken="t")
        assert held(client) == item(n=1)
        with pytest.raises(ClientError, match="IdempotentParameterMismatchException"):
            client.transact_write_items(TransactItems=[self.add("b")], ClientRequestToken="t")
        now_ms = 600_000
        client.transact_write_items(TransactItems=[self.add("a", maximum=9)], ClientRequestToken="t")
        assert held(client) == item(n=2)

    def test_the_token_of_a_cancelled_transaction_may_be_used_again(self, client: SimulatedDynamoDB) -> None:
        put(client, item(n=1))
        with pytest.raises(ClientError, match="TransactionCanceledException"):
            client.transact_write_items(TransactItems=[self.add("a")], ClientRequestToken="t")
        client.delete_item(TableName=TABLE, Key=key())
        client.transact_write_items(TransactItems=[self.add("a")], ClientRequestToken="t")
        assert held(client) == item(n=1)

    def test_a_check_changes_nothing(self, client: SimulatedDynamoDB) -> None:
        put(client, item("guard", n=1))
        guard = {
            "ConditionCheck": {"TableName": TABLE, "Key": key("guard"), "ConditionExpression": "attribute_exists(n)"}
        }
        delete = {"Delete": {"TableName": TABLE, "Key": key("guard")}}
        client.transact_write_items(TransactItems=[guard, {"Put": {"TableName": TABLE, "Item": item(x=1)}}])
        assert (held(client), held(client, "guard")) == (item(x=1), item("guard", n=1))
        client.transact_write_items(TransactItems=[delete])
        assert held(client, "guard") is None

    @pytest.mark.parametrize(
        "items",
        [
            [],
            [{"Put": {"TableName": TABLE, "Item": item()}}, {"Delete": {"TableName": TABLE, "Key": key()}}],
            [{"Put": {"TableName": TABLE, "Item": item(str(at))}} for at in range(101)],
            [{"Put": {"TableName": TABLE, "Item": {**item(str(at)), "b": {"B": b"x" * 400_000}}}} for at in range(11)],
        ],
        ids=["none", "twice the same item", "101", "more than 4 MB"],
    )
    def test_a_transaction_beyond_the_limits_is_refused(
        self, client: SimulatedDynamoDB, items: list[dict[str, Any]]
    ) -> None:
        with pytest.raises(ClientError, match="ValidationException"):
            client.transact_write_items(TransactItems=items)

    def test_one_of_the_largest_size_is_not(self, client: SimulatedDynamoDB) -> None:
        items = [{**item(f"{at:03d}"), "b": {"B": b"x" * 40_000}} for at in range(100)]
        client.transact_write_items(TransactItems=[{"Put": {"TableName": TABLE, "Item": each}} for each in items])
        assert len(client.tables.items(TABLE)) == 100


class TestBatches:
    def test_puts_and_deletes_of_several_tables(self, client: SimulatedDynamoDB) -> None:
        put(client, item("gone"))
        answer = client.batch_write_item(
            RequestItems={
                TABLE: [{"DeleteRequest": {"Key": key("gone")}}, {"PutRequest": {"Item": item(x=1)}}],
                "other": [{"PutRequest": {"Item": item(x=2)}}],
            }
        )
        assert answer["UnprocessedItems"] == {}
        assert (client.tables.items(TABLE), client.tables.items("other")) == ([item(x=1)], [item(x=2)])

    @pytest.mark.parametrize(
        "writes",
        [
            [],
            [{"PutRequest": {"Item": item()}}, {"DeleteRequest": {"Key": key()}}],
            [{"PutRequest": {"Item": item(str(at))}} for at in range(26)],
            [{"PutRequest": {"Item": item(), "ConditionExpression": "attribute_exists(pk)"}}],
        ],
        ids=["none", "twice the same item", "26", "with a condition"],
    )
    def test_a_batch_that_makes_no_sense_is_refused(
        self, client: SimulatedDynamoDB, writes: list[dict[str, Any]]
    ) -> None:
        with pytest.raises(ClientError, match="ValidationException"):
            client.batch_write_item(RequestItems={TABLE: writes})


def test_every_write_is_reported_with_what_was_there(client: SimulatedDynamoDB) -> None:
    seen: list[tuple[str, Item | None, Item | None]] = []
    client.tables.watches.append(lambda table, at, old, new: seen.append((at[1], old, new)))
    put(client, item(x=1), item(x=2))
    guard = {"TableName": TABLE, "Key": key(), "ConditionExpression": "attribute_exists(pk)"}
    client.transact_write_items(TransactItems=[{"ConditionCheck": guard}])
    client.delete_item(TableName=TABLE, Key=key())
    client.delete_item(TableName=TABLE, Key=key())
    assert seen == [("a", None, item(x=1)), ("a", item(x=1), item(x=2)), ("a", item(x=2), None)]
