"""docs/doctor.md shows what the doctor really says. After a change: `python -m tests.docs.test_doctor_page` writes it anew."""

import re
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

from click.testing import CliRunner

from coatcheck.tools.cli import main
from coatcheck.tools.doctor.crossing import CROSSING
from coatcheck.tools.doctor.holding import HOLDING
from coatcheck.tools.doctor.inspection import Inspected
from coatcheck.tools.doctor.packages import PACKAGES
from coatcheck.tools.doctor.report import Check
from coatcheck.tools.doctor.settings import SETTINGS
from coatcheck.tools.doctor.storage import STORAGE
from tests.demo.running import Demo

PAGE = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"
SHOP = re.compile(r"```python\n(# shop\.py\n.*?)```", re.DOTALL)
SECRET = "snippets-only-Zt3xk0VbX1qv8m2LwP5rYd7NfQ9sHc4G"
PORT = "http://127.0.0.1:8000"


def inside(text: str, folder: Path) -> str:
    """What is said of the page's own example."""
    shop = SHOP.search(text)
    assert shop is not None
    (folder / "shop.py").write_text(shop[1].replace("sqlite:///", f"sqlite:///{folder}/"))
    with (
        patch.object(sys, "path", [str(folder), *sys.path]),
        patch(f"{Inspected.__module__}._made", lambda: ()),
    ):
        sys.modules.pop("shop", None)
        said = CliRunner().invoke(main, ["doctor", "shop:app"], env={"SESSION_SECRET": SECRET})
        sys.modules.pop("shop", None)
    return _block("coatcheck doctor shop:app", said.output)


def outside(text: str, folder: Path) -> str:
    """What is said of the demo."""
    command = (
        "coatcheck doctor http://127.0.0.1:8000 --login-url /login --form username=demo --password-env PROBE_PASSWORD \\\n"
        "    --private-url /me --logout-url /logout --public-url /static/app.js"
    )
    with Demo(folder / "state") as demo:
        words = command.replace("\\\n", " ").replace(PORT, demo.url).split()[1:]
        said = CliRunner().invoke(main, words, env={"PROBE_PASSWORD": "demo-password"})
    return _block(command, said.output.replace(demo.url, PORT))


def checks(text: str, folder: Path) -> str:
    """Every check, by its name."""
    parts = {"Before deployment": (*SETTINGS, *STORAGE, *PACKAGES), "From outside": (*CROSSING, *HOLDING)}
    return "\n\n".join(f"{title}: {_names(part)}." for title, part in parts.items())


def _names(part: tuple[Check, ...]) -> str:
    names = [(check.__doc__ or "").partition(".")[0] for check in part]
    return "; ".join(name[0].lower() + name[1:] for name in names).replace("hTTPS", "HTTPS")


def _block(command: str, output: str) -> str:
    return f"```\n$ {command}\n{output.rstrip()}\n```"


MADE = {"inside": inside, "outside": outside, "checks": checks}


def page(text: str, folder: Path) -> str:
    """The page as it must be."""
    for name, make in MADE.items():
        begin = f"<!-- doctor: {name} -->\n"
        before, _, rest = text.partition(begin)
        _, end, after = rest.partition("<!-- doctor: end -->")
        text = f"{before}{begin}\n{make(text, folder)}\n\n{end}{after}"
    return text


def test_the_page_shows_what_the_doctor_says(tmp_path: Path) -> None:
    text = PAGE.read_text()
    assert text == page(text, tmp_path), "run: python -m tests.docs.test_doctor_page"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as room:
        PAGE.write_text(page(PAGE.read_text(), Path(room)))
