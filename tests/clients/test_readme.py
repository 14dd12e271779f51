from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.images import Images
from tests.clients.programs import SEARCH_PATH, SECONDS, Box, make_box, require
from tests.clients.servers import free_port, plain_environment, serving

pytestmark = pytest.mark.clients

ROOT = Path(__file__).parents[2]
LANGUAGES = {"shell": ("", "bash", "console", "sh", "shell"), "python": ("python",)}
MARKER = re.compile(r"^<!-- tested(?:: (?P<kind>[a-z]+))? -->[ \t]*$", re.MULTILINE)
BLOCK = re.compile(r"\s*^```(?P<language>[a-z]*)[ \t]*\n(?P<code>.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)

# As pip writes it. The guard counts: the server's workers import the program that started them.
PROGRAM = """\
#!{python}
from distsql.cli import main
if __name__ == "__main__":
    raise SystemExit(main())
"""

EXAMPLE = """\
# A title

<!-- tested -->
```bash
echo one
```
```bash
echo never
```
<!-- tested: python -->

```python
print("```")
```
<!-- tested -->
```
echo two
echo three
```
"""


@dataclass(frozen=True)
class Block:
    kind: str
    code: str
    line: int


def marked_blocks(text: str) -> list[Block]:
    """The fenced blocks behind `<!-- tested -->` and `<!-- tested: python -->`, in order."""
    found = []
    for marker in MARKER.finditer(text):
        line = text.count("\n", 0, marker.start()) + 1
        kind = marker["kind"] or "shell"
        assert kind in LANGUAGES, f"line {line}: nobody knows how to test {kind}"
        block = BLOCK.match(text, marker.end())
        assert block, f"line {line}: no fenced block follows the marker"
        assert block["language"] in LANGUAGES[kind], f"line {line}: {block['language']} isn't {kind}"
        found.append(Block(kind, block["code"], line))
    return found


def readme_blocks(kind: str) -> list[Block]:
    readme = ROOT / "README.md"
    assert readme.exists(), "README.md is missing"
    blocks = [block for block in marked_blocks(readme.read_text(encoding="utf-8")) if block.kind == kind]
    assert blocks, f"README.md has no {kind} block behind a comment that says `tested`"
    return blocks


def test_marked_blocks_are_found() -> None:
    """A reader of the page copies what is marked, and nothing else."""
    assert marked_blocks(EXAMPLE) == [
        Block("shell", "echo one\n", 3),
        Block("python", 'print("```")\n', 10),
        Block("shell", "echo two\necho three\n", 15),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!-- tested -->\nprose\n```\necho\n```\n", "line 1: no fenced block"),
        ("\n<!-- tested: python -->\n```bash\necho\n```\n", "line 2: bash isn't python"),
        ("<!-- tested: perl -->\n```perl\nprint\n```\n", "line 1: nobody knows how to test perl"),
    ],
)
def test_a_marker_that_tests_nothing_is_an_error(text: str, reason: str) -> None:
    """A writer of the page is told about a mistake, instead of believing that a block is tested."""
    with pytest.raises(AssertionError, match=reason):
        marked_blocks(text)


@pytest.fixture
def newcomer(workspace: Path) -> Iterator[Box]:
    """Somebody whose clients have no settings at all: what the page leaves out isn't there."""
    with make_box(workspace / "reader", insecure=None) as box:
        yield box


def check_out(folder: Path) -> None:
    """The files of a clone that was made now, as they are here."""
    git = [require("git"), "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():  # deleted ones are listed too, until that is committed
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
            target.chmod((ROOT / name).stat().st_mode)


def provide_environment(checkout: Path) -> None:
    """A .venv that ./run.sh takes for its own: it has the libraries of this one, since every run of the tests has
    already shown that ./run.sh can install them, and it has the code of the checkout."""
    venv.EnvBuilder(symlinks=True).create(checkout / ".venv")
    (packages,) = (checkout / ".venv/lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(f"{checkout}\n{sysconfig.get_path('purelib')}\n")
    program = checkout / ".venv/bin/distsql"
    program.write_text(PROGRAM.format(python=checkout / ".venv/bin/python"))
    program.chmod(0o755)
    stamp = f'. /dev/stdin <<<"$(sed -n "/^stamp() {{/,/^}}/p" run.sh)"; root={checkout}; stamp >.venv/stamp'
    subprocess.run(["bash", "-euc", stamp], cwd=checkout, check=True)


def test_the_first_steps_work(newcomer: Box, images: Images) -> None:
    """A newcomer starts the server in a fresh clone, and copies the commands of the page into a second terminal.

    An `image.tar` is in the folder, and the port is another one, so that a server that runs already isn't disturbed.
    """
    blocks = readme_blocks("shell")
    for program in ("curl", "podman", "psql", "skopeo"):
        if any(program in block.code for block in blocks):
            require(program)
    assert "./run.sh serve" in (ROOT / "README.md").read_text(encoding="utf-8")
    checkout = newcomer.make_folder("distsql")
    check_out(checkout)
    provide_environment(checkout)
    newcomer.run("skopeo", "copy", f"{images.source}:other", f"docker-archive:{checkout}/image.tar")

    port = free_port()
    environment = {**newcomer.environment, "PATH": SEARCH_PATH, "DISTSQL_PORT": str(port)}
    with serving(["./run.sh", "serve"], port=port, folder=checkout, environment=environment) as host:
        for block in blocks:
            code = re.sub(r"(127\.0\.0\.1|localhost):5000\b", host, block.code)
            said = newcomer.run("bash", "-euo", "pipefail", "-c", f"cd {checkout}\n{code}")
            assert "(0 rows)" not in said, f"README.md, line {block.line}: nothing to see"


def test_the_library_works(database_url: str, tmp_path: Path) -> None:
    """A programmer runs the page's programs, with the URLs of a migrated database and of an empty store."""
    urls = {"DATABASE_URL": database_url, "STORAGE_URL": (tmp_path / "bytes").as_uri()}
    for block in readme_blocks("python"):
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", block.code],
            env={**plain_environment(), **urls},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == 0, f"README.md, line {block.line}\n{ended.stderr}"
        assert ended.stdout, f"README.md, line {block.line}: nothing to see"
        assert not ended.stderr
