"""Reads YAML from unknown sources: refuses a document that expands to far more than it contains."""

from __future__ import annotations

from typing import Any

import yaml

# A configuration needs less than a hundredth of either.
MAX_CHARACTERS = 256 * 1024
MAX_NODES = 100_000


def load_yaml(text: str) -> Any:
    """`yaml.safe_load`, with a bound on the expansion of aliases.

    Aliases of aliases double their values with every line. Reading them costs nothing, but code that walks over the
    values, or prints one in a message, would never end.

    Raises:
        yaml.YAMLError: the text is not YAML, or larger than any configuration.
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
    except (ValueError, OverflowError) as error:  # a date or a number that Python cannot represent
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """The number of values in a node, with aliases expanded."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise yaml.YAMLError("has an alias of something that contains it")
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
            raise yaml.YAMLError(f"expands to more than {MAX_NODES:,} values")
    known[id(node)] = total
    return total
