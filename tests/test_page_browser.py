"""The page of a recording, in a real browser: what people see, click, type and hear read out."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

import mfcore as mf
import mftrace
from mfops_nn import MSE, Conv2D, CrossEntropy, Flatten, Linear, MaxPool2D, ReLU, Sigmoid
from mfoptim import SGD

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
HOSTILE = "<script>alert(1)</script>"
STEPS = 6
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


def train(cost, feeds, **options):
    session = mf.Session(cost)
    with mf.tracing("record", **options) as record:
        for _ in range(STEPS):
            session.step(feeds, SGD(learning_rate=0.1))
    return record.recording


def network():
    rng = np.random.default_rng(0)
    X, y = mf.Input("X"), mf.Input("y")
    W1, b1 = (
        mf.Parameter(rng.normal(size=(13, 10)), name="W1"),
        mf.Parameter(np.zeros(10), name="b"),
    )
    W2, b2 = mf.Parameter(rng.normal(size=(10, 1)), name=HOSTILE), mf.Parameter([0.0], name="b2")
    cost = MSE(y, Linear(Sigmoid(Linear(X, W1, b1)), W2, b2))
    return train(cost, {X: rng.normal(size=(11, 13)), y: rng.normal(size=11)})


def images():
    rng = np.random.default_rng(0)
    x, y = mf.Input("images"), mf.Input("labels")
    W, b = (
        mf.Parameter(rng.normal(size=(4, 1, 3, 3)), name="W"),
        mf.Parameter(np.zeros(4), name="b"),
    )
    V, c = mf.Parameter(rng.normal(size=(64, 3)), name="V"), mf.Parameter(np.zeros(3), name="c")
    layer = MaxPool2D(ReLU(Conv2D(x, W, b, padding="same")))
    cost = CrossEntropy(y, Linear(Flatten(layer), V, c))
    return train(cost, {x: rng.normal(size=(5, 1, 8, 8)), y: [0, 1, 2, 1, 0]})


def summaries():
    x, y = mf.Input("x"), mf.Input("y")
    cost = MSE(
        y, Linear(x, mf.Parameter(np.ones((90, 1)), name="W"), mf.Parameter([0.0], name="b"))
    )
    return train(cost, {x: np.ones((70, 90)), y: np.zeros(70)}, arrays="summary")


def one_run():
    x = mf.Input("x")
    session = mf.Session(x * x + x)
    with mf.tracing("record") as record, np.errstate(all="ignore"):
        session.run({x: [[1.5, np.nan], [np.inf, -2e300]]}).backward(grad=np.ones((2, 2)), wrt=[x])
    return record.recording


RECORDINGS = {"network": network, "images": images, "summaries": summaries, "one_run": one_run}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Each recording, and the file of its page."""
    folder, made = tmp_path_factory.mktemp("pages"), {}

    def get(name):
        if name not in made:
            recording = RECORDINGS[name]()
            made[name] = recording, mftrace.save_report(recording, folder / f"{name}.html")
        return made[name]

    return get


@pytest.fixture
def visit(browser, recorded):
    """Open a page; at the end nothing must have gone wrong in it, or been asked of a network."""
    said, asked, contexts, opened = [], [], [], set()

    def open_page(name="network", address="", width=1280, height=900, **options):
        _, path = recorded(name)
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url.partition("#")[0]))
        opened.add(path.as_uri())
        page.goto(path.as_uri() + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert set(asked) <= opened


def now(page):
    return page.locator("#now").inner_text()


def moments(recording, run=0):
    """Return what the page says of each moment of a run."""
    events = [e for p in recording.passes if p.run == run for e in p.events]
    return [f"{i} of {len(events)}: {e.phase} of {e.node.name}" for i, e in enumerate(events, 1)]


def to(page, moment):
    page.locator("#moment").fill(str(moment))


def turn(recording, phase, name):
    """Return which moment of a run is a node's, counted from 1."""
    told = [text.partition(": ")[2] for text in moments(recording)]
    return told.index(f"{phase} of {name}") + 1


def figure(page, label):
    return page.locator(f'figure:has([aria-label^="{label}"])')


def reading(text):
    """Return what is read of a matrix, ``[0, 1] = 2.5``, as a place and a number."""
    place, _, number = text.rpartition(" = ")
    return place, float(number.replace(MINUS, "-"))


def six_digits(value):
    return pytest.approx(float(value), rel=1e-5)


def test_a_page_opens_at_the_first_node_with_its_value_and_formula(visit, recorded):
    page = visit()

    assert page.title() == "network · MiniFlow"
    assert now(page) == moments(recorded("network")[0])[0]
    assert page.locator(".box").count() == len(recorded("network")[0].graph)
    assert page.locator(".box.lit text.title").text_content() == "y"
    to(page, turn(recorded("network")[0], "forward", "linear_1"))
    assert page.locator("#node-title").inner_text().startswith("linear_1")
    assert page.locator(".formula").inner_text() == "value = X @ W + b"


def test_stepping_shows_what_was_recorded_in_its_order(visit, recorded):
    page, told = visit(), moments(recorded("network")[0])
    seen = [now(page)]

    for _ in told[1:]:
        page.click("#next")
        seen.append(now(page))

    assert seen == told
    page.click("#next")  # goes on with the next step
    assert page.locator("#step").input_value() == "2"
    assert now(page) == told[0]
    page.click("#previous")
    assert (page.locator("#step").input_value(), now(page)) == ("1", told[-1])
    page.click("#first")
    assert now(page) == told[0]
    page.click("#last")
    assert now(page) == told[-1]


def test_the_slider_goes_to_any_moment_and_lights_its_node(visit, recorded):
    page, told = visit(), moments(recorded("network")[0])

    for moment in (len(told), 3, 12):
        to(page, moment)
        assert now(page) == told[moment - 1]
        name = told[moment - 1].rpartition(" of ")[2]
        assert page.locator(".lit > title").text_content() == name
        before = [text for text in told[:moment] if ": forward" in text]
        assert page.locator(".has-value").count() == len(before)


def test_playing_goes_on_until_it_is_stopped(visit, recorded):
    page, told = visit(), moments(recorded("network")[0])
    page.clock.install()
    page.select_option("#speed", "slow")

    page.click("#play")
    assert page.locator("#play").inner_text() == "Stop"
    page.clock.run_for(3 * 1600)
    assert now(page) == told[3]
    page.click("#play")
    page.clock.run_for(10_000)

    assert now(page) == told[3]
    assert page.locator("#play").inner_text() == "Play"


def test_playing_stops_at_the_end(visit):
    page = visit("one_run", "#step=1&at=2")
    page.clock.install()
    page.click("#play")
    page.clock.run_for(60_000)
    assert page.locator("#play").inner_text() == "Play"
    first, last = re.match(r"(\d+) of (\d+)", now(page)).groups()
    assert first == last


def test_the_pointer_on_a_matrix_reads_its_numbers(visit, recorded):
    recording, _ = recorded("network")
    page = visit("network", f"#step=1&at={turn(recording, 'forward', 'X')}")
    values = recording.passes[0]["X"].value.array
    shown = figure(page, "value of X")
    box = shown.locator(".matrix canvas").bounding_box()

    for i, j in ((0, 0), (4, 7), (10, 12)):
        page.mouse.move(
            box["x"] + box["width"] * (j + 0.5) / 13, box["y"] + box["height"] * (i + 0.5) / 11
        )
        said = reading(shown.locator(".readout").inner_text())
        assert said == (f"[{i}, {j}]", six_digits(values[i, j]))


def test_the_keyboard_reads_the_same_numbers(visit, recorded):
    recording, _ = recorded("network")
    moment = turn(recording, "backward", "linear_1")
    page = visit("network", f"#step=3&at={moment}")
    back = next(p for p in recording.passes if p.step == 3 and p.phase == "backward")
    grad = back["linear_1"].grad
    box = page.get_by_role("slider", name=re.compile("^received from"))
    box.focus()

    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowLeft", "ArrowRight"):
        box.press(key)

    said = reading(box.get_attribute("aria-valuetext"))
    assert said == ("[2, 1]", six_digits(grad.array[2, 1]))
    box.press("End")
    said = reading(box.get_attribute("aria-valuetext"))
    assert said == ("[10, 9]", six_digits(grad.array[10, 9]))
    assert now(page).startswith(f"{moment} of")  # the arrows did not go to another moment


def test_gradients_show_what_came_from_each_consumer_and_their_sum(visit, recorded):
    recording, _ = recorded("one_run")
    page = visit("one_run")
    back = next(p for p in recording.passes if p.phase == "backward")
    to(page, turn(recording, "backward", "x"))

    groups = page.locator(".group")

    assert groups.nth(0).locator("h3").inner_text() == "Received"
    assert groups.nth(0).locator("figure").count() == len(back["x"].received) == 3
    assert groups.nth(1).locator("figcaption").inner_text().startswith("the sum of all 3 received")
    box = page.get_by_role("slider", name=re.compile("^gradient of x"))
    said = reading(box.get_attribute("aria-valuetext"))
    assert said == ("[0, 0]", six_digits(back["x"].grad.array[0, 0]))


def test_numbers_that_are_none_are_named(visit):
    box = visit("one_run").get_by_role("slider", name=re.compile("^value of x"))
    box.focus()
    said = []
    for _ in range(4):
        said.append(box.get_attribute("aria-valuetext").partition(" = ")[2])
        box.press("ArrowRight")
    assert said == ["1.5", "NaN", "inf", f"{MINUS}2e+300"]
    assert "NaN 1, infinite 1" in box.get_attribute("aria-label")


def test_search_finds_nodes_and_goes_to_them(visit):
    page = visit()
    page.fill("#search", "LINEAR")
    assert page.locator("#found").inner_text() == "2 nodes found"
    page.locator("#matches button", has_text="linear_2").click()
    assert now(page).endswith("forward of linear_2")
    page.locator("#search").press("Enter")
    assert now(page).endswith("forward of linear_1")  # the next of those found
    page.locator("#search").press("Escape")
    assert page.locator("#matches li").count() == 0
    page.fill("#search", "w1")
    assert page.locator("#matches button").inner_text() == "W1"
    page.fill("#search", "nothing like it")
    assert page.locator("#found").inner_text() == "0 nodes found"


def test_a_click_on_a_box_goes_to_its_node_in_the_same_phase(visit):
    page = visit()
    page.click("#last")
    page.locator(".box", has=page.locator("title", has_text=re.compile("^linear_1$"))).click()
    assert now(page).endswith("backward of linear_1")


def test_everything_is_reached_by_the_keyboard_alone(visit, recorded):
    page, told = visit("network", "#step=2&at=1"), moments(recorded("network")[0])
    name = "document.activeElement.id || document.activeElement.getAttribute('role') || document.activeElement.tagName"
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(name))
        if reached[-1] == "BODY":
            break

    wanted = ["skip", "theme", "first", "previous", "play", "next", "last", "speed", "moment"]
    wanted += ["previous-step", "step", "next-step", "slider", "search", "smaller", "larger", "fit"]
    assert reached == [*wanted, "drawing", "slider", "BODY"]  # the last is the way out again
    page.keyboard.press("ArrowRight")
    assert now(page) == told[1]
    page.keyboard.press("End")
    assert now(page) == told[-1]
    page.keyboard.press("ArrowLeft")
    assert now(page) == told[-2]
    page.keyboard.press("Home")
    assert now(page) == told[0]
    page.keyboard.press("PageDown")
    assert page.locator("#step").input_value() == "3"
    page.keyboard.press("PageUp")
    page.keyboard.press("PageUp")
    assert page.locator("#step").input_value() == "1"
    page.keyboard.press("Space")
    assert page.locator("#play").inner_text() == "Stop"
    page.keyboard.press("Space")
    assert page.locator("#play").inner_text() == "Play"
    page.locator("#next").focus()
    page.keyboard.press("Space")  # presses the button that has the focus, and no other
    assert now(page) == told[1]
    assert page.locator("#play").inner_text() == "Play"


def test_whoever_reads_a_matrix_by_keyboard_stays_there_in_the_next_step(visit):
    page = visit()
    page.get_by_role("slider", name=re.compile("^value of y")).focus()
    page.keyboard.press("PageDown")
    assert page.locator("#step").input_value() == "2"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
        "value of y"
    )


def test_a_step_can_be_typed_and_the_nearest_is_shown(visit):
    page = visit()
    for typed, shown in (("4", "4"), ("999", str(STEPS)), ("no step", str(STEPS))):
        page.fill("#step", typed)
        page.locator("#step").press("Enter")
        assert page.locator("#step").input_value() == shown


def test_the_loss_curve_marks_the_step_and_goes_where_it_is_clicked(visit, recorded):
    losses = recorded("network")[0].losses
    page = visit()
    curve = page.get_by_role("slider", name=re.compile("^Loss curve"))
    assert curve.get_attribute("aria-valuetext") == f"step 1, loss {losses[0]:.6g}"
    box = curve.bounding_box()

    page.mouse.click(box["x"] + box["width"] - 9, box["y"] + 40)

    assert page.locator("#step").input_value() == str(STEPS)
    assert f"loss {losses[-1]:.6g}" in page.locator("#about-step").inner_text()
    mark = page.locator("#curve .here").bounding_box()
    assert abs(mark["x"] - (box["x"] + box["width"] - 8)) < 3
    curve.press("ArrowLeft")
    assert curve.get_attribute("aria-valuetext") == f"step 5, loss {losses[4]:.6g}"
    curve.press("Home")
    assert page.locator("#step").input_value() == "1"


def test_an_address_leads_to_its_step_and_follows(visit, recorded):
    page, told = visit("network", "#step=4&at=7"), moments(recorded("network")[0])
    assert (page.locator("#step").input_value(), now(page)) == ("4", told[6])

    page.evaluate("location.hash = '#step=2'")
    playwright.expect(page.locator("#step")).to_have_value("2")
    assert now(page) == told[0]

    page.click("#next")
    playwright.expect(page).to_have_url(re.compile("#step=2&at=2$"))


@pytest.mark.parametrize("address", ["#step=", "#step=x&at=y", "#at=3", "#<b>", "#step=-1", "#%E0"])
def test_an_address_that_leads_nowhere_shows_the_beginning(visit, address):
    page = visit("network", address)
    assert now(page).startswith("1 of")


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_screen_of_320_pixels_needs_no_sideways_scrolling(visit, name):
    page = visit(name, width=320, height=640)
    width = "document.documentElement.scrollWidth"
    count = int(page.locator("#moment").get_attribute("max"))
    for moment in range(1, count + 1):
        to(page, moment)
        assert page.evaluate(width) <= 320, now(page)
    first, second = page.locator("#graph").bounding_box(), page.locator("#details").bounding_box()
    assert second["y"] > first["y"] + first["height"]


def test_a_hostile_name_is_shown_as_text(visit):
    page = visit()
    page.fill("#search", "<script>")
    page.locator("#matches button").click()

    assert page.locator("#node-title").inner_text().startswith(HOSTILE)
    assert now(page).endswith(HOSTILE)
    assert page.locator("script").count() == 2  # the data, and the page's own


def test_images_are_shown_as_tiles(visit, recorded):
    recording, _ = recorded("images")
    page = visit("images", f"#step=1&at={turn(recording, 'forward', 'images')}")
    values = recording.passes[0]["images"].value.array
    box = page.get_by_role("slider", name=re.compile("^value of images, float64 5 . 1 . 8 . 8,"))
    box.press("End")
    said = reading(box.get_attribute("aria-valuetext"))
    assert said == ("[4, 0, 7, 7]", six_digits(values[4, 0, 7, 7]))
    page.fill("#search", "conv2d_1")
    page.locator("#search").press("Enter")
    shown = figure(page, "value of conv2d_1").locator(".matrix canvas").bounding_box()
    assert shown["width"] > 4 * 8 * 3
    assert shown["height"] > 5 * 8 * 3
    assert shown["height"] > shown["width"]  # five rows of four tiles


def test_what_was_only_summarised_is_shown_as_summary(visit, recorded):
    page = visit("summaries")
    to(page, turn(recorded("summaries")[0], "forward", "x"))
    assert "Recorded as a summary: min 1, max 1, mean 1" in page.locator("#details").inner_text()
    assert page.get_by_role("img", name=re.compile("^Histogram of value of x")).count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_until_someone_chooses(visit, scheme):
    page = visit("network", color_scheme=scheme)
    other = {"light": "dark", "dark": "light"}[scheme]
    shown = "document.documentElement.dataset.theme"
    assert page.evaluate(shown) == scheme
    page.click("#theme")
    assert page.evaluate(shown) == other
    page.reload()
    assert page.evaluate(shown) == other


# Ratio of luminances as WCAG 2.2 defines it, of every text against what is behind it.
CONTRASTS = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.getClientRects().length || node.closest("svg, script, option")) continue;
    const a = light(parse(getComputedStyle(node).color)), b = light(behind(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, node.textContent.slice(0, 30)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_background(visit, scheme):
    page = visit("network", "#step=1&at=14", color_scheme=scheme)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 30
    assert [one for one in found if one[0] < 4.5] == []


def test_every_control_has_a_name_and_the_page_its_landmarks(visit):
    page = visit("network", "#step=1&at=14")
    snapshot = page.locator("body").aria_snapshot()
    controls = re.findall(
        r"^\s*- (button|slider|textbox|searchbox|combobox)\b(.*)$", snapshot, re.M
    )
    assert len(controls) > 15
    assert [role for role, rest in controls if not re.match(r' "[^"]+|:? .*\w', rest)] == []
    for landmark in ("banner", "main", "contentinfo", 'region "Graph"', 'region "Player"'):
        assert f"- {landmark}" in snapshot
    assert page.locator("#now").get_attribute("aria-live") == "polite"
