"""Which parameters an optimizer trains: all that it may be given, and those whose array is another one now.

Beside model.parameters() it takes model.named_parameters(), plain Tensors, and groups that learn at their own rates:

    AdamW([{"params": body.parameters(), "lr": 1e-5}, {"params": head.parameters(), "weight_decay": 0.0}], lr=1e-3)

What a group does not name is the optimizer's. A step at another rate than the optimizer's (a schedule) changes the
rates of all groups by the same factor. weight_decay touches matrices only, unless a group names it: then all in it.
"""

import math
from collections.abc import Iterable

from nn import Module
from tinytensor import Tensor, backend

OPTIONS = ("lr", "weight_decay")  # that a group may have


def listed(given: Iterable) -> tuple[list[Tensor], list[dict], dict[int, int]]:
    """(the parameters, what is particular to each group, id of a parameter -> number of its group)."""
    if isinstance(given, (Tensor, Module)):
        what = "[parameter]" if isinstance(given, Tensor) else "model.parameters()"
        raise ValueError(f"an optimizer trains a list, not one {type(given).__name__}; give {what}")
    given, groups = list(given), [{}]
    if given and isinstance(given[0], dict):
        given, groups = _taken_apart(given)
    else:
        given = [(one[1] if isinstance(one, tuple) else one, 0) for one in given]
    for parameter, _ in given:
        if not isinstance(parameter, Tensor):
            raise ValueError(f"an optimizer trains parameters and tensors, not {type(parameter).__name__}")
        if parameter.node is not None:
            raise ValueError(f"a tensor {parameter.shape} was computed from others; train those, or its .detach()")
    group_of = {id(parameter): number for parameter, number in given}
    if len(group_of) < len(given):
        raise ValueError("a parameter was given to an optimizer twice; leave out one of the two")
    return [parameter for parameter, _ in given], groups, group_of


def _taken_apart(groups: list[dict]) -> tuple[list[tuple[Tensor, int]], list[dict]]:
    """([(parameter, number of its group)], [what is particular to each group])."""
    members, particular = [], []
    for number, group in enumerate(groups):
        if not isinstance(group, dict) or "params" not in group:
            raise ValueError(f'a group is a dict with "params" in it, not {str(group)[:60]}')
        if unknown := group.keys() - {"params", *OPTIONS}:
            known, found = " and ".join(OPTIONS), ", ".join(sorted(map(str, unknown)))
            raise ValueError(f"a group may have its own {known}, not {found}")
        particular.append({name: group[name] for name in OPTIONS if name in group})
        if wrong := [f"{name} {value}" for name, value in particular[-1].items() if not 0 <= value < math.inf]:
            raise ValueError(f"a group's rate and decay must be numbers from 0 on, not {wrong[0]}")
        params = [group["params"]] if isinstance(group["params"], Tensor) else group["params"]
        members += [(one[1] if isinstance(one, tuple) else one, number) for one in params]
    return members, particular


def take_back(flat) -> None:
    """Parameters of a FlatParameters whose array was replaced go on from what it holds, in their place in the flat one.

    It may have been assigned, loaded, moved to a device and back, or given a place by another optimizer.
    """
    of = lambda array: f"{array.dtype} {array.shape} on {backend.device_of(array)}"
    for parameter, place, stretch in zip(flat.parameters, flat.places, flat.slices):
        if parameter.data is not place:
            if (found := of(parameter.data)) != (made := of(place)):
                raise ValueError(f"a parameter is {found}, but its optimizer was made for {made}; make a new one")
            flat.data[stretch].reshape(place.shape)[...] = parameter.data
            if flat.rounded is not None:
                place[...] = parameter.data
            parameter.data = place
    if any(parameter.requires_grad for parameter in flat.frozen):
        raise ValueError("a parameter that was frozen when its optimizer was made learns now; make a new optimizer")
