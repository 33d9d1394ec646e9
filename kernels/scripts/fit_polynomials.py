#!/usr/bin/env python3
"""Fits the polynomials of kernels/src/math: needs numpy and mpmath.

Each fit is a weighted minimax fit on a Chebyshev grid (Lawson's reweighted least squares). The
coefficients are rounded to f32 one after the other, from the one that matters most, and the rest
is fitted again around what is already rounded, so that later coefficients repair the rounding of
earlier ones. Printed: the constants as Rust literals, and the weighted maximum error.
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 40


def chebyshev_grid(low, high, n=1200):
    t = np.cos(np.pi * (np.arange(n) + 0.5) / n)
    return 0.5 * (low + high) + 0.5 * (high - low) * t


def minimax(basis, target, rounds=400):
    """The combination of the columns of `basis` with the least maximum distance from `target`."""
    weight = np.full(len(target), 1.0 / len(target))
    best, best_error = None, np.inf
    scale = np.abs(basis).max(axis=0)
    for _ in range(rounds):
        root = np.sqrt(weight)[:, None]
        solution = np.linalg.lstsq(basis / scale * root, target * root[:, 0], rcond=None)[0] / scale
        error = np.abs(basis @ solution - target)
        if error.max() < best_error:
            best, best_error = solution, error.max()
        weight = weight * (error + 1e-3 * error.max())
        weight /= weight.sum()
    return best


def fit(name, f, weight, interval, powers, fixed=()):
    """Fits f(x) by sum c_k x^powers[k], minimising |error| * weight(x); `fixed` are (power, value)
    pairs that are given."""
    x = chebyshev_grid(*interval)
    w = np.array([float(weight(mp.mpf(v))) for v in x])
    target = np.array([float(f(mp.mpf(v))) for v in x])
    for power, value in fixed:
        target = target - value * x**power
    done = {}
    left = list(powers)
    while left:
        basis = np.stack([x**p for p in left], axis=1) * w[:, None]
        rest = target - sum(c * x**p for p, c in done.items())
        solution = minimax(basis, rest * w, 60 if len(left) < len(powers) else 400)
        first = left.pop(0)
        done[first] = float(np.float32(solution[0]))
    error = np.abs(target - sum(c * x**p for p, c in done.items())) * w
    print(f"// {name}: weighted error {error.max():.2e} at {x[error.argmax()]:.4f}")
    for power, c in done.items():
        print(f"//   x^{power}: {np.float32(c)!s}  {np.float32(c).tobytes()[::-1].hex()}")
    return done


def log2_normal_tail(b):
    """log2 of the normal distribution function, for b <= 0."""
    return mp.log(mp.erfc(-b / mp.sqrt(2)) / 2, 2)


if __name__ == "__main__":
    # exp: on [-ln 2 / 2, ln 2 / 2] and a little more, for the rounding of the reduction.
    # Relative error; 1 + r is given, so that small arguments are exact.
    reduced = (-0.3468, 0.3468)
    fit("exp(r)", mp.exp, lambda r: 1 / mp.exp(r), reduced, range(2, 7), [(0, 1.0), (1, 1.0)])

    # expm1: the same, but relative to expm1(r), which needs one degree more.
    fit("expm1(r)", mp.expm1, lambda r: 1 / abs(mp.expm1(r)), reduced, range(2, 8), [(1, 1.0)])

    # 2^f on [-1/2, 1/2], relative error; 2^0 = 1 is given.
    fit("2^f", lambda f: mp.power(2, f), lambda f: 1 / mp.power(2, f), (-0.5001, 0.5001),
        range(1, 7), [(0, 1.0)])

    # log2 Phi(b) on [-6.5, 0]: what counts is the absolute error of b * Phi(b), and in the tail a
    # relative error of 1e-4. Phi(0) = 1/2 is given.
    def weight(b):
        phi = mp.power(2, log2_normal_tail(b))
        return max(phi * -b * mp.log(2), mp.mpf("1e-4") * -b / 6.5)

    fit("log2 Phi(b)", log2_normal_tail, weight, (-6.5, 0), range(1, 11), [(0, -1.0)])

    # erf(x) / x - 1 as a polynomial of x^2, up to |x| = 0.9, relative to erf(x) / x.
    ratio = lambda t: mp.erf(mp.sqrt(t)) / mp.sqrt(t)
    fit("erf(sqrt t) / sqrt t - 1", lambda t: ratio(t) - 1, lambda t: 1 / ratio(t), (1e-9, 0.81),
        range(0, 6))
