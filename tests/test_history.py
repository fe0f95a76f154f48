"""The history of a training: its table, its picture, what it prints as."""

import builtins

import numpy as np
import pytest
from matplotlib.figure import Figure

import mfcore as mf
from mfops_nn import MSE
from mfoptim import SGD, FitError, History, MissingPackageError, Stopped, fit

PNG = b"\x89PNG\r\n\x1a\n"


def history(loss, validation_loss=()):
    session = mf.Session(mf.Parameter(np.zeros(1)))
    stopped = Stopped("finished", len(loss), f"Finished after {len(loss)} epochs.")
    return History(
        session, list(loss), list(validation_loss), [0.5] * len(loss), 3 * len(loss), stopped
    )


def test_a_fitted_history_has_a_value_for_each_epoch():
    x, w = mf.Input("x"), mf.Parameter(np.zeros(1), name="w")

    fitted = fit(MSE(x, w), {x: np.ones(1)}, SGD(0.25), epochs=3, seed=0)

    assert fitted.loss == [1.0, 0.25, 0.0625]
    assert fitted.validation_loss == []
    assert len(fitted.seconds) == 3
    assert all(seconds > 0 for seconds in fitted.seconds)
    assert fitted.steps == 3
    assert fitted.problems == []
    assert fitted.stopped == Stopped("finished", 3, "Finished after 3 epochs.")
    assert repr(fitted) == "<History of 3 epochs, loss 1 -> 0.0625, finished>"


def test_the_table_shows_the_columns_aligned():
    table = history([10.0, 2.5], [11.0, 3.0]).table()

    assert table.splitlines() == [
        "epoch  loss  validation loss  seconds",
        "    1    10               11      0.5",
        "    2   2.5                3      0.5",
    ]


@pytest.mark.parametrize(
    ("count", "rows", "epochs"),
    [
        (3, 10, [1, 2, 3]),
        (100, 10, [1, 12, 23, 34, 45, 56, 67, 78, 89, 100]),
        (100, 2, [1, 100]),
        (100, 1, [100]),
        (1, 5, [1]),
    ],
)
def test_the_table_spreads_its_rows_from_the_first_epoch_to_the_last(count, rows, epochs):
    lines = history(np.linspace(9, 1, count)).table(rows).splitlines()

    assert [int(line.split()[0]) for line in lines[1:]] == epochs


def test_the_table_of_an_unfinished_first_epoch_says_so():
    assert history([]).table() == "no epoch was finished"


def test_a_table_without_rows_is_refused():
    with pytest.raises(FitError, match="at least one row, not 0"):
        history([1.0]).table(0)


def test_plot_saves_a_png_and_returns_its_path(tmp_path):
    target = tmp_path / "loss.png"

    path = history([3.0, 2.0, 1.0]).plot(target)

    assert path == target
    assert target.read_bytes().startswith(PNG)


def test_plot_saves_a_png_where_the_name_has_no_ending(tmp_path):
    assert history([3.0]).plot(str(tmp_path / "loss")).read_bytes().startswith(PNG)


def test_plot_saves_what_the_ending_says(tmp_path):
    assert b"<svg" in history([3.0]).plot(tmp_path / "loss.svg").read_bytes()


def test_plot_labels_its_axes_and_draws_both_curves():
    figure = history([3.0, 2.0, 1.0], [4.0, 3.0, 3.5]).plot()

    (ax,) = figure.axes
    training, validation = ax.lines
    assert isinstance(figure, Figure)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
    assert list(training.get_xdata()) == [1, 2, 3]
    assert list(training.get_ydata()) == [3.0, 2.0, 1.0]
    assert list(validation.get_ydata()) == [4.0, 3.0, 3.5]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training", "validation"]
    assert ax.get_yscale() == "linear"


def test_plot_draws_into_given_axes_on_a_log_scale():
    ax = Figure().add_subplot()

    returned = history([3.0, 2.0]).plot(ax=ax, log=True)

    assert returned is ax
    assert len(ax.lines) == 1
    assert ax.get_yscale() == "log"


def test_a_single_epoch_is_drawn_visibly():
    (ax,) = history([3.0]).plot().axes

    assert ax.lines[0].get_marker() == "o"


@pytest.mark.parametrize("loss", [[], [np.nan, np.nan], [1.0, np.inf]])
@pytest.mark.parametrize("log", [False, True])
def test_losses_that_cannot_be_drawn_still_give_a_picture(tmp_path, loss, log):
    assert history(loss).plot(tmp_path / "loss.png", log=log).exists()


def test_plot_leaves_matplotlibs_global_state_alone():
    import matplotlib.pyplot as plt

    history([3.0]).plot()

    assert plt.get_fignums() == []


def test_plot_without_matplotlib_says_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)

    with pytest.raises(MissingPackageError, match=r'pip install "mfoptim\[plot\]"'):
        history([3.0]).plot()
