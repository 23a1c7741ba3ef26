"""The commands and the program of docs/tutorials/centrifuge-sdk.md work as the page says."""

import re
import subprocess
from contextlib import contextmanager

from node import install_node_packages
from paths import DOCS
from waiting import wait_until

PAGE = DOCS / "tutorials" / "centrifuge-sdk.md"
BLOCKS = [
    (name or kind, text)
    for kind, name, text in re.findall(r"```(\w+) ?(\w*)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
]


@contextmanager
def client_without_bye(directory):
    """Run the program of the page as step 5 says; return a function that returns what it has printed."""
    program = (directory / "room.js").read_text("utf-8")
    line = '    await room.publish("bye");\n'
    assert line in program
    (directory / "room.js").write_text(program.replace(line, ""), "utf-8")
    output = directory / "client.txt"
    with output.open("wb") as file, subprocess.Popen(["node", "room.js"], cwd=directory, stdout=file) as client:
        try:
            wait_until(lambda: "history: " in output.read_text("utf-8"), "the client has read the history")
            yield lambda: output.read_text("utf-8")
        finally:
            client.terminate()


def hide_epoch(text):
    """Replace the epoch, which is random."""
    return re.sub(r'"epoch":"\w+"', '"epoch"', text).strip()


def test_the_program_and_the_commands_print_the_output_that_the_page_shows(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "node_modules").symlink_to(install_node_packages() / "node_modules")
    output, shown = "", 0
    # Step 5 begins with its command, before which the reader starts the client.
    start = next(number for number, (_, text) in enumerate(BLOCKS) if text.startswith("curl"))
    for kind, text in BLOCKS[:start]:
        if kind == "js":
            name = text.splitlines()[0].removeprefix("// ")
            shell(f"cat > {name} <<'END'\n{text}END\n")
        elif kind == "sh":
            output = shell(text)
        elif kind == "text":
            assert sorted(output.splitlines()) == sorted(text.splitlines())
            shown += 1
    assert shown == 1
    [(_, command), (answer_kind, answer), (client_kind, printed)] = BLOCKS[start:]
    assert (answer_kind, client_kind) == ("json", "client")
    with client_without_bye(tmp_path) as client:
        assert hide_epoch(shell(command)) == hide_epoch(answer)
        wait_until(lambda: "from the backend" in client(), "the client has received the publication")
        assert sorted(client().splitlines()) == sorted(printed.splitlines())
