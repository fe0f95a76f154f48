"""Elementary functions for compiled code that LLVM turns into vector instructions.

numba's own calls the C library for each element. These are called in compiled code by name,
``exp_f64(x)`` in a loop over ``x``; ``VECTORISED`` finds them by NumPy's names. They are
written without branches on :mod:`mfjit.elementary_numbers`, for float64 and float32 alike,
each in its own arithmetic.

Every result is within 2 units in the last place of the exact one, over the whole range of
arguments, subnormal results included; NaN, infinities and zeros are as NumPy has them.
The same argument gives the same bits wherever it stands in an array. Nothing is signalled,
and the `fastmath` of the calling function does not reach into them.

numba's disk cache finds functions that call these as globals. It compiles a function anew that
holds one in a closure, whose pickle is another one in each process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from numba import types
from numba.extending import intrinsic

from mfjit.elementary_constants import (
    FLOAT32,
    FLOAT64,
    TWO_OVER_PI_PAIRS,
    TWO_OVER_PI_ROWS,
    Constants,
    two_over_pi,
    two_over_pi_lowest,
)
from mfjit.elementary_numbers import (
    Integer,
    Number,
    fast_two_sum,
    multiply_add,
    nearest_integer,
    polynomial,
    power_of_two,
    select,
    table_entry,
    two_sum,
)

# Exponentials: x = n ln 2 + r with the nearest n, exp(x) = 2**n exp(r), after W. J. Cody and
# W. Waite, Software Manual for the Elementary Functions (1980), chapter 6.


def _clamp(x: Number, ends: tuple[float, float]) -> Number:
    """Put what lies outside on the ends; NaN stays."""
    low, high = ends
    x = select(x < low, x.constant(low), x)
    return select(x > high, x.constant(high), x)


def _scale(x: Number, n: Number) -> Number:
    """``x * 2**n``, rounded once, for n beyond the exponents of normal numbers too."""
    half, half_bits = nearest_integer(n * 0.5)
    _, other_half_bits = nearest_integer(n - half)
    return x * power_of_two(half_bits) * power_of_two(other_half_bits)


def _exp_of_rest(x: Number) -> tuple[Number, Number, Number, Integer]:
    """Find ``exp(r)`` and its error, and n as float and as bits."""
    constants = x.constants
    n, n_bits = nearest_integer(x * constants.reciprocal_ln_2[0])
    r = multiply_add(n, -constants.ln_2[1], multiply_add(n, -constants.ln_2[0], x))
    rest = multiply_add(r * r, polynomial(r, constants.exponential), r)
    result, error = fast_two_sum(x.constant(1.0), rest)
    return result, error, n, n_bits


def _exp(x: Number) -> Number:
    result, _, n, _ = _exp_of_rest(_clamp(x, x.constants.exp_range))
    return _scale(result, n)


def _exp2(x: Number) -> Number:
    constants = x.constants
    low, high = constants.exp_range
    x = _clamp(x, (math.floor(low / math.log(2)), math.ceil(high / math.log(2))))
    n, _ = nearest_integer(x)
    r = x - n
    return _scale(1.0 + r * polynomial(r, constants.exponential_base_2), n)


def _expm1(x: Number) -> Number:
    constants = x.constants
    _, high = constants.exp_range
    clamped = _clamp(x, (-float(constants.fraction_bits), high))
    n, n_bits = nearest_integer(clamped * constants.reciprocal_ln_2[0])
    reduced = multiply_add(n, -constants.ln_2[0], clamped)
    r, r_low = fast_two_sum(reduced, n * -constants.ln_2[1])
    rest = multiply_add(r * r, polynomial(r, constants.exponential), r_low)
    larger, smaller = fast_two_sum(r, rest)
    # 2**(n - 1) is in range where 2**n is not.
    half = power_of_two(n_bits - 1)
    result = multiply_add(half, larger, half - 0.5) + half * smaller
    tiny = abs(x) < 2.0 ** -(constants.fraction_bits + 2)
    return select(tiny, x, result + result)


def _tanh(x: Number) -> Number:
    """A polynomial up to 5 / 8, then ``1 - 2 / (exp(2 abs(x)) + 1)``.

    The fraction is less than half by then, and so is the share of its errors.
    """
    constants = x.constants
    size = abs(x)
    square = size * size
    near = multiply_add(size * square, polynomial(square, constants.tanh_near), size)
    clamped = select(size > constants.tanh_end, x.constant(constants.tanh_end), size)
    exponential, _, _, n_bits = _exp_of_rest(clamped + clamped)
    far = 1.0 - 2.0 / multiply_add(exponential, power_of_two(n_bits), 1.0)
    return select(size < 0.625, near, far).with_sign_of(x)


def _sigmoid(x: Number) -> Number:
    """``1 / (1 + exp(-max(x, smallest)))``, and a first-order correction."""
    result, low, _, n_bits = _exp_of_rest(_clamp(-x, x.constants.sigmoid_range))
    # The greatest n is one more than an exponent.
    power = power_of_two(n_bits - 1)
    divisor, error = two_sum(result * 2.0 * power, x.constant(1.0))
    y = 1.0 / divisor
    error = multiply_add(low * 2.0, power, error)
    return multiply_add(-(y * error), y, y)


def _sinh(x: Number) -> Number:
    """A polynomial up to 1, then ``(exp(abs(x)) - exp(-abs(x))) / 2``."""
    size = abs(x)
    square = size * size
    near = multiply_add(size * square, polynomial(square, x.constants.sinh_near), size)
    half = _half_exp(size)
    return select(size < 1.0, near, half - 0.25 / half).with_sign_of(x)


def _half_exp(x: Number) -> Number:
    """Half of ``exp(x)``, for x that is not negative; it is infinite only where this is."""
    # The greatest power of two that is then taken is the one that is infinite.
    end = x.constants.exp_range[1] + 1.0
    result, _, _, n_bits = _exp_of_rest(select(x > end, x.constant(end), x))
    return result * 2.0 * power_of_two(n_bits - 2)


def _cosh(x: Number) -> Number:
    half = _half_exp(abs(x))
    return half + 0.25 / half


# Logarithms: x = 2**k (1 + f) with 1 + f between the square roots of 1/2 and 2, and log(1 + f)
# by the series of the inverse hyperbolic tangent in s = f / (2 + f); see J.-M. Muller,
# Elementary Functions (3rd edition), chapter 11, and, for the order of the sums, the notes
# of FDLIBM (Sun Microsystems, 1993) on log and log1p.


def _split_exponent(x: Number) -> tuple[Number, Number, Integer]:
    """Find ``k`` and ``1 + f``, and k's bits, for a normal number x."""
    constants = x.constants
    root_bits = _bits_of_root_half(constants)
    shifted = x.bits() - root_bits + constants.bits_of_one
    m = ((shifted & constants.fraction_mask) + root_bits).number()
    exponent = shifted >> constants.fraction_bits
    # The exponent put into the fraction of 2**p is that much more than 2**p.
    power = 2.0**constants.fraction_bits
    power_bits = constants.exponent_bias + constants.fraction_bits << constants.fraction_bits
    k = (exponent | power_bits).number() - (power + constants.exponent_bias)
    return k, m, exponent


def _bits_of_root_half(constants: Constants) -> int:
    """The bits of the square root of 1/2, rounded down."""
    fraction = math.isqrt(1 << 2 * constants.fraction_bits + 1) & constants.fraction_mask
    return constants.bits_of_one - (1 << constants.fraction_bits) + fraction


def _log_terms(f: Number) -> tuple[Number, Number]:
    """Find the parts of ``log(1 + f) = f - (half_square - rest)``."""
    s = f / (2.0 + f)
    z = s * s
    half_square = 0.5 * f * f
    tail = z * polynomial(z, f.constants.logarithm)
    return half_square, s * (half_square + tail)


def _log_special(x: Number, result: Number) -> Number:
    """Put in logarithms of what is not positive, or not finite."""
    result = select(x < math.inf, result, x)  # infinity and NaN
    result = select(x < 0.0, x.constant(math.nan), result)
    return select(x.is_equal(0.0), x.constant(-math.inf), result)


def _normal_parts(x: Number) -> tuple[Number, Number]:
    """Find k and f for a positive x, below the normal numbers too."""
    constants = x.constants
    raised = constants.fraction_bits + 2
    small = x < constants.smallest_normal
    k, m, _ = _split_exponent(select(small, x * 2.0**raised, x))
    return k - select(small, x.constant(raised), 0.0), m - 1.0


def _log(x: Number) -> Number:
    high, low = x.constants.ln_2
    k, f = _normal_parts(x)
    half_square, rest = _log_terms(f)
    result = k * high - ((half_square - (rest + k * low)) - f)
    return _log_special(x, result)


def _log1p(x: Number) -> Number:
    constants = x.constants
    high, low = constants.ln_2
    u, error = two_sum(x, x.constant(1.0))
    k, m, exponent = _split_exponent(u)
    scaled = error * power_of_two(-exponent + constants.exponent_bias)
    # Beyond that the error is far below the last place, and its scale no normal number.
    scaled = select(x < 2.0 ** (constants.fraction_bits + 8), scaled, 0.0)
    f, f_low = two_sum(m - 1.0, scaled)
    half_square, rest = _log_terms(f)
    result = k * high - ((half_square - (rest + (k * low + f_low))) - f)
    tiny = abs(x) < 2.0 ** -(constants.fraction_bits + 2)
    return select(tiny, x, _log_special(u, result))


def _log_in_base(x: Number, reciprocal: tuple[float, float], log_2: tuple[float, float]) -> Number:
    """``k * log_2 + log(1 + f) * reciprocal``, the product in two parts."""
    k, f = _normal_parts(x)
    half_square, rest = _log_terms(f)
    ln, ln_low = two_sum(f, -half_square)
    ln, more = fast_two_sum(ln, ln_low + rest)
    # Half as many bits: products with the upper half of the reciprocal are exact.
    upper = _upper_half(ln)
    lower = (ln - upper) + more
    factor = _upper_half_of_constant(reciprocal[0], x.constants)
    factor_low = (reciprocal[0] - factor) + reciprocal[1]
    total, error = two_sum(k * log_2[0], upper * factor)
    small = multiply_add(upper, factor_low, multiply_add(lower, reciprocal[0], error))
    return _log_special(x, total + multiply_add(k, log_2[1], small))


def _upper_half(x: Number) -> Number:
    constants = x.constants
    dropped = constants.fraction_bits + 1 - constants.half_precision_bits
    return (x.bits() & -(1 << dropped)).number()


def _upper_half_of_constant(x: float, constants: Constants) -> float:
    fraction, exponent = math.frexp(x)
    scale = 2.0**constants.half_precision_bits
    return math.ldexp(math.floor(fraction * scale) / scale, exponent)


def _log2(x: Number) -> Number:
    return _log_in_base(x, x.constants.reciprocal_ln_2, (1.0, 0.0))


def _log10(x: Number) -> Number:
    return _log_in_base(x, x.constants.reciprocal_ln_10, x.constants.log10_2)


# Sine and cosine: x = (n + r) pi / 2 with the nearest n. The product of x and 2 / pi is
# computed from those digits of 2 / pi that matter for the exponent of x, the higher ones making
# whole turns: M. Payne and R. Hanek, Radian reduction for trigonometric functions, SIGNUM
# Newsletter 18 (1983). One table serves the smallest arguments and the largest.


def _quarter_turns(x: Number) -> tuple[Integer, Number, Number]:
    """Find n modulo 4 (its last bits), and r in two parts, for x that is not negative."""
    constants = x.constants
    bits = constants.fraction_bits
    step_bits = ((constants.exponent_bias + 1) // TWO_OVER_PI_ROWS).bit_length() - 1
    exponent = (x.bits() >> bits) - constants.exponent_bias
    # Infinity and NaN find row 0 and stay what they are.
    row = (exponent.at_least_zero() >> step_bits) & (TWO_OVER_PI_ROWS - 1)
    scaled = (x.bits() - (row << step_bits + bits)).number()
    upper = _upper_half(scaled)
    lower = scaled - upper
    parts = _two_over_pi_parts(row)
    # Products of halves are exact, and the product of the upper half and parts[0] is a
    # multiple of 4. Without their integers the four products that have any add up exactly.
    n_bits = row & 0
    fraction = x.constant(0.0)
    for product in (lower * parts[0], upper * parts[1], lower * parts[1], upper * parts[2]):
        n, bits_of_n = nearest_integer(product)
        n_bits = n_bits + bits_of_n
        fraction = fraction + (product - n)
    n, bits_of_n = nearest_integer(fraction)
    # Where x is close to a multiple of pi / 2, these sums become small and their errors zero.
    total, error = fraction - n, x.constant(0.0)
    for product in (lower * parts[2], upper * parts[3], lower * parts[3], upper * parts[4]):
        total, more = two_sum(total, product)
        error = error + more
    for half, part in ((upper, 6), (lower, 5), (upper, 5), (lower, 4)):
        error = multiply_add(half, parts[part], error)
    r, r_low = fast_two_sum(total, error)
    return n_bits + bits_of_n, r, r_low


def _two_over_pi_parts(row: Integer) -> list[Number]:
    """Look up two parts at a time, for a gather costs as much as ten multiplications."""
    constants = row.constants
    parts = []
    for pair in range(TWO_OVER_PI_PAIRS):
        name = f"two_over_pi.{constants.char}.{pair}"
        both = table_entry(name, two_over_pi(constants, pair), row)
        shift = math.ldexp(constants.rounding_shift, two_over_pi_lowest(constants, 2 * pair))
        first = (both + shift) - shift
        parts += [first, both - first]
    return parts


def _sine_of_part(r: Number, r_low: Number) -> Number:
    """``sin(pi / 2 * (r + r_low))``."""
    high, low = r.constants.half_pi
    square = r * r
    rest = multiply_add(square * r, polynomial(square, r.constants.sine), r * low)
    return multiply_add(r, high, multiply_add(r_low, high, rest))


def _cosine_of_part(r: Number, r_low: Number) -> Number:
    """``cos(pi / 2 * (r + r_low))``."""
    square = multiply_add(r, r, (r + r) * r_low)
    return multiply_add(square, polynomial(square, r.constants.cosine), 1.0)


def _sin_or_cos(n: Integer, r: Number, r_low: Number) -> Number:
    """Sine of n quarter turns and r."""
    is_even = (n & 1).is_zero()
    result = select(is_even, _sine_of_part(r, r_low), _cosine_of_part(r, r_low))
    # The bit for two quarter turns becomes the sign's.
    sign = (n & 2) << n.constants.sign_bit.bit_length() - 2
    return (result.bits() ^ sign).number()


def _sin(x: Number) -> Number:
    constants = x.constants
    result = _sin_or_cos(*_quarter_turns(abs(x)))
    signed = (result.bits() ^ (x.bits() & constants.sign_bit)).number()
    tiny = abs(x) < 2.0 ** -(constants.fraction_bits // 2 + 1)
    return select(tiny, x, signed)


def _cos(x: Number) -> Number:
    n, r, r_low = _quarter_turns(abs(x))
    return _sin_or_cos(n + 1, r, r_low)


def _erf(x: Number) -> Number:
    """``x * polynomial(x**2)`` up to 1, then ``1 - exp(polynomial(x))``.

    Writing the complement as the exponential of a polynomial keeps both pieces free of
    divisions; it becomes small, so that its own relative error may be larger.
    """
    constants = x.constants
    size = abs(x)
    square = size * size
    near = multiply_add(size, polynomial(square, constants.erf_near), size)
    clamped = select(size > constants.erf_end, x.constant(constants.erf_end), size)
    complement, _, _, n_bits = _exp_of_rest(polynomial(clamped - 1.0, constants.erf_far))
    far = 1.0 - complement * power_of_two(n_bits)
    return select(size < 1.0, near, far).with_sign_of(x)


def _compiled(formula: Callable[[Number], Number], constants: Constants) -> Any:
    """Make what compiled code can call; arguments are cast to the format."""
    kind = {"d": types.float64, "f": types.float32}[constants.char]

    def typed(_typing_context: Any, x: Any) -> Any:
        if not isinstance(x, types.Number | types.Boolean):
            return None

        def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return formula(Number(builder, arguments[0], constants)).value

        return kind(kind), emit

    typed.__name__ = f"{formula.__name__.lstrip('_')}_f{64 if constants.char == 'd' else 32}"
    return intrinsic(typed)


exp_f64 = _compiled(_exp, FLOAT64)
exp_f32 = _compiled(_exp, FLOAT32)
exp2_f64 = _compiled(_exp2, FLOAT64)
exp2_f32 = _compiled(_exp2, FLOAT32)
expm1_f64 = _compiled(_expm1, FLOAT64)
expm1_f32 = _compiled(_expm1, FLOAT32)
log_f64 = _compiled(_log, FLOAT64)
log_f32 = _compiled(_log, FLOAT32)
log2_f64 = _compiled(_log2, FLOAT64)
log2_f32 = _compiled(_log2, FLOAT32)
log10_f64 = _compiled(_log10, FLOAT64)
log10_f32 = _compiled(_log10, FLOAT32)
log1p_f64 = _compiled(_log1p, FLOAT64)
log1p_f32 = _compiled(_log1p, FLOAT32)
sin_f64 = _compiled(_sin, FLOAT64)
sin_f32 = _compiled(_sin, FLOAT32)
cos_f64 = _compiled(_cos, FLOAT64)
cos_f32 = _compiled(_cos, FLOAT32)
sinh_f64 = _compiled(_sinh, FLOAT64)
sinh_f32 = _compiled(_sinh, FLOAT32)
cosh_f64 = _compiled(_cosh, FLOAT64)
cosh_f32 = _compiled(_cosh, FLOAT32)
tanh_f64 = _compiled(_tanh, FLOAT64)
tanh_f32 = _compiled(_tanh, FLOAT32)
erf_f64 = _compiled(_erf, FLOAT64)
erf_f32 = _compiled(_erf, FLOAT32)
sigmoid_f64 = _compiled(_sigmoid, FLOAT64)
sigmoid_f32 = _compiled(_sigmoid, FLOAT32)

VECTORISED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "exp": {"d": exp_f64, "f": exp_f32},
        "exp2": {"d": exp2_f64, "f": exp2_f32},
        "expm1": {"d": expm1_f64, "f": expm1_f32},
        "log": {"d": log_f64, "f": log_f32},
        "log2": {"d": log2_f64, "f": log2_f32},
        "log10": {"d": log10_f64, "f": log10_f32},
        "log1p": {"d": log1p_f64, "f": log1p_f32},
        "sin": {"d": sin_f64, "f": sin_f32},
        "cos": {"d": cos_f64, "f": cos_f32},
        "sinh": {"d": sinh_f64, "f": sinh_f32},
        "cosh": {"d": cosh_f64, "f": cosh_f32},
        "tanh": {"d": tanh_f64, "f": tanh_f32},
        "erf": {"d": erf_f64, "f": erf_f32},
        "sigmoid": {"d": sigmoid_f64, "f": sigmoid_f32},
    }
)
"""What compiled code calls, by NumPy's name of the function (``erf``: SciPy's, ``sigmoid``:
the formula of ``mfops_nn.Sigmoid``) and NumPy's character of the dtype."""
