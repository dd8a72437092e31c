"""The services that tests run against."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SERVICES = Path(__file__).parent.parent / "services.py"


def run(*command: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k not in ("MLW_TEST_POSTGRES_URL", "CI")}
    return subprocess.run(
        [sys.executable, SERVICES, *command], env=environment | variables, capture_output=True, text=True
    )


def answers(url: str) -> bool:
    from adbc_driver_postgresql import dbapi

    try:
        with dbapi.connect(url):
            return True
    except dbapi.Error:
        return False


@pytest.mark.postgres
def test_each_test_gets_an_empty_database_of_its_own(postgres_url, postgres_server):
    from adbc_driver_postgresql import dbapi

    assert postgres_url != postgres_server
    with dbapi.connect(postgres_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert cursor.fetchall() == [(0,)]


@pytest.mark.postgres
@pytest.mark.parametrize("code", [0, 3])
def test_the_server_is_there_for_the_command_and_gone_after_it_whatever_its_exit_code(postgres_server, code):
    script = f"""if 1:
        import os, sys
        from adbc_driver_postgresql import dbapi
        with dbapi.connect(os.environ["MLW_TEST_POSTGRES_URL"]): pass
        print(os.environ["MLW_TEST_POSTGRES_URL"])
        sys.exit({code})"""
    done = run(sys.executable, "-c", script)
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith("postgresql://mlw@127.0.0.1:")
    assert not answers(done.stdout.strip())


@pytest.mark.postgres
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_command_and_the_server(postgres_server, how):
    script = "import os, time; print(os.environ['MLW_TEST_POSTGRES_URL'], flush=True); time.sleep(60)"
    environment = {key: value for key, value in os.environ.items() if key != "MLW_TEST_POSTGRES_URL"}
    process = subprocess.Popen(
        [sys.executable, SERVICES, sys.executable, "-c", script],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    url = process.stdout.readline().strip()
    started = time.monotonic()
    os.killpg(process.pid, how)  # as a terminal's Ctrl-C, or a CI system that gives up
    process.wait(timeout=30)
    process.stdout.close()
    assert process.returncode != 0
    assert time.monotonic() - started < 30
    assert url.startswith("postgresql://") and not answers(url)


def test_missing_services_only_skip_on_a_laptop_but_fail_in_ci(tmp_path):
    # With an empty PATH nothing is found; a PostgreSQL under /usr/lib would be.
    script = f"import sys; sys.path.insert(0, {str(SERVICES.parent)!r}); import services as s; " + (
        "s.postgres_programs = s.browser = lambda: None; s.install = lambda packages: None; "
        "sys.exit(s.main([sys.executable, '-c', 'print(42)']))"
    )
    hidden = {
        k: v
        for k, v in os.environ.items()
        if k not in ("CI", "MLW_TEST_POSTGRES_URL", "MLW_TEST_CHROMIUM", "MLW_TEST_REQUIRE_SERVICES")
    }
    relaxed = subprocess.run([sys.executable, "-c", script], env=hidden, capture_output=True, text=True)
    assert (relaxed.returncode, relaxed.stdout) == (0, "42\n")
    assert "PostgreSQL and Chromium not found" in relaxed.stderr
    strict = subprocess.run(
        [sys.executable, "-c", script], env=hidden | {"CI": "true"}, capture_output=True, text=True
    )
    assert (strict.returncode, strict.stdout) == (1, "")
