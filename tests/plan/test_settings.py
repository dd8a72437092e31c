"""Where the workbench runs."""

import os
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from ml_workbench.plan.errors import SettingsError
from ml_workbench.plan.settings import SECRETS, Settings, find_root, load_settings, working_folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text("")
    (tmp_path / "settings.ini").write_text("[workbench]\nthreads = 3\nport = 8000\n")
    return tmp_path


def test_with_nothing_set_the_defaults_hold(tmp_path):
    assert load_settings(tmp_path, {}) == Settings(root=tmp_path)


def test_the_committed_settings_name_every_key_with_its_default(root):
    lines = (root / "settings.ini").read_text().splitlines()
    named = {line.split(" =")[0] for line in lines if " =" in line and line[0] != "#"}
    assert named == {field.name for field in fields(Settings)} - {"root", *SECRETS}
    assert load_settings(root, {}) == Settings(root=root)


def test_the_environment_wins_over_dotenv_and_that_over_the_file(project):
    (project / ".env").write_text("MLW_PORT=8001\nMLW_HOST=0.0.0.0\nOTHER=1\n")
    settings = load_settings(project, {"MLW_PORT": "8002", "PATH": "/bin"})
    assert (settings.threads, settings.host, settings.port) == (3, "0.0.0.0", 8002)


def test_the_process_environment_is_read_when_none_is_given(project, monkeypatch):
    monkeypatch.setenv("MLW_THREADS", "7")
    assert load_settings(project).threads == 7


def test_a_dotenv_file_changes_no_environment(project):
    (project / ".env").write_text("MLW_DATABASE_URL=postgresql://user:secret@127.0.0.1/db\n")
    assert load_settings(project, {}).database_url.endswith("@127.0.0.1/db")
    assert "MLW_DATABASE_URL" not in os.environ


def test_values_may_hold_percent_signs_and_equals_signs(project):
    url = "postgresql://u:p%40ss@127.0.0.1/db?options=-c%20x=1"
    (project / "settings.ini").write_text(f"[workbench]\ndatabase_url = {url}\n")
    assert load_settings(project, {}).database_url == url


def test_variables_that_steer_the_tests_are_no_settings(project):
    assert load_settings(project, {"MLW_TEST_POSTGRES_URL": "x"}).threads == 3


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MLW_PROT": "1"}, r"environment \(MLW_\*\): unknown setting 'prot', did you mean 'port'\?"),
        ({"MLW_ROOT": "/"}, "unknown setting 'root', known: alert_hours, .*api_host, api_port"),
        ({"MLW_PORT": "eighty"}, r"environment \(MLW_\*\): port = 'eighty' is not a whole number"),
        ({"MLW_PORT": "-1"}, "port = '-1' is not a whole number"),
        ({"MLW_PORT": ""}, "port = '' is not a whole number"),
        ({"MLW_ENGINE": "kernle"}, "engine = 'kernle': did you mean 'kernel'"),
        ({"MLW_LOG_LEVEL": "LOUD"}, "log_level = 'LOUD': known: debug, error, info, warning"),
    ],
)
def test_a_mistake_in_the_environment_is_named_with_its_remedy(project, variables, message):
    with pytest.raises(SettingsError, match=message):
        load_settings(project, variables)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[workbench]\nthread = 2\n", r"settings\.ini: unknown setting 'thread', did you mean 'threads'"),
        ("[workbench]\nthreads = two\n", r"settings\.ini: threads = 'two' is not a whole number"),
        ("[workbench]\nport = 1\nport = 2\n", r"settings\.ini cannot be read: .*'port'"),
        ("port = 1\n", r"settings\.ini cannot be read: .*no section headers"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(project, text, message):
    (project / "settings.ini").write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings(project, {})


def test_a_mistake_in_dotenv_is_named_with_that_file(project):
    (project / ".env").write_text("MLW_THREDS=2\n")
    with pytest.raises(SettingsError, match=r"\.env: unknown setting 'threds', did you mean 'threads'"):
        load_settings(project, {})


def test_a_mistake_in_a_value_that_something_later_overrides_is_still_a_mistake(project):
    (project / "settings.ini").write_text("[workbench]\nport = x\n")
    with pytest.raises(SettingsError, match=r"settings\.ini: port = 'x'"):
        load_settings(project, {"MLW_PORT": "8000"})


def test_settings_do_not_change_once_read(project):
    with pytest.raises(FrozenInstanceError):
        load_settings(project, {}).port = 1


def test_the_root_is_the_closest_folder_upwards_with_parameters(project):
    inner = project / "nbs" / "stages"
    inner.mkdir(parents=True)
    assert find_root(inner) == find_root(project) == project.resolve()
    (project / "nbs" / "params.yaml").write_text("")
    assert find_root(inner) == (project / "nbs").resolve()


def test_from_within_a_project_the_root_is_found_without_being_named(project, monkeypatch):
    (project / "nbs").mkdir()
    monkeypatch.chdir(project / "nbs")
    assert load_settings(environment={}).root == project.resolve()


def test_outside_any_project_that_is_said(tmp_path):
    with pytest.raises(
        SettingsError, match=f"no params.yaml in {tmp_path.resolve()} or above: run this inside"
    ):
        find_root(tmp_path)


def test_production_starts_from_where_it_stands(tmp_path, project):
    assert working_folder(tmp_path.parent) == tmp_path.parent.resolve()
    (project / "nbs").mkdir()
    assert working_folder(project / "nbs") == project.resolve()


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_comes_from_the_environment_only_and_is_never_shown(project, name):
    assert getattr(load_settings(project, {f"MLW_{name.upper()}": "hush"}), name) == "hush"
    assert "hush" not in repr(load_settings(project, {f"MLW_{name.upper()}": "hush"}))
    (project / "settings.ini").write_text(f"[workbench]\n{name} = hush\n")
    with pytest.raises(SettingsError, match=f"{name} is a secret: put it into the environment") as error:
        load_settings(project, {})
    assert "hush" not in str(error.value)
