"""refcodec.measure.page: one page that needs nothing else, with the right pictures and no markup from names."""

import base64
import io
import re

import numpy as np
from browser import needs_browser, opened
from PIL import Image
from tiny_models import random_picture

from refcodec.cli import main
from refcodec.measure.metrics import heatmap
from refcodec.measure.page import comparison_page


def pictures(page: str) -> list[np.ndarray]:
    data = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in data]


def test_the_page_holds_both_pictures_and_their_difference():
    a, b = random_picture(8, 9), random_picture(8, 9, 1)
    page = comparison_page(a, b, ("a.png", "<b>&"), {"psnr": 30.5, "bit_exact": False}).decode()
    found = pictures(page)
    assert [np.array_equal(*pair) for pair in zip(found, (a, b, heatmap(a, b)), strict=True)] == [True] * 3
    assert "<b>&<" not in page and "&lt;b&gt;&amp;" in page and "30.5" in page and "bit exact" in page
    assert "http" not in page


def test_the_command(tmp_path, capsys):
    for n, name in enumerate("ab"):
        Image.fromarray(random_picture(8, 9, n)[..., 0]).save(tmp_path / f"{name}.png")
    words = ["compare", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--html", str(tmp_path / "page.html")]
    assert main(words) == 0 and len(pictures((tmp_path / "page.html").read_text())) == 3
    assert main(words) == 73 and main([*words, "--force"]) == 0
    assert main([*words[:3], "--html", "-"]) == 2


@needs_browser
def test_a_browser_runs_the_page(tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(comparison_page(random_picture(40, 80), random_picture(40, 80, 1), ("a", "b"), {}))
    with opened(path) as page:
        clip = "document.getElementById('second').style.clipPath"
        assert page.evaluate(clip) == "inset(0px 0px 0px 50%)"
        box = page.locator("#stage").bounding_box()
        page.mouse.move(box["x"] + 20, box["y"] + 5)
        assert page.evaluate(clip) == "inset(0px 0px 0px 25%)"
        page.locator("#map").check()
        assert page.evaluate("document.getElementById('second').src == document.getElementById('difference').src")
        page.locator("#zoom").fill("2")
        assert page.locator("#second").bounding_box()["width"] == 160
