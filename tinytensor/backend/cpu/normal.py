"""The exact form of GELU, x Phi(x), where Phi is the normal distribution function."""

from math import erfc, pi, sqrt

import numpy as np

# 1 - Phi(z) = exp(-z^2 / 2) / (2 p(z)) for z >= 0, with Phi the normal distribution function and this p (ascending):
# a minimax fit with an error of 5e-8 in Phi and 8e-8 in z Phi(z), less than float32 rounding adds. Beyond its end at
# 6.5 p keeps growing and the quotient vanishes. It shares its exponential with the slope, and exp costs a dozen
# multiplications.
TAIL_FIT = (1.00000009, 0.797877995, 0.136692667, -0.0242600558, 2.79178169e-4, 1.14668634e-3, -2.87024170e-4,
            2.46064097e-5)


def normal_gate(x, y, slope, scratch):
    """One block of the exact form, written into y and slope."""
    density = np.multiply(x, x, out=scratch)
    density *= -0.5
    np.exp(density, out=density)
    if x.dtype == np.float32:
        phi = normal_cdf_fit(x, density, y, slope)
    else:
        # float64 serves gradient checks: one call of the C library's erfc per element is exact and quick enough.
        y[...] = np.reshape([erfc(-v * sqrt(0.5)) / 2 for v in x.ravel().tolist()], x.shape)
        phi = y
    if slope is not None:
        density *= 1 / sqrt(2 * pi)
        density *= x
        np.add(density, phi, out=slope)
    y *= x


def normal_cdf_fit(x, density, out, scratch):
    """Phi(x) in float32, from x and exp(-x^2 / 2): 1/2 + sign(x) (1/2 - tail(|x|))."""
    z = np.abs(x, out=out)
    p = np.multiply(z, TAIL_FIT[-1], out=scratch)
    for coefficient in TAIL_FIT[-2:0:-1]:
        p += coefficient
        p *= z
    p += TAIL_FIT[0]
    phi = np.divide(density, p, out=out)
    np.subtract(1, phi, out=phi)
    # np.copysign takes as long as five multiplications; as integers the sign bit moves in two.
    sign = np.bitwise_and(x.view(np.uint32), 0x80000000, out=p.view(np.uint32))
    np.bitwise_or(phi.view(np.uint32), sign, out=phi.view(np.uint32))
    phi += 1
    phi *= 0.5
    return phi
