"""langgraph-checkpoint-aws's DynamoDBSaver under a graph of one node: the whole state is stored at every step."""

from __future__ import annotations

from typing import Any

import boto3
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph_checkpoint_aws import DynamoDBSaver

from .protocol import Ask, serve
from .tables import make_table

TABLE = "my-checkpoints"


class LangGraphSaver:
    """`durability` goes to the graph's invocation, all other settings to the saver."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._durability = settings.pop("durability", None)
        self._settings = settings
        self._aws = boto3.Session()

    def create(self, name: str) -> str:
        make_table(TABLE, "PK", "SK")
        return name

    def turn(self, session: str, message: str, ask: Ask) -> None:
        options = {"durability": self._durability} if self._durability else {}
        self._graph(ask).invoke({"messages": [HumanMessage(message)]}, _config(session), **options)

    def history(self, session: str) -> list[str]:
        state = self._graph(lambda _: "").get_state(_config(session))
        return [str(each.content) for each in state.values["messages"]]

    def _graph(self, ask: Ask) -> Any:
        def model(state: MessagesState) -> dict[str, Any]:
            return {"messages": [AIMessage(ask([str(each.content) for each in state["messages"]]))]}

        graph = StateGraph(MessagesState)
        graph.add_node("model", model)
        graph.add_edge(START, "model")
        graph.add_edge("model", END)
        return graph.compile(checkpointer=DynamoDBSaver(TABLE, session=self._aws, **self._settings))


def _config(session: str) -> Any:
    return {"configurable": {"thread_id": session}}


if __name__ == "__main__":
    serve(LangGraphSaver)
