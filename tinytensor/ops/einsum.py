"""Einstein's summation: products of tensors, written with a letter for every axis.

"bthd,bshd->bhts" reads: for every b, h, t and s, the sum over d of the products. A letter that the result lacks is
summed over. The gradient of an operand is an einsum too: of dL/dy with all the other operands.
"""

import string

from tinytensor.ops.basic import check_alike, rounded, unbroadcast, wide
from tinytensor.tensor import Tensor, record


def einsum(subscripts: str, *operands: Tensor) -> Tensor:
    """The sum of products that `subscripts` says, such as "ij,jk->ik", as np.einsum and torch.einsum.

    A letter twice in one operand takes its diagonal, "..." stands for any further axes, and without "->" the result has
    the letters that occur once, in alphabetical order.
    dL/doperand = einsum of dL/dy and the other operands, with the operand's own letters as result; along letters that
    nobody else has it is repeated, and a diagonal goes back to its places.
    """
    operands = [x if isinstance(x, Tensor) else Tensor(x) for x in operands]
    terms, result = _letters(subscripts, [x.ndim for x in operands])
    for x in operands[1:]:
        check_alike("einsum", operands[0].data, x.data)
    dtype, xp = operands[0].dtype, operands[0].xp
    arrays = [x.data.astype(wide(dtype) or x.dtype, copy=False) for x in operands]
    product = lambda terms, arrays, result: xp.einsum(f"{','.join(terms)}->{result}", *arrays, optimize=True)

    def gradient(g, index: int):
        term, x = terms[index], arrays[index]
        others = [result, *terms[:index], *terms[index + 1 :]]
        own = "".join(dict.fromkeys(term))  # each letter once
        known = "".join(letter for letter in own if any(letter in other for other in others))
        d = product(others, [g, *arrays[:index], *arrays[index + 1 :]], known)
        lengths = dict(zip(term, x.shape))
        d = unbroadcast(d, tuple(lengths[letter] for letter in known))
        d = d.reshape([lengths[letter] if letter in known else 1 for letter in own])
        d = xp.broadcast_to(d, [lengths[letter] for letter in own])
        if own != term:
            diagonal, d = d, xp.zeros(x.shape, d.dtype)
            xp.einsum(f"{term}->{own}", d)[...] = diagonal  # a view of d's diagonal
        return rounded(d, dtype)

    def backward(g):
        return [gradient(g, index) if x.requires_grad else None for index, x in enumerate(operands)]

    return record("einsum", rounded(product(terms, arrays, result), dtype), operands, backward)


def _letters(subscripts: str, ndims: list[int]) -> tuple[list[str], str]:
    """A term for each operand, and the result's, in which "..." has become letters that nobody uses."""
    text = subscripts.replace(" ", "")
    given, arrow, result = text.partition("->")
    terms = given.split(",")
    named = [len(term.replace("...", "")) for term in terms]
    if len(terms) != len(ndims) or any(count > n or (count < n and "..." not in term)
                                       for term, count, n in zip(terms, named, ndims)):
        raise ValueError(f"einsum: {subscripts!r} does not fit operands of {ndims} axes: a letter for each is needed")
    free = "".join(letter for letter in string.ascii_letters if letter not in text)
    longest = max(n - count if "..." in term else 0 for term, count, n in zip(terms, named, ndims))
    terms = [term.replace("...", free[longest - n + count : longest]) for term, count, n in zip(terms, named, ndims)]
    if not arrow:
        letters = given.replace("...", "").replace(",", "")
        result = "..." + "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    return terms, result.replace("...", free[:longest])
