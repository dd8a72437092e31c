"""The executed copy: the same for the same results, and readable without a network."""

import json
import re
import time
from tempfile import gettempdir

import pytest

from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.run.copies import PLOTLY, as_page, as_text, lasting, merged, normalised, write_copies

FIGURE = {
    "data": [{"type": "scatter", "x": [1, 2, 3], "y": [2, 1, 4]}],
    "layout": {"title": {"text": "</script>"}},
}


def code(*outputs: dict, **more: object) -> dict:
    return {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "source": "1",
        "execution_count": 3,
        "outputs": list(outputs),
    } | more


def stream(text: str, name: str = "stdout") -> dict:
    return {"output_type": "stream", "name": name, "text": text}


def shown(**data: object) -> dict:
    return {"output_type": "display_data", "metadata": {}, "data": data}


def test_metadata_of_the_run_is_dropped_and_tags_are_kept() -> None:
    cell = code(metadata={"tags": ["parameters"], "papermill": {"duration": 1}, "execution": {"x": 1}})
    copy = normalised(
        {"cells": [cell], "metadata": {"papermill": {}, "language_info": {"version": "3.11.7"}}}, ["a"]
    )
    assert copy["cells"][0]["metadata"] == {"tags": ["parameters"]}
    assert "papermill" not in str(copy) and "3.11.7" not in str(copy)


def test_unknown_cell_identifiers_become_positions() -> None:
    cells = [code(id="a"), code(id="f00d", metadata={"tags": ["injected-parameters"]}), code(id="beef")]
    assert [cell["id"] for cell in normalised({"cells": cells}, ["a"])["cells"]] == [
        "a",
        "injected",
        "cell-3",
    ]


def test_execution_counts_run_from_one_and_agree_with_the_results() -> None:
    result = {
        "output_type": "execute_result",
        "execution_count": 99,
        "metadata": {},
        "data": {"text/plain": "1"},
    }
    cells = [code(), code(execution_count=None), code(result)]
    copy = normalised({"cells": cells})["cells"]
    assert [cell["execution_count"] for cell in copy] == [1, None, 2]
    assert copy[2]["outputs"][0]["execution_count"] == 2


def test_what_is_printed_between_two_displays_is_one_text_per_stream() -> None:
    outputs = [stream("a"), stream("x", "stderr"), stream("b\n"), shown(**{"text/plain": "1"}), stream("c")]
    assert [(each.get("name"), each.get("text")) for each in merged(outputs)] == [
        ("stdout", "ab\n"), ("stderr", "x"), (None, None), ("stdout", "c"),
    ]  # fmt: skip


def test_a_progress_bar_is_kept_as_it_last_looked() -> None:
    assert merged([stream("10%\r50%\r"), stream("100%\n"), stream("done\r\n")])[0]["text"] == "100%\ndone\n"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<Tree at 0x7f00deadbeef>", "<Tree at 0x…>"),
        (f"{gettempdir()}/ipykernel_12/345.py:3: Warning", "<cell>:3: Warning"),
        ("<ipython-input-4-4a3b76ad2dcb>:3: Warning", "<cell>:3: Warning"),
        ("colour 0xff at 3", "colour 0xff at 3"),
    ],
)
def test_addresses_and_invented_file_names_do_not_last(text: str, kept: str) -> None:
    assert lasting(text) == kept


def test_a_page_names_no_address_outside() -> None:
    cells = [
        {"cell_type": "markdown", "id": "m", "metadata": {}, "source": "# Heading\n\n> what it is"},
        code(shown(**{PLOTLY: FIGURE})),
    ]
    page = as_page(normalised({"cells": cells}), "A <title>")
    own = re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", page)
    assert not re.findall(r"https?://", own)
    assert "<title>A &lt;title&gt;</title>" in page and "default-src 'none'" in page
    assert own.count("</script>") == own.count("<script")  # the figure's text did not end its element


def test_a_page_without_figures_brings_no_library() -> None:
    page = as_page(normalised({"cells": [code(stream("hello"))]}), "t")
    assert len(page) < 20_000 and "hello" in page and "<details>" in page


def test_both_copies_are_written_or_neither(tmp_path) -> None:
    (tmp_path / "train.html").mkdir()
    (tmp_path / "train.html" / "in the way").write_text("")
    copy = normalised({"cells": [code()]})
    write_copies(copy, tmp_path / "other" / "train.ipynb", "t")
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["train.html", "train.ipynb"]
    assert json.loads(as_text(copy))["nbformat"] == 4
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match="nothing was changed"):
        write_copies(copy, tmp_path / "file" / "train.ipynb", "t")


@pytest.mark.browser
def test_a_figure_shows_offline_and_nothing_is_fetched(tmp_path, browser) -> None:
    page_file = tmp_path / "train.html"
    page_file.write_text(
        as_page(normalised({"cells": [code(shown(**{PLOTLY: FIGURE}))]}), "t"), encoding="utf-8"
    )
    asked, complaints = [], []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_selector("body[data-drawn=yes]")
        drawn = page.locator(".figure svg.main-svg .scatterlayer path.js-line").count()
    outside = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert drawn == 1 and outside == [] and complaints == []


def test_a_long_text_is_normalised_at_once() -> None:
    begun = time.thread_time()
    merged([stream("x" * 5_000_000)])
    assert time.thread_time() - begun < 2
