"""Constants of the elementary functions: the formats of floats, and polynomials for each.

The polynomials are minimax approximations, found with Remez' exchange algorithm in 45
digits of precision and then rounded; the errors stated are those before rounding.
"""

from __future__ import annotations

from functools import cache

import attrs


@attrs.frozen
class Constants:
    """What the formulas need to know of one format of floats.

    Attributes
    ----------
    char : str
        NumPy's character for the format, ``d`` or ``f``.
    fraction_bits : int
        Bits of the fraction, the leading one not counted.
    exponent_bias : int
        The exponent's bits for 1.
    ln_2, log10_2 : tuple of float
        Logarithms of 2 in two parts, of which the first has zeros enough at its end that its
        product with any exponent is exact.
    reciprocal_ln_2, reciprocal_ln_10, half_pi : tuple of float
        In two parts, the first being as close as the format allows.
    exp_range : tuple of float
        Below it exp is 0, above it infinite; both ends are integers.
    sigmoid_range : tuple of float
        Of ``-x``: where ``1 + exp(-x)`` is 1, and the greatest for which ``exp(-x)`` is finite.
    tanh_end : float
        From there on tanh is 1.
    erf_end : float
        From there on erf is 1.
    exponential
        ``(exp(x) - 1 - x) / x**2`` for ``abs(x) <= ln(2) / 2``.
    exponential_base_2
        ``(2**x - 1) / x`` for ``abs(x) <= 1 / 2``.
    logarithm
        ``(log((1 + s) / (1 - s)) - 2 * s) / s**3`` in the square of ``s``, for
        ``abs(s) <= 0.1716``.
    sine
        ``(sin(x * pi / 2) - x * pi / 2) / x**3`` in the square of x, ``abs(x) <= 1 / 2``.
    cosine
        ``(cos(x * pi / 2) - 1) / x**2`` in the square of x, ``abs(x) <= 1 / 2``.
    sinh_near
        ``(sinh(x) / x - 1) / x**2`` in the square of x, ``abs(x) <= 1``.
    tanh_near
        ``(tanh(x) / x - 1) / x**2`` in the square of x, ``abs(x) <= 5 / 8``.
    erf_near
        ``erf(x) / x - 1`` in the square of x, ``abs(x) <= 1``.
    erf_far
        ``log(1 - erf(x))`` in ``x - 1`` from x = 1 to `erf_end`; the error is weighted with
        ``1 - erf(x)``, which is how it reaches the result.
    """

    char: str
    fraction_bits: int
    exponent_bias: int
    ln_2: tuple[float, float]
    log10_2: tuple[float, float]
    reciprocal_ln_2: tuple[float, float]
    reciprocal_ln_10: tuple[float, float]
    half_pi: tuple[float, float]
    exp_range: tuple[float, float]
    sigmoid_range: tuple[float, float]
    tanh_end: float
    erf_end: float
    exponential: tuple[float, ...]
    exponential_base_2: tuple[float, ...]
    logarithm: tuple[float, ...]
    sine: tuple[float, ...]
    cosine: tuple[float, ...]
    sinh_near: tuple[float, ...]
    tanh_near: tuple[float, ...]
    erf_near: tuple[float, ...]
    erf_far: tuple[float, ...]

    @property
    def sign_bit(self) -> int:
        """The sign's bit, as a signed integer."""
        return -2 * (self.exponent_bias + 1) << self.fraction_bits

    @property
    def fraction_mask(self) -> int:
        """The fraction's bits."""
        return (1 << self.fraction_bits) - 1

    @property
    def bits_of_one(self) -> int:
        """The bits of 1."""
        return self.exponent_bias << self.fraction_bits

    @property
    def rounding_shift(self) -> float:
        """Adding it rounds a small number to an integer."""
        return 1.5 * 2.0**self.fraction_bits

    @property
    def smallest_normal(self) -> float:
        """The smallest number of full precision."""
        return float(2.0 ** (1 - self.exponent_bias))

    @property
    def half_precision_bits(self) -> int:
        """So many bits, times so many or one more, make an exact product."""
        return (self.fraction_bits + 1) // 2


FLOAT64 = Constants(
    char="d",
    fraction_bits=52,
    exponent_bias=1023,
    ln_2=(0.693147180559663, 2.8235290563031577e-13),
    log10_2=(0.30102999566383914, 1.42050232272661e-13),
    reciprocal_ln_2=(1.4426950408889634, 2.0355273740931033e-17),
    reciprocal_ln_10=(0.4342944819032518, 1.098319650216765e-17),
    half_pi=(1.5707963267948966, 6.123233995736766e-17),
    exp_range=(-746.0, 710.0),
    sigmoid_range=(-64.0, 709.7827128933839),
    tanh_end=22.0,
    erf_end=6.0,
    # error 2**-57.1 of exp, at most 2**-55.6 of expm1
    exponential=(
        0.5000000000000006,
        0.16666666666666688,
        0.041666666666573794,
        0.008333333333313798,
        0.0013888888932377884,
        0.00019841269904603292,
        2.4801504411324858e-05,
        2.755722663503268e-06,
        2.7626349660919387e-07,
        2.5114871265627552e-08,
    ),
    # 2**-58.0
    exponential_base_2=(
        0.6931471805599453,
        0.2402265069591013,
        0.055504108664821736,
        0.009618129107593975,
        0.00133335581463799,
        0.000154035304573723,
        1.5252733866878805e-05,
        1.3215435132064477e-06,
        1.0178046692243358e-07,
        7.0738109370648915e-09,
        4.457357169100414e-10,
    ),
    # 2**-51.5 of the polynomial, which is a hundredth of the logarithm
    logarithm=(
        0.666666666666667,
        0.39999999999897184,
        0.2857142862697081,
        0.2222221097973826,
        0.1818289998564567,
        0.15331372570194027,
        0.14620639861633822,
    ),
    # 2**-57.3
    sine=(
        -0.645964097506245,
        0.07969262624606505,
        -0.004681754132648853,
        0.00016044115280106392,
        -3.5986499070604007e-06,
        5.634732117298229e-08,
    ),
    # 2**-64.7
    cosine=(
        -1.2337005501361697,
        0.253669507901047,
        -0.020863480763316167,
        0.0009192602742319155,
        -2.5202037024759374e-05,
        4.710616441231004e-07,
        -6.321963195151275e-09,
    ),
    # 2**-63.1
    sinh_near=(
        0.16666666666666669,
        0.00833333333333314,
        0.00019841269841437144,
        2.7557319155432666e-06,
        2.5052123392245818e-08,
        1.605724027899684e-10,
        7.75932792587021e-13,
    ),
    # 2**-56.4
    tanh_near=(
        -0.33333333333332926,
        0.1333333333326955,
        -0.05396825393410701,
        0.021869487631366338,
        -0.008863221632976042,
        0.0035919936761979222,
        -0.0014549796119177581,
        0.0005863780687277971,
        -0.0002286778674324914,
        7.726324389860289e-05,
        -1.612634612633569e-05,
    ),
    # 2**-57.0
    erf_near=(
        0.12837916709551256,
        -0.37612638903183543,
        0.11283791670945159,
        -0.02686617064326027,
        0.0052239776072865625,
        -0.000854832598287394,
        0.0001205529510940345,
        -1.4924740484580211e-05,
        1.6447464712183857e-06,
        -1.6208760270995594e-07,
        1.3721137893742711e-08,
        -7.797685989081661e-10,
    ),
    # 2**-57.0
    erf_far=(
        -1.8496055099332482,
        -2.6389675142347757,
        -0.8431072563594126,
        -0.041561098025079804,
        0.010033825179109128,
        -0.001977901215682625,
        0.00023731643417167808,
        2.6296328871497835e-05,
        -2.7198977151833348e-05,
        9.671384375687877e-06,
        -2.1319486025496395e-06,
        2.0481935585374576e-07,
        5.800712771294279e-08,
        -3.338936912029649e-08,
        8.518224359116803e-09,
        -1.318999506482268e-09,
        1.1931444751323681e-10,
        -4.864459575671305e-12,
    ),
)
FLOAT32 = Constants(
    char="f",
    fraction_bits=23,
    exponent_bias=127,
    ln_2=(0.693145751953125, 1.4286068e-06),
    log10_2=(0.301025390625, 4.605039e-06),
    reciprocal_ln_2=(1.4426950216293335, 1.925963e-08),
    reciprocal_ln_10=(0.4342944622039795, 1.9699272e-08),
    half_pi=(1.570796251296997, 7.54979e-08),
    exp_range=(-106.0, 89.0),
    sigmoid_range=(-32.0, 88.72283172607422),
    tanh_end=10.0,
    erf_end=4.0,
    # error 2**-33.5 of exp, at most 2**-32.0 of expm1
    exponential=(0.5, 0.16666667, 0.041666355, 0.008333273, 0.0013941017, 0.0001991422),
    # 2**-28.9
    exponential_base_2=(
        0.6931472,
        0.2402265,
        0.05550329,
        0.009618005,
        0.0013399934,
        0.0001547609,
    ),
    # 2**-22.4
    logarithm=(0.66666687, 0.3998867, 0.29584265),
    # 2**-27.4
    sine=(-0.64596367, 0.0796816, -0.0046053287),
    # 2**-34.1
    cosine=(-1.2337005, 0.25366923, -0.020860296, 0.00090403063),
    # 2**-34.0
    sinh_near=(0.16666667, 0.0083333505, 0.00019836063, 2.8174622e-06),
    # 2**-27.8
    tanh_near=(
        -0.33333284,
        0.1333151,
        -0.05374462,
        0.02065334,
        -0.0057193665,
    ),
    # 2**-29.7
    erf_near=(
        0.12837917,
        -0.37612626,
        0.112835996,
        -0.026854403,
        0.005189446,
        -0.00080199586,
        7.885883e-05,
    ),
    # 2**-29.8
    erf_far=(
        -1.8496056,
        -2.6389668,
        -0.8431183,
        -0.041500688,
        0.009890887,
        -0.0018261585,
        0.00018557247,
    ),
)


TWO_OVER_PI_PAIRS = 4
TWO_OVER_PI_ROWS = 128


def two_over_pi_lowest(constants: Constants, part: int) -> int:
    """Exponent of the last bit of a part of ``2 / pi``; that of the third one's first bit is 1."""
    return 2 + constants.half_precision_bits * (1 - part)


@cache
def two_over_pi(constants: Constants, pair: int) -> tuple[float, ...]:
    """Two parts of ``2 / pi * 2**e``, its highest bits left out, for exponents e in steps.

    Parameters
    ----------
    constants : Constants
        The format of the float.
    pair : int
        Parts ``2 * pair`` and ``2 * pair + 1``, each of ``constants.half_precision_bits`` bits.

    Returns
    -------
    tuple of float
        Sums of the two, one for each of `TWO_OVER_PI_ROWS` exponents from 0 on; the step is
        such that the last one is near the greatest exponent of the format.
    """
    step = (constants.exponent_bias + 1) // TWO_OVER_PI_ROWS
    width = 2 * constants.half_precision_bits
    bits = constants.exponent_bias + TWO_OVER_PI_PAIRS * width + 64
    fraction = (1 << 2 * bits + 1) // _pi(bits)
    lowest = two_over_pi_lowest(constants, 2 * pair + 1)
    return tuple(
        float(((fraction << step * row) >> bits + lowest) % (1 << width)) * 2.0**lowest
        for row in range(TWO_OVER_PI_ROWS)
    )


def _pi(bits: int) -> int:
    """``pi * 2**bits``, by Machin's formula ``pi / 4 = 4 * arctan(1 / 5) - arctan(1 / 239)``."""
    one = 1 << bits + 32
    return 4 * (4 * _arctangent_of_reciprocal(5, one) - _arctangent_of_reciprocal(239, one)) >> 32


def _arctangent_of_reciprocal(n: int, one: int) -> int:
    """``arctan(1 / n) * one``, by its power series."""
    total, power, k = 0, one // n, 1
    while power:
        total += power // k if k % 4 == 1 else -(power // k)
        power //= n * n
        k += 2
    return total
