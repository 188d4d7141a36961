"""How a Module shows itself in a notebook: the tree of its parts, each of which opens, with shapes and counts."""

import html

from nn.module import Module, Parameter


def tree_of(module: Module, name: str = "", depth: int = 1) -> str:
    """HTML; the first `depth` levels are open."""
    own = "".join(f"<div>{html.escape(key)} {value.shape}</div>"
                  for key, value in vars(module).items() if isinstance(value, Parameter))
    parts = "".join(tree_of(child, key, depth - 1) for key, child in module.named_children())
    label = f"{html.escape(name + ': ' if name else '')}<b>{type(module).__name__}</b> {module.parameter_count():,}"
    inside = f'<div style="margin-left:1.5em">{own}{parts}</div>'
    return f"<details{' open' if depth > 0 else ''}><summary>{label}</summary>{inside}</details>"


Module._repr_html_ = tree_of
