"""Sphinx: `make docs` builds the pages of this folder into build/docs, offline."""

project = "HCPL kernel kit"
copyright = "Apache-2.0"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Single-cell protein localisation, offline", "page_width": "1000px"}
html_copy_source = False
html_show_sphinx = False
