"""The stakeholder's page. Start it with `ml-workbench app`, or `streamlit run app/main.py` in a project."""

from pathlib import Path

import signin
import streamlit as st
from common import unit

from ml_workbench.page.drawing import STYLE

HERE = Path(__file__).parent

# A file of our own: an icon by name would be fetched from outside.
st.set_page_config(page_title="ml-workbench", page_icon=str(HERE / "icon.svg"), layout="wide")
st.html(f"<style>{STYLE}{(HERE / 'style.css').read_text()}</style>")
page = st.navigation(
    {
        "Earned": [
            st.Page("views/answer.py", title="Answer", default=True),
            st.Page("views/attribution.py", title="Attribution"),
            st.Page("views/targeting.py", title="Targeting"),
            st.Page("views/plan.py", title="Plan"),
        ],
        "Model": [
            st.Page("views/forecast.py", title="Forecast"),
            st.Page("views/model.py", title="Model"),
            st.Page("views/why.py", title=f"Why this {unit()}"),
            st.Page("views/candidates.py", title="Candidates"),
        ],
        "Production": [
            st.Page("views/releases.py", title="Releases"),
            st.Page("views/health.py", title="Health"),
            st.Page("views/score_card.py", title="Score card"),
        ],
        "Work": [
            st.Page("views/runs.py", title="Runs"),
            st.Page("views/features.py", title="Features"),
            st.Page("views/notebooks.py", title="How it was made"),
        ],
    },
    position="top",
)
signin.welcome()
page.run()
