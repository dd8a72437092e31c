"""What a person sees: the page in a real Chromium, on a desktop and a phone, by day and by night."""

import re
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.browser

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
PAGES = {
    "answer": "/", "attribution": "/attribution", "targeting": "/targeting", "plan": "/plan", "forecast": "/forecast", "model": "/model", "why": "/why", "candidates": "/candidates",
    "features": "/features", "notebooks": "/notebooks",
}  # fmt: skip
DRAWN = {"answer": ".mlw-slopes", "why": ".mlw-pushes"}  # pages whose picture is no chart
# Streamlit asks for these to find out below which path it is served; opened directly, a page answers 404.
PROBES = re.compile(r"/(\w+)/_stcore/(health|host-config)$")


class Visit:
    "A page as one person sees it, with everything it asked for and complained about."

    def __init__(self, browser, address: str, size: str, scheme: str) -> None:
        self.size = width, height = SIZES[size]
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page, self.address = self.context.new_page(), address
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("response", self._response)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _response(self, response) -> None:
        if response.status >= 400 and not PROBES.search(response.url):
            self.complaints.append(f"{response.status} {response.url}")

    def _console(self, message) -> None:
        # A failed request is judged by _response, which knows its address.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def open(self, path: str) -> None:
        "Go to a page and wait until it has settled."
        self.page.goto(self.address + path)
        self.page.locator(".stMain h1, .mlw-message").first.wait_for()
        self.page.locator('.stApp[data-test-script-state="notRunning"]').wait_for()

    def overflow(self) -> int:
        "By how many pixels the page is wider than its window."
        return self.page.evaluate(
            "Math.max(...['.stMain', '.stApp', 'html'].map(name => document.querySelector(name))"
            ".map(part => part.scrollWidth - part.clientWidth))"
        )

    def elsewhere(self) -> list[str]:
        "Requests that left this machine's server."
        own = urlsplit(self.address).netloc
        return [
            url
            for url in self.requests
            if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != own
        ]

    def picture(self, path) -> None:
        "Keep the whole page as a picture."
        height = self.page.evaluate("document.querySelector('.stMain').scrollHeight")
        width = self.page.viewport_size["width"]
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.wait_for_function(
            "document.querySelector('.stMain').clientHeight >= window.innerHeight - 80"
        )
        self.page.screenshot(path=path)
        self.page.set_viewport_size(dict(zip(("width", "height"), self.size)))


@pytest.fixture
def visit(browser):
    "Open the page as somebody: visit(address, size='phone', scheme='dark')."
    visits = []

    def start(address: str, *, size: str = "desktop", scheme: str = "light") -> Visit:
        visits.append(Visit(browser, address, size, scheme))
        return visits[-1]

    yield start
    for one in visits:
        one.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_fits_its_window_without_errors_or_outside_requests(
    visit, served, test_artefacts, size, scheme
):
    seen = visit(served, size=size, scheme=scheme)
    for name, path in PAGES.items():
        seen.open(path)
        drawn = DRAWN.get(name, ".js-plotly-plot .main-svg")
        seen.page.locator(drawn).first.wait_for()
        assert seen.overflow() <= 0, name
        seen.picture(test_artefacts / f"{name}-{size}-{scheme}.png")
    assert seen.elsewhere() == []
    assert seen.complaints == []


def luminance(colour: str) -> float:
    "Relative luminance of a CSS rgb() colour."
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_follows_the_readers_system_and_stays_readable(visit, served, scheme, dark):
    seen = visit(served, scheme=scheme)
    seen.open("/")
    style = "([part, name]) => getComputedStyle(document.querySelector(part))[name]"
    ground = luminance(seen.page.evaluate(style, [".stApp", "backgroundColor"]))
    assert (ground < 0.2) == dark
    for part in (".mlw-sentence", ".mlw-mark", ".mlw-tile b"):
        ink = luminance(seen.page.evaluate(style, [part, "color"]))
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5, part


def test_moving_the_slider_by_hand_moves_the_curves_mark_and_the_sentence(visit, served):
    seen = visit(served)
    seen.open("/forecast")
    mark = seen.page.locator(".js-plotly-plot .textpoint text")
    mark.wait_for()
    before, said = mark.bounding_box()["x"], seen.page.locator("h1").inner_text()
    seen.page.get_by_role("slider").focus()
    for _ in range(4):
        seen.page.keyboard.press("ArrowRight")
    seen.page.get_by_text("Send up to 500 offers").wait_for()
    seen.page.wait_for_function(
        "before => document.querySelector('.js-plotly-plot .textpoint text').getBoundingClientRect().x > before + 20",
        arg=before,
    )
    assert seen.page.locator("h1").inner_text() != said
    assert seen.complaints == []


def test_the_links_lead_to_the_catalogue_and_the_executed_notebook(visit, served):
    seen = visit(served)
    seen.open("/forecast")
    seen.page.get_by_role("link", name="Executed notebook: evaluate").click()
    seen.page.get_by_text("The made-up stage evaluate.").wait_for()
    assert urlsplit(seen.page.url).query == "stage=Evaluate"
    seen.open("/forecast")
    seen.page.get_by_role("link", name="What the model looks at").click()
    seen.page.get_by_role("heading", name="The catalogue").wait_for()
    assert seen.complaints == []


def test_the_list_and_the_notebook_download_as_they_are(visit, served):
    seen = visit(served)
    seen.open("/forecast")
    with seen.page.expect_download() as waiting:
        seen.page.get_by_role("button", name="Download all 400 (CSV)").click()
    assert waiting.value.suggested_filename == "offers-2018-01-01.csv"
    lines = waiting.value.path().read_text().splitlines()
    assert len(lines) == 401 and lines[0].startswith("household_id,rank")
    seen.open("/notebooks?stage=Evaluate")
    with seen.page.expect_download() as waiting:
        seen.page.get_by_role("button", name="Download as a web page").click()
    assert waiting.value.path().read_text() == "<h1>Evaluate</h1>"


@pytest.mark.parametrize("size", SIZES)
def test_an_empty_project_shows_the_one_command_to_run(visit, served_empty, test_artefacts, size):
    seen = visit(served_empty, size=size)
    for path in PAGES.values():
        seen.open(path)
        if path != "/plan":  # a plan there is from the beginning
            assert seen.page.locator(".mlw-message pre").inner_text() == "make run"
    seen.open("/forecast")
    seen.picture(test_artefacts / f"empty-{size}.png")
    assert seen.complaints == []


def test_on_a_phone_the_other_pages_are_one_tap_behind_the_menu(visit, served):
    seen = visit(served, size="phone")
    seen.open("/forecast")
    seen.page.get_by_test_id("stExpandSidebarButton").click()
    seen.page.get_by_role("link", name="Features", exact=True).click()
    seen.page.get_by_role("heading", name="What the model looks at").wait_for()


def test_from_the_list_one_gets_to_why_and_back(visit, served):
    seen = visit(served)
    seen.open("/forecast")
    seen.page.get_by_role("link", name="14", exact=True).click()
    seen.page.get_by_text("Household 14 has a").wait_for()
    assert urlsplit(seen.page.url).path == "/why" and urlsplit(seen.page.url).query == "id=14"
    seen.page.get_by_role("link", name="Back to the forecast and its list").click()
    seen.page.get_by_text("Send 400 offers").wait_for()
    assert seen.complaints == []


def test_the_gates_badge_leads_to_what_it_looked_at(visit, served):
    seen = visit(served)
    seen.open("/forecast")
    seen.page.get_by_role("link", name="Blessed: 17 of 17 checks").click()
    seen.page.get_by_text("The gate's 17 checks").click()
    seen.page.get_by_text("Made-up check 16").wait_for()
    assert seen.complaints == []


def test_a_link_to_one_case_opens_it_and_a_wrong_one_says_so(visit, served):
    seen = visit(served)
    seen.open("/why?id=21")
    seen.page.get_by_text("Household 21 has a").wait_for()
    seen.open("/why?id=999999")
    seen.page.get_by_text("No household 999999 at the date of the next list").wait_for()
    assert seen.complaints == []


def test_somebody_is_found_by_typing_on_the_keyboard(visit, served):
    seen = visit(served)
    seen.open("/why")
    box = seen.page.get_by_role("combobox")
    box.click()
    box.fill("1234")
    seen.page.keyboard.press("Enter")
    seen.page.get_by_text("Household 1234 has a").wait_for()
    assert urlsplit(seen.page.url).query == "id=1234"


def test_every_part_of_the_model_has_an_address_and_fits_a_phone(visit, served, test_artefacts):
    seen = visit(served, size="phone", scheme="dark")
    for part in ("Money", "Over time", "For whom", "What matters", "Mistakes", "Small and fast"):
        seen.open(f"/model?part={part.replace(' ', '+')}")
        seen.page.locator(".stMain h3").first.wait_for()
        assert seen.overflow() <= 0, part
        seen.picture(test_artefacts / f"model-{part.lower().replace(' ', '-')}-phone-dark.png")
    assert seen.complaints == []


def test_the_hill_is_cut_at_zero_and_lies_where_its_amounts_say(visit, served):
    seen = visit(served)
    seen.open("/")
    place = "name => { const box = document.querySelector(name).getBoundingClientRect(); return box.x + box.width / 2; }"
    zero, best = seen.page.evaluate(place, ".mlw-slopes u"), seen.page.evaluate(place, ".mlw-slopes > b")
    amounts = {mark.inner_text(): mark.bounding_box() for mark in seen.page.locator(".mlw-scale span").all()}
    middle = {text: box["x"] + box["width"] / 2 for text, box in amounts.items()}
    assert abs(middle["$0"] - zero) < 2
    assert middle["$0"] < best < middle["$2,000"]
    assert seen.page.locator(".mlw-slopes .mlw-lost").is_visible()


def test_a_number_leads_to_the_executed_notebook_that_computed_it(visit, served):
    seen = visit(served)
    seen.open("/")
    seen.page.locator(".mlw-tile a.mlw-from", has_text="+$381").click()
    seen.page.get_by_text("The made-up stage attribution.").wait_for()
    assert urlsplit(seen.page.url).query == "stage=Attribution"
    assert seen.complaints == []


@pytest.mark.parametrize(("path", "name"), [("/", "answer"), ("/attribution", "attribution")])
def test_the_saved_file_opens_alone_and_asks_for_nothing(
    visit, served, browser, tmp_path, test_artefacts, path, name
):
    seen = visit(served)
    seen.open(path)
    with seen.page.expect_download() as waiting:
        seen.page.get_by_role("button", name="Save or print (HTML)").click()
    saved = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(saved)
    assert saved.name == f"{name}-retention-2017-11.html"
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        alone, asked = context.new_page(), []
        alone.on("request", lambda request: asked.append(request.url))
        alone.goto(saved.as_uri())
        assert alone.get_by_text("Replayed, effect declared").is_visible()
        assert alone.evaluate("document.documentElement.scrollWidth") <= 390
        assert asked == [saved.as_uri()]
        alone.set_viewport_size({"width": 794, "height": 1123})
        alone.emulate_media(media="print")
        alone.pdf(path=test_artefacts / f"{name}.pdf", prefer_css_page_size=True)
    assert (test_artefacts / f"{name}.pdf").stat().st_size > 10_000


def test_the_figures_download_as_csv(visit, served):
    seen = visit(served)
    seen.open("/")
    with seen.page.expect_download() as waiting:
        seen.page.get_by_role("button", name="Figures (CSV)").click()
    lines = waiting.value.path().read_text().splitlines()
    assert lines[0] == "part,arm,versus,of,figure,value,low,high,unit"
    assert any(line.startswith("money,champion,control,4 weeks,net,380.694") for line in lines)


def test_another_arm_has_an_address_of_its_own(visit, served):
    seen = visit(served)
    seen.open("/attribution?arm=Kernel+machine")
    seen.page.get_by_role("heading", name="Kernel machine against the rule").wait_for()
    assert seen.complaints == []


def test_the_power_planner_answers_a_moved_slider(visit, served):
    seen = visit(served)
    seen.open("/plan")
    said = seen.page.locator(".mlw-second")
    before = said.inner_text()
    seen.page.get_by_role("slider", name="Effect to find").focus()
    seen.page.keyboard.press("ArrowRight")
    seen.page.wait_for_function(
        "before => document.querySelector('.mlw-second').innerText !== before", arg=before
    )
    assert "6.0% of spend" in said.inner_text()
    assert seen.complaints == []


def test_the_pages_are_grouped_and_every_one_is_two_clicks_away(visit, served):
    seen = visit(served)
    seen.open("/")
    for group, name, heading in (
        ("Earned", "Targeting", "Whom should one choose"),
        ("Model", "Candidates", "Candidates"),
        ("Work", "Runs", "Runs"),
    ):
        seen.page.get_by_test_id("stTopNavSection").filter(has_text=group).click()
        seen.page.get_by_role("menuitem", name=name, exact=True).click()
        seen.page.get_by_role("heading", name=heading).first.wait_for()
