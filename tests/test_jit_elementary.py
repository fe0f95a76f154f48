"""Elementary functions of compiled code: accuracy, special values, and that they vectorise."""

from __future__ import annotations

import functools
import math
import platform
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mfops_nn import Sigmoid

numba = pytest.importorskip("numba", reason="compiled code needs numba")
VECTORISED = pytest.importorskip("mfjit.elementary").VECTORISED

FUNCTIONS = sorted(VECTORISED)
DTYPES = ("d", "f")
LOGARITHMS = {"log", "log2", "log10", "log1p"}
WIDER = {"d": np.longdouble, "f": np.float64}
each_function = pytest.mark.parametrize("name", FUNCTIONS)
each_dtype = pytest.mark.parametrize("char", DTYPES, ids=["float64", "float32"])


def compile_loop(function, char, **options):
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    array = numba.from_dtype(np.dtype(char))[::1]
    return numba.njit(numba.void(array, array), error_model="numpy", **options)(loop)


@functools.cache
def compiled(name, char):
    return compile_loop(VECTORISED[name][char], char)


def apply(loop, x):
    out = np.empty_like(x)
    loop(x, out)
    return out


def erf_reference(x):
    """The series of positive terms ``2 / sqrt(pi) exp(-x**2) sum (2 x**2)**n x / (2n + 1)!!``.

    Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 7.1.6.
    """
    x = np.clip(x, -7, 7)  # 1 - erf(7) is 4e-23
    term = x.copy()
    total = x.copy()
    for n in range(1, 250):
        term = term * (2 * x * x / (2 * n + 1))
        total = total + term
    return total * np.exp(-x * x) * 2 / np.sqrt(4 * np.arctan(x.dtype.type(1)))


def reference(name, x):
    """What the function should be at `x`, in a wider format."""
    wide = x.astype(WIDER[x.dtype.char])
    with np.errstate(all="ignore"):
        if name == "erf":
            return erf_reference(wide)
        if name == "sigmoid":
            limit = np.log(np.finfo(x.dtype).max)
            return 1 / (1 + np.exp(-np.maximum(wide, -np.nextafter(limit, x.dtype.type(0)))))
        return getattr(np, name)(wide)


def error_in_ulp(result, exact):
    """Distance in units of the last place that `exact` has in the format of `result`."""
    info = np.finfo(result.dtype)
    bound = np.ldexp(exact.dtype.type(1), info.maxexp)  # infinity, one more than the greatest
    exact = np.clip(exact, -bound, bound)
    got = np.clip(result.astype(exact.dtype), -bound, bound)
    exponent = np.maximum(np.frexp(exact)[1] - 1, info.minexp)
    exponent = np.where(exact == 0, info.minexp, np.minimum(exponent, info.maxexp - 1))
    return np.abs(got - exact) / np.ldexp(exact.dtype.type(1), exponent - info.nmant)


def assert_within_two_ulp(name, x):
    if np.finfo(WIDER[x.dtype.char]).nmant < np.finfo(x.dtype).nmant + 10:
        pytest.skip("long double is no wider than float64 here: no reference")
    result = apply(compiled(name, x.dtype.char), x)
    exact = reference(name, x)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(exact))
    error = error_in_ulp(result[~np.isnan(exact)], exact[~np.isnan(exact)])
    worst = np.argmax(error)
    assert error[worst] <= 2, f"{name}({x[~np.isnan(exact)][worst]!r}) is {error[worst]} ulp off"


def domain(name, x):
    """Arguments that the function takes, made of any."""
    if name == "log1p":
        return np.where(x < -1, -x, x)
    return np.abs(x) if name in LOGARITHMS else x


def samples(char):
    """Arguments of every size, and many where some function changes its course."""
    rng = np.random.default_rng(20)
    dtype, info = np.dtype(char), np.finfo(char)
    integer = np.dtype(f"i{dtype.itemsize}")
    any_bits = rng.integers(0, info.max.view(integer), 20_000, dtype=integer).view(dtype)
    greatest = float(np.log(info.max))
    near_one = 1 + np.ldexp(rng.uniform(-1, 1, 4_000), -rng.integers(1, info.nmant, 4_000))
    quarter_turns = np.arange(-2_000, 2_000) * (math.pi / 2)
    halves = (np.arange(-200, 200) + 0.5) * math.log(2)
    ends = [info.smallest_subnormal, info.smallest_normal, info.max, info.eps, 0.625, 1.0, 2.0]
    # The float64 and the float32 nearest to a multiple of pi / 2 (Muller, Elementary Functions).
    ends += [float(np.ldexp(6381956970095103.0, 797 if char == "d" else 20)), 16367173.0 * 2.0**72]
    parts = [
        any_bits,
        -any_bits,
        rng.uniform(-1, 1, 20_000),
        rng.uniform(-30, 30, 20_000),
        rng.uniform(-1.6 * greatest, 1.6 * greatest, 20_000),  # with subnormal results of exp
        near_one,
        -near_one,
        quarter_turns,
        halves,
        ends,
        np.nextafter(np.asarray(ends, char), dtype.type(0)),
        np.negative(ends),
    ]
    return np.concatenate([np.asarray(part).astype(dtype) for part in parts])


@each_dtype
@each_function
def test_results_are_within_two_units_in_the_last_place(name, char):
    assert_within_two_ulp(name, domain(name, samples(char)))


@each_function
@given(x=st.floats(allow_nan=False, allow_infinity=False))
@example(x=5e-324)
@example(x=-745.1332191019411)
@example(x=709.782712893384)
def test_any_float64_is_within_two_units_in_the_last_place(name, x):
    assert_within_two_ulp(name, domain(name, np.array([x])))


@each_function
@given(x=st.floats(width=32, allow_nan=False, allow_infinity=False))
@example(x=-103.97207641601562)
@example(x=88.72283935546875)
def test_any_float32_is_within_two_units_in_the_last_place(name, x):
    assert_within_two_ulp(name, domain(name, np.array([x], "f")))


def test_an_error_of_three_units_in_the_last_place_is_seen():
    one = np.ones(1)
    off = one + 3 * np.finfo("d").eps

    assert error_in_ulp(off, one.astype(np.longdouble)) == 3
    assert error_in_ulp(np.array([15e-324]), np.array([0], np.longdouble)) == 3
    assert error_in_ulp(np.array([np.inf]), np.array([np.finfo("d").max], np.longdouble)) == 1


def numpy_function(name):
    if name == "sigmoid":
        return Sigmoid.forward
    if name == "erf":
        return np.vectorize(math.erf, otypes="d")
    return getattr(np, name)


@each_dtype
@each_function
def test_special_values_are_as_numpy_has_them(name, char):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], char)
    with np.errstate(all="ignore"):
        expected = numpy_function(name)(x).astype(char)

    result = apply(compiled(name, char), x)

    if name == "sigmoid":  # at -inf: less than the smallest normal number, and no exact value
        np.testing.assert_allclose(result[2], expected[2], rtol=0, atol=np.finfo(char).tiny / 100)
        result[2] = expected[2]
    np.testing.assert_array_equal(result, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result[numbers]), np.signbit(expected[numbers]))


@each_dtype
@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("log", -1.0, math.nan),
        ("log", 1.0, 0.0),
        ("log2", -1.0, math.nan),
        ("log2", 8.0, 3.0),
        ("log10", -1e-30, math.nan),
        ("log10", 1000.0, 3.0),
        ("log1p", -1.0, -math.inf),
        ("log1p", -1.5, math.nan),
        ("exp", 1e30, math.inf),
        ("exp", -1e30, 0.0),
        ("exp2", -3.0, 0.125),
        ("expm1", -1e30, -1.0),
        ("expm1", 1e30, math.inf),
        ("sinh", -1e30, -math.inf),
        ("cosh", -1e30, math.inf),
        ("tanh", -1e30, -1.0),
        ("erf", 1e30, 1.0),
        ("sigmoid", 1e30, 1.0),
    ],
)
def test_exact_values(name, char, x, expected):
    result = apply(compiled(name, char), np.array([x], char))

    np.testing.assert_array_equal(result, np.array([expected], char))


@each_dtype
@pytest.mark.parametrize("name", ["sin", "sinh", "tanh", "expm1", "log1p"])
def test_tiny_arguments_are_their_own_values(name, char):
    rng = np.random.default_rng(3)
    subnormal = rng.uniform(-1, 1, 500) * np.finfo(char).smallest_normal
    small = np.ldexp(rng.uniform(-1, 1, 500), rng.integers(-120, -60, 500))
    x = np.concatenate([subnormal, small]).astype(char)

    np.testing.assert_array_equal(apply(compiled(name, char), x), x)


@each_dtype
@each_function
def test_bits_do_not_depend_on_the_place_in_the_array(name, char):
    x = domain(name, samples(char)[::173].copy())
    loop = compiled(name, char)
    whole = apply(loop, x)
    bits = f"u{x.itemsize}"

    shifted = apply(loop, np.concatenate([x[-3:], x]))[3:]
    alone = np.concatenate([apply(loop, x[i : i + 1]) for i in range(x.size)])

    np.testing.assert_array_equal(shifted.view(bits), whole.view(bits))
    np.testing.assert_array_equal(alone.view(bits), whole.view(bits))


@each_dtype
@pytest.mark.parametrize("name", ["expm1", "log1p", "sin", "erf"])
def test_fast_mathematics_around_them_stays_outside(name, char):
    x = domain(name, samples(char)[::7].copy())
    loop = compile_loop(VECTORISED[name][char], char, fastmath={"reassoc", "contract", "nsz"})

    np.testing.assert_array_equal(apply(loop, x), apply(compiled(name, char), x))


def called_names(loop):
    """Names that the machine code loads as addresses or calls."""
    assembly = "\n".join(loop.inspect_asm().values())
    return set(re.findall(r"(?:movabsq\s+\$|callq\s+|jmp\s+)([A-Za-z]\w*)", assembly))


on_x86 = pytest.mark.skipif(
    platform.machine().lower() not in {"x86_64", "amd64"}, reason="reads x86 machine code"
)


@on_x86
@each_dtype
@each_function
def test_loops_become_vector_instructions_without_calls(name, char):
    loop = compiled(name, char)
    assembly = "\n".join(loop.inspect_asm().values())

    packed, other = ("pd", "ps") if char == "d" else ("ps", "pd")
    assert re.search(rf"\bv?mul{packed}\b", assembly)
    assert not re.search(rf"\bv?(mul|add|div){other}\b", assembly)
    assert not re.search(r"\bv?cvt(ps2pd|pd2ps|ss2sd|sd2ss)\b", assembly)
    assert not {name, f"{name}f"} & called_names(loop)
    assert not {"exp", "expf", "log", "logf", "fma", "fmaf"} & called_names(loop)


@on_x86
def test_a_call_of_the_c_library_is_seen_in_machine_code():
    assert "exp" in called_names(compile_loop(math.exp, "d"))


def test_arguments_are_cast_to_the_format():
    exp_f64, exp_f32 = VECTORISED["exp"]["d"], VECTORISED["exp"]["f"]

    @numba.njit
    def both(x):
        return exp_f64(x), exp_f32(x)

    double, single = both(1)

    np.testing.assert_allclose(double, math.e, rtol=1e-15)
    np.testing.assert_allclose(single, math.e, rtol=1e-6)
    assert list(both.nopython_signatures[0].return_type) == [numba.float64, numba.float32]


KERNEL = """
import numba
from mfjit.elementary import exp_f64, sin_f32

@numba.njit(cache=True, error_model="numpy")
def kernel(x):
    return exp_f64(x) + sin_f32(x)
"""
CALL = """
import kernel_module
print(kernel_module.kernel(0.5).hex(), sum(kernel_module.kernel.stats.cache_hits.values()))
"""


def test_functions_that_call_them_are_found_in_the_disk_cache(tmp_path, fresh_python):
    (tmp_path / "kernel_module.py").write_text(KERNEL, encoding="utf-8")
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    first_value, first_hits = fresh_python(CALL, tmp_path, **cache).split()
    second_value, second_hits = fresh_python(CALL, tmp_path, **cache).split()

    assert (first_hits, second_hits) == ("0", "1")
    assert first_value == second_value
