"""Exploration: the same graph searches for the least-cost right path of a question whose answer is known."""

from deeprag_graph.explore.graph import ExplorationGraph, NodeEvent, build_exploration_graph
from deeprag_graph.explore.loop import aexplore, explore
from deeprag_graph.explore.search import ExploreContext
from deeprag_graph.explore.tree import Node, Tree, children, path, trajectory

__all__ = [
    "ExplorationGraph",
    "ExploreContext",
    "Node",
    "NodeEvent",
    "Tree",
    "aexplore",
    "build_exploration_graph",
    "children",
    "explore",
    "path",
    "trajectory",
]
