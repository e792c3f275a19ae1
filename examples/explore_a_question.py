"""Search the right path that retrieves least, and watch the tree grow: `python examples/explore_a_question.py`."""

from typing import Any

from deeprag_graph import BM25Retriever, ExploreContext, LocalPolicy, Policy, build_exploration_graph, starter_index
from deeprag_graph.explore import trajectory
from deeprag_graph.explore.graph import ExploreInput
from deeprag_graph.transcript import render

QUESTION, ANSWERS = "In which country was the discoverer of francium born?", ["France"]


def show(node: Any) -> None:
    step = f"{node['action']}: {node['answer']} → " if node["action"] else ""
    end = node["subquery"] or f"{node['final']['short']} ({node['outcome']})"
    print(f"{'  ' * node['depth']}{node['cost']} retrievals, {step}{end}")


def main(policy: Policy) -> None:
    graph: Any = build_exploration_graph(policy, BM25Retriever(starter_index()), context=ExploreContext(max_steps=4))
    asked = ExploreInput(question=QUESTION, answers=ANSWERS)
    print(QUESTION)
    for mode, part in graph.stream(asked, stream_mode=["custom", "values"]):
        if mode == "custom" and part["type"] == "node":
            show(part["node"])
    tree = part["tree"]  # the last values are those of the end
    print(f"\n{tree['outcome']}: {tree['usage']['llm_calls']} model calls")
    if tree["cost"] is not None:
        print(render(trajectory(tree, tree["best"])))


if __name__ == "__main__":
    main(LocalPolicy())  # fetched once, about 1 GB
