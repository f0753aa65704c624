"""Sphinx: the pages of this folder, the notebooks and the API reference, as a site (`make site`)."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

import softcue

project = "softcue"
author = "the softcue authors"
copyright = author  # noqa: A001 - the name that Sphinx reads
version = release = softcue.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["__pycache__", "**/.ipynb_checkpoints"]
myst_heading_anchors = 3

# Notebooks are run where they are; their runs stay under runs/, so that a second build trains nothing.
nb_execution_mode = "auto"
nb_execution_raise_on_error = True
nb_execution_timeout = 1200
nb_merge_streams = True
nb_output_stderr = "remove"  # progress of loading and training

# Single backquotes are code in docstrings, as in Markdown.
default_role = "code"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"softcue {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def sections_as_fields(app: Sphinx, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """Turn the sections "Args:" and "Raises:" of a docstring into Sphinx's fields; sphinx.ext.napoleon would
    also take the words before a colon in a property's first line for its type."""
    for section, field in (("Args:", "param"), ("Raises:", "raises")):
        if section in lines:
            at = lines.index(section)
            end = next((i for i in range(at + 1, len(lines)) if re.match(r"\S", lines[i])), len(lines))
            fields = [re.sub(r"^    (\w[\w, ]*): ", rf":{field} \1: ", line) for line in lines[at + 1 : end]]
            lines[at:end] = ["", *fields, ""]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", sections_as_fields)
