"""A notebook in JupyterLab, whole."""

import shutil
from pathlib import Path

from playwright.sync_api import expect

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_icl_cost_arithmetic.ipynb"
READY = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady"
RUN = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
CELLS = """() => Array.from(window.jupyterapp.shell.currentWidget.content.model.cells)
    .filter(cell => cell.type === 'code').map(cell => cell.toJSON())"""


def test_a_notebook_runs_whole_in_jupyterlab(serve, page, shot, tmp_path):
    shutil.copy(NOTEBOOK, tmp_path)
    address = serve(
        "jupyterlab", "--ServerApp.ip=127.0.0.1", "--ServerApp.allow_root=True",
        "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
        f"--ServerApp.root_dir={tmp_path}", FRUGAL_PRESET="smoke",
    )  # fmt: skip
    page.goto(f"{address}/lab/tree/{NOTEBOOK.name}")
    page.wait_for_function(READY)
    page.evaluate(RUN)
    cells = page.evaluate(CELLS)
    assert len(cells) > 20
    for cell in cells:
        assert cell["execution_count"]
        errors = [out for out in cell["outputs"] if out["output_type"] == "error"]
        assert not errors
    explorer = page.locator(".explorer-icl-cost")
    handle = explorer.locator(".widget-hslider .noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.press("ArrowRight")
    expect(explorer.get_by_text("Behind 42 examples")).to_be_visible()
    shot("jupyterlab")
