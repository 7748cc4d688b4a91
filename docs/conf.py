"""How Sphinx builds the documentation: `make docs`. No network, no generated pages."""

from importlib.metadata import version as installed_version

project = "coatcheck"
author = "coatcheck contributors"
copyright = "coatcheck contributors"
release = installed_version("coatcheck")

extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = "coatcheck"
html_copy_source = False
html_show_sphinx = False
