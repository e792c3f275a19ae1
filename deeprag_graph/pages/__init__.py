"""What a ledger looks like to a person: the page of one search, the page of them all, a search in a terminal."""

from deeprag_graph.pages.summary_page import summary_page
from deeprag_graph.pages.text_tree import text_tree
from deeprag_graph.pages.tree_page import tree_page

__all__ = ["summary_page", "text_tree", "tree_page"]
