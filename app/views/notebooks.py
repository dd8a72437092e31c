"""How it was made: the executed notebook of every stage, drawn here without anything from outside."""

import streamlit as st
from common import cached, executed, explained, project

from ml_workbench.page.story import Block, read_notebook
from ml_workbench.plan.errors import WorkbenchError

LEGEND = {"orientation": "h", "y": -0.25, "yanchor": "top", "title": ""}  # below: a phone has no room beside
FIGURE = {"displayModeBar": False, "scrollZoom": False, "responsive": True}


def draw(block: Block, key: str) -> None:
    "One piece of a notebook."
    if block.kind == "text":
        st.markdown(block.body)
    elif block.kind == "code":
        with st.expander("Code"):
            st.code(block.body, language="python")
    elif block.kind == "figure":
        layout = block.body.get("layout", {}) | {"legend": LEGEND}
        st.plotly_chart(block.body | {"layout": layout}, config=FIGURE, key=key)
    elif block.kind == "html":
        st.html(f"<div class='mlw-scroll'>{block.body}</div>")
    elif block.kind == "image":
        st.html(
            f"<img alt='Figure of the notebook' style='max-width:100%' src='data:image/png;base64,{block.body}'>"
        )
    else:
        st.code(block.body, language=None, wrap_lines=True)


with explained("No executed notebooks to show yet"):
    folder = project() / "reports" / "notebooks"
    if not (stages := executed(folder)):
        raise WorkbenchError(f"{folder} holds no executed notebook")

st.title("How it was made")
stage = st.segmented_control(
    "Stage",
    stages,
    default=next(iter(stages)),
    required=True,
    key="stage",
    bind="query-params",
    label_visibility="collapsed",
)
with explained("This notebook cannot be shown"):
    blocks = cached(read_notebook, stages[stage], files=(stages[stage],))
archived = stages[stage].with_suffix(".html")
if archived.is_file():
    st.download_button(
        "Download as a web page",
        archived.read_bytes(),
        file_name=archived.name,
        mime="text/html",
        icon=":material/download:",
        on_click="ignore",
    )
for place, block in enumerate(blocks):
    draw(block, f"{stage}-{place}")
