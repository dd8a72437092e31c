"""What documents and manifests say, held against the program."""

import re
import shlex
from typing import Any

from ml_workbench.run.cli import cli


def options_of(words: list[str]) -> None:
    "Assert that a command of ours exists, with these options."
    command: Any = cli
    words = list(words)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert command is not cli and not hasattr(command, "commands"), f"no such command: {words}"
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.split("=")[0] for word in words if word.startswith("-")} <= known, words


def shown_commands(text: str) -> list[list[str]]:
    "Every `ml-workbench …` in a text."
    found = re.findall(r"ml-workbench ((?:[a-z]+ ?)+(?:[^\n;&|#`]*))", text)
    return [shlex.split(re.sub(r'"\$\([^)]*\)"|"?\$+\w+"?', "X", line), posix=True) for line in found]


def settings_named(text: str) -> set[str]:
    "Every setting in a text, by the name of its variable."
    return {
        name.lower()
        for name in re.findall(r"\bMLW_([A-Z]+(?:_[A-Z]+)*)", text)
        if not name.startswith("TEST")
    }
