"""Reads YAML that may come from anybody: a document that stands for far more than it says is refused."""

from __future__ import annotations

from typing import Any

import yaml

# A configuration has less than a hundredth of either.
MAX_CHARACTERS = 256 * 1024
MAX_NODES = 100_000


def load_yaml(text: str) -> Any:
    """`yaml.safe_load`, with a bound on what aliases expand to.

    Aliases of aliases double what they stand for with each line. Reading them costs nothing, but whatever walks over
    the values, or prints one in a message, takes for ever.

    Raises:
        yaml.YAMLError: it is not YAML, or larger than any configuration.
    """
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read")
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("is nested too deeply") from None
    except (ValueError, OverflowError) as error:  # a date or a number that Python does not know
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """How many values a node stands for, aliases written out."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise yaml.YAMLError("has an alias of something that holds it")
        return found
    known[id(node)] = None
    total = 1
    if isinstance(node, yaml.MappingNode):
        inner = [each for pair in node.value for each in pair]
    else:
        inner = node.value if isinstance(node, yaml.SequenceNode) else []
    for each in inner:
        total += _count(each, known)
        if total > MAX_NODES:
            raise yaml.YAMLError(f"stands for more than {MAX_NODES:,} values")
    known[id(node)] = total
    return total
