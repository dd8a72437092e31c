"""Clients that ask as fast as they are answered, and what must be true of everything that they were told."""

import threading
import time
from collections import Counter

import httpx
import sqlalchemy as sa

from ml_workbench.database.tables import table_of
from tests.serve.live import TOKEN, Place, until

HEADERS = {"authorization": f"Bearer {TOKEN}"}


def served(place: Place) -> Counter:
    "How often each decision stands in the database."
    with place.ledger.engine.connect() as connection:
        return Counter(connection.execute(sa.select(table_of("served").c.decision_id)).scalars())


class Load:
    "Clients that ask as fast as they are answered, and remember what they were told."

    def __init__(self, url: str, units: list[str], clients: int = 3) -> None:
        self.acknowledged: list[str] = []
        self.refused: list[int] = []
        self.broken: list[str] = []  # no answer at all
        self.lines: set[str] = set()
        self._stop, self._pause = threading.Event(), 0.001
        self._threads = [
            threading.Thread(target=self._ask, args=(url, units[number::clients]), daemon=True)
            for number in range(clients)
        ]

    def _ask(self, url: str, units: list[str]) -> None:
        with httpx.Client(base_url=url, headers=HEADERS, timeout=10) as client:
            while not self._stop.is_set():
                for unit in units:
                    try:
                        answer = client.post("/v1/decisions", json={"unit": unit})
                        if answer.status_code == 200:
                            self.acknowledged.append(answer.json()["id"])
                            self.lines.add(answer.json()["release"])
                        else:
                            self.refused.append(answer.status_code)
                    except httpx.TransportError as error:
                        self.broken.append(type(error).__name__)
                        time.sleep(0.05)
                    if self._stop.wait(self._pause):
                        return

    def wait_for(self, count: int) -> None:
        "Until so many more were answered."
        goal = len(self.acknowledged) + count
        until(lambda: len(self.acknowledged) >= goal, 30, f"no {count} answers")

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        "Ask no more, and wait for the last answers."
        self._stop.set()
        for thread in self._threads:
            thread.join(15)


def all_there(place: Place, load: Load, seconds: float = 30) -> None:
    "Wait until every acknowledged decision is in the database, and see that each is there once."
    load.finish()
    wanted = set(load.acknowledged)
    until(lambda: wanted <= served(place).keys(), seconds, "an acknowledged decision is missing")
    assert set(served(place).values()) == {1} and len(wanted) == len(load.acknowledged)
