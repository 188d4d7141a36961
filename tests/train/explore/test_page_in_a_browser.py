"""The page in a real browser: what it shows is what the model says.

Needs the extra `browser` and a Chromium: Playwright's own, or one that is installed (Debian's package chromium).
Screenshots go to the folder that TINYTENSOR_SCREENSHOTS names, if it does.
"""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from models import GPT, GPTConfig
from models.generate import Sampling
from nn.compression.prune import choose, groups
from tests.train.explore.models_to_look_into import MODELS, SHORT, TEXT, made
from train.explore import page

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra: browser")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as player:
        installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        own = Path(player.chromium.executable_path).exists()
        if not own and installed is None:
            pytest.skip("there is no Chromium: playwright install chromium, or apt-get install chromium")
        browser = player.chromium.launch(executable_path=None if own else installed, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def collected():
    """name -> (model, tokenizer, the page's data), made when it is first asked for."""
    found = {}

    def get(name: str):
        if name not in found:
            model, tokenizer = made(name)
            found[name] = model, tokenizer, page.collect(model, tokenizer, SHORT, title=name)
        return found[name]

    return get


@pytest.fixture
def opened(browser, collected, tmp_path):
    """Opens the page of a model; at the end of the test nothing may have gone wrong in any."""
    wrong, contexts = [], []

    def open_page(name: str, width: int = 1200, scheme: str = "light"):
        path = tmp_path / "page.html"
        path.write_text(page.html(collected(name)[2]), encoding="utf-8")
        contexts.append(browser.new_context(viewport=dict(width=width, height=850), color_scheme=scheme, offline=True))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: wrong.append(request.url) if not request.url.startswith("file:") else None)
        tab.goto(path.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def keys(tab, where: str, *pressed: str) -> str:
    """Press keys in a view's picture; what it says then."""
    canvas = tab.locator(where)
    canvas.focus()
    for key in pressed:
        tab.keyboard.press(key)
    return canvas.locator("xpath=ancestor::div[1]/following-sibling::output[1]").inner_text()


def slide(tab, name: str, value: float) -> None:
    move = "(one, value) => { one.value = value; one.dispatchEvent(new Event('input')); }"
    tab.locator(f"#{name}").evaluate(move, value)


def shown(tab) -> dict[int | None, float]:
    """token -> its probability, of the rows of What comes next."""
    ids = tab.locator("#ahead .bars button").evaluate_all("all => all.map(one => one.dataset.id)")
    chances = tab.locator("#ahead [data-p]").evaluate_all("all => all.map(one => +one.dataset.p)")
    return {None if i == "null" else int(i): p for i, p in zip(ids, chances)}


def scores_of(data: dict, number: int, vocab_size: int) -> np.ndarray:
    node = data["ahead"]["nodes"][number]
    scores = np.full(vocab_size, np.nan, np.float32)
    scores[node["ids"]] = np.frombuffer(page.base64.b64decode(node["scores"]), "<f4")
    return scores


@pytest.mark.parametrize("name", MODELS)
def test_every_view_of_every_family_opens_without_an_error(name, opened, collected):
    tab, data = opened(name), collected(name)[2]
    views = tab.locator("main section").evaluate_all("all => all.map(one => one.id)")
    expected = ["tokens", "attention", "states", "stream", "ahead", "heads", "parameters", "graph"]
    there = dict(attention=data["attention"], states=data["states"], ahead=data["ahead"], heads=data["heads"])
    assert views == [view for view in expected if there.get(view, True)]
    assert tab.locator("nav a").count() == len(views)
    for view in views:
        assert data["where"][view] == tab.locator(f"#{view} .where code").inner_text()
        assert tab.locator(f"#{view}").bounding_box()["height"] > 60
    assert tab.title() == f"Inside {name}"


def test_the_attention_under_the_cursor_is_the_models(opened, collected):
    tab, data = opened("gpt"), collected("gpt")[2]
    p = np.frombuffer(page.base64.b64decode(data["attention"][1]["p"]["codes"]), "<u2") / 65535
    p = p.reshape(data["attention"][1]["p"]["shape"])
    heads, matrix = "#attention canvas >> nth=0", "#attention canvas >> nth=1"
    assert "layer 2 of 3, head 2 of 2: blocks.1.attention" in keys(tab, heads, "ArrowDown", "ArrowRight")
    names = [one["name"] for one in data["sides"][""]]
    T = len(names)  # the cursor begins in the last row
    said = keys(tab, matrix, "ArrowUp", "ArrowRight", "ArrowRight")
    assert said == f"{names[T - 2]} ({T - 1}) looks at {names[2]} (3): {p[1, T - 2, 2]:.4f}"
    widths = tab.locator("#attention .lines line").evaluate_all("all => all.map(one => one.style.stroke)")
    assert len(widths) == T  # a line to each token
    tab.locator("#attention .lines > :first-child .token >> nth=0").hover()
    strokes = tab.locator("#attention .lines line").evaluate_all("all => all.map(one => one.getAttribute('y1'))")
    assert set(strokes) == {"10"}  # all begin at the first token
    keys(tab, matrix, "Enter")
    box = tab.locator(matrix).bounding_box()
    tab.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] - 5)
    assert keys(tab, matrix) == said and "pinned" in tab.locator("#attention output.pinned").get_attribute("class")
    tab.locator(matrix).click(position=dict(x=box["width"] - 8, y=box["height"] - 8))
    assert keys(tab, matrix).endswith(f"{p[1, T - 1, T - 1]:.4f}")


def test_the_patches_that_a_token_looks_at_stay_bright(browser, tmp_path):
    model, tokenizer = made("sight")
    pixels = np.random.default_rng(0).random((12, 12, 3)).astype(np.float32)
    data = page.collect(model, tokenizer, SHORT, title="sight", pixels=pixels)
    (tmp_path / "page.html").write_text(page.html(data), encoding="utf-8")
    context, wrong = browser.new_context(viewport=dict(width=1200, height=850), offline=True), []
    tab = context.new_page()
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto((tmp_path / "page.html").as_uri())
    tab.locator("#picture select >> nth=0").select_option("0")
    tab.locator("#picture select >> nth=1").select_option("1")
    tab.locator("#picture .token >> nth=2").click()
    call = data["attention"][0]["p"]
    p = np.frombuffer(page.base64.b64decode(call["codes"]), "<u2").reshape(call["shape"])[1, 9 + 2, :9] / 65535
    word = data["sides"][""][9 + 2]["name"]
    said = keys(tab, "#picture canvas", "ArrowRight", "ArrowDown")
    assert said == f"{word} looks at ▦2,2: {p[4]:.4f}; at all patches: {p.sum():.4f}"
    if folder := os.environ.get("TINYTENSOR_SCREENSHOTS"):
        tab.locator("#picture").screenshot(path=Path(folder) / "picture.png")
    context.close()
    assert wrong == []


def test_cross_attention_can_be_chosen(opened, collected):
    tab, data = opened("t5"), collected("t5")[2]
    tab.locator("#attention select").select_option("decoder, looking at the encoder")
    call = data["attention"][3]
    p = np.frombuffer(page.base64.b64decode(call["p"]["codes"]), "<u2").reshape(call["p"]["shape"]) / 65535
    rows, columns = ([one["name"] for one in data["sides"][side]] for side in ("decoder", "encoder"))
    said = keys(tab, "#attention canvas >> nth=1", "ArrowRight")
    assert said == f"{rows[-1]} ({len(rows)}) looks at {columns[1]} (2): {p[0, -1, 1]:.4f}"


def test_the_lens_says_what_the_model_says_at_that_layer(opened, collected):
    tab, data = opened("gpt"), collected("gpt")[2]
    layer = data["lens"][2]  # one below the last, which stands on top
    said = keys(tab, "#stream canvas", "ArrowDown", "ArrowRight")
    place, guess = data["sides"][""][1]["name"], data["names"][layer["top"][1][0]]
    assert said.startswith(f"layer 2, {place} (2): {guess} ")
    entropy, rank = re.search(r"entropy ([\d.]+) nats; right is .* rank (\d+)$", said).groups()
    assert float(entropy) == pytest.approx(layer["entropy"][1], abs=6e-4) and int(rank) == layer["rank"][1]
    tab.locator("#stream select").select_option("length ")
    assert keys(tab, "#stream canvas", "ArrowDown").endswith(f"length {data['lengths'][''][2][0]:.3f}")


@pytest.mark.parametrize("temperature, k, p", [(1.0, None, 1.0), (0.5, None, 1.0), (2.0, 7, 1.0), (0.8, None, 0.6),
                                               (1.5, 20, 0.9), (0.0, None, 1.0)])  # fmt: skip
def test_sliders_give_the_distribution_that_sampling_gives(opened, collected, temperature, k, p):
    tab, (model, _, data) = opened("t5"), collected("t5")
    slide(tab, "temperature", temperature)
    slide(tab, "top-k", k or 999)
    slide(tab, "top-p", p)
    scores = scores_of(data, 0, model.config.vocab_size)[None]
    right = np.eye(scores.shape[1])[scores.argmax()] if not temperature else Sampling(
        temperature=temperature, top_k=k, top_p=p).probabilities(scores)[0]  # fmt: skip
    found = shown(tab)
    assert list(found) == np.argsort(-right, kind="stable")[: min(14, (right > 0).sum())].tolist()
    for token, chance in found.items():
        assert chance == pytest.approx(right[token], abs=1e-6)
    assert tab.locator("#count").inner_text() == f"{(right > 0).sum()} tokens can be drawn"


def test_probabilities_are_whole_where_most_tokens_have_no_name_on_the_page(opened, collected):
    """The vocabulary is larger than the tokens that a step holds."""
    tab, (model, _, data) = opened("gpt"), collected("gpt")
    assert data["ahead"]["nodes"][0]["others"] == model.config.vocab_size - 256 == 54
    start = np.array([[one["id"] for one in data["sides"][""]]])
    for temperature in (0.6, 1.0, 1.75):
        slide(tab, "temperature", temperature)
        right = Sampling(temperature=temperature).probabilities(model(start).numpy()[:, -1])[0]
        found = shown(tab)
        others = found.pop(None)
        for token, chance in found.items():
            assert chance == pytest.approx(right[token], abs=1e-6)
        assert others == pytest.approx(np.sort(right)[:54].sum(), abs=1e-6)


def test_draws_follow_the_sliders_and_lead_on(opened, collected):
    tab, data = opened("gpt"), collected("gpt")[2]
    slide(tab, "top-k", 3)
    for _ in range(10):
        tab.locator("#hundred").click()
    tallies = tab.locator("#ahead .bars > span:last-child, #ahead .bars > :nth-child(4n)").all_inner_texts()
    chances = list(shown(tab).values())
    assert sum(map(int, tallies)) == 1000 and len(tallies) == 3
    for tally, chance in zip(tallies, chances):
        assert abs(int(tally) - 1000 * chance) < 5 * np.sqrt(1000 * chance * (1 - chance)) + 1
    before = tab.locator("#written").inner_text()
    tab.locator("#draw").click()
    drawn = tab.locator("#drawn").inner_text().removeprefix("drawn: ")
    node = data["ahead"]["nodes"][0]
    (token,) = (i for i in node["ids"][:3] if data["names"][i] == drawn)
    after = tab.locator("#written").inner_text()
    assert after == before + drawn.replace("␣", " ")
    behind = scores_of(data, node["next"][token], 310)
    assert next(iter(shown(tab))) == np.nanargmax(behind)
    tab.locator("#back").click()
    assert tab.locator("#written").inner_text() == before


@pytest.mark.parametrize("name", ["gpt", "t5", "bert"])
@pytest.mark.parametrize("by", ["magnitude", "gradient"])
def test_the_heads_crossed_out_are_those_that_pruning_would_cut(name, by, opened, collected):
    tab, (model, _, data) = opened(name), collected(name)
    rows = data["heads"]["rows"]
    tab.locator("#heads select").select_option(by)
    for amount in (0.0, 0.25, 0.5, 0.75, 0.9):
        slide(tab, "share", amount)
        stay = choose([np.array(row[by]) for row in rows], groups(model, "heads"), amount)
        right = [kept.tolist() for kept in stay]
        assert tab.evaluate(f"data.heads.rows.map(row => kept(row, '{by}', {amount}))") == right
        gone = sum(not stays for row in right for stays in row)
        assert f"{gone} of {sum(g.count for g in groups(model, 'heads'))} heads" in tab.locator("#cuts").inner_text()
    said = keys(tab, "#heads canvas", "ArrowRight")
    assert f"loss {rows[0]['loss'][1]:.4f} without it, {data['heads']['loss']:.4f} with it" in said
    assert said.endswith("stays" if right[0][1] else "would be cut")


def test_tokens_tell_how_they_came_about_and_parameters_how_many_they_are(opened, collected):
    tab, (model, _, data) = opened("gpt"), collected("gpt")
    chips, tokens = tab.locator("#tokens .tokens"), data["sides"][""]
    place = max(range(len(tokens)), key=lambda n: len(tokens[n]["steps"]))
    chips.focus()
    for _ in range(place):
        tab.keyboard.press("ArrowRight")
    assert f"id {tokens[place]['id']}, bytes {tokens[place]['bytes']}" in tab.locator("#tokens output").inner_text()
    assert tab.locator("#tokens th").all_inner_texts() == [how for how, _ in tokens[place]["steps"]]
    leaves = tab.locator("#parameters .leaf")
    assert leaves.count() == len(list(model.named_parameters()))
    tab.locator("#parameters .leaf[title='token_embedding.weight']").click()
    total = model.parameter_count()
    assert tab.locator("#parameters output").inner_text() == (
        f"token_embedding.weight (310, 16): 4,960 of {total:,}, {100 * 4960 / total:.1f}%")  # fmt: skip
    areas = {one.get_attribute("title"): (box := one.bounding_box())["width"] * box["height"] for one in leaves.all()}
    assert areas["token_embedding.weight"] / sum(areas.values()) == pytest.approx(4960 / total, rel=0.05)


def test_the_states_of_both_directions_are_shown(opened, collected):
    tab, (model, _, data) = opened("elmo"), collected("elmo")
    words = [one["name"] for one in data["sides"]["forward"]][1:-1]
    layers, _ = model([words])
    for n, side in enumerate(("forward", "backward")):
        said = keys(tab, f"#states canvas >> nth={n}", "ArrowDown", "ArrowRight")
        value = layers[-1].numpy()[0, 0, n * model.config.width + 1]
        assert said.startswith(f"{side}, layer 2, {words[0]} (2), unit 2: ")
        assert float(said.rpartition(" ")[2]) == pytest.approx(value, abs=1e-3)


LOOKS = [("light", 1200, "light"), ("dark", 1200, "dark"), ("narrow", 390, "light")]


@pytest.mark.parametrize("look, width, scheme", LOOKS)
def test_nothing_is_cut_off_in_light_dark_and_on_a_phone(look, width, scheme, opened):
    for name in ("gpt", "bert", "t5", "elmo"):
        tab = opened(name, width, scheme)
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        style = "getComputedStyle(document.body)"
        colours = tab.evaluate(f"[{style}.backgroundColor, {style}.color]")
        light = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in colours]
        assert (light[0] > 0.9 and light[1] < 0.2) if scheme == "light" else (light[0] < 0.15 and light[1] > 0.85)
        if folder := os.environ.get("TINYTENSOR_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            tab.screenshot(path=Path(folder) / f"{name}-{look}.png", full_page=True)


def test_a_page_of_twelve_layers_and_heads_and_64_tokens_stays_under_five_megabytes_and_opens(browser, tmp_path):
    """As many as GPT-2 has, only narrower, which the page does not know."""
    shape = dict(vocab_size=1000, context=128, layers=12, heads=12, width=96, init_std=0.1)
    data = page.collect(GPT(GPTConfig(**shape)).eval(), made("gpt")[1], TEXT * 3, most=64)
    path = tmp_path / "page.html"
    path.write_text(page.html(data), encoding="utf-8")
    assert path.stat().st_size < 5e6 and len(data["sides"][""]) == 64
    tab = browser.new_page()
    tab.goto(path.as_uri())
    seconds = tab.evaluate("(performance.timing.loadEventEnd - performance.timing.navigationStart) / 1000")
    print(f"{path.stat().st_size:,} bytes, open after {seconds} s")
    assert tab.locator("main section").count() == 7
    assert "layer 12 of 12, head 12 of 12" in keys(tab, "#attention canvas >> nth=0", *["ArrowDown", "ArrowRight"] * 11)
    tab.close()
