"""Sphinx configuration. The build needs no network and fails on undocumented public names."""

import importlib
import socket

from sphinx.util import logging

import skimbal

project = "skimbal"
author = "the skimbal developers"
project_copyright = "2026, the skimbal developers"
release = version = skimbal.__version__

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_title = "skimbal"
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}
# Pages without sub-pages have no use for a column of them; their tables have.
_PLAIN = ("user_guide", "study", "results", "speed", "estimator_checks")
html_sidebars = {page: [] for page in _PLAIN}

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = True
# What classes inherit from torch or scikit-learn's base classes is documented there; what the
# classifiers inherit is theirs.
numpydoc_show_inherited_class_members = dict.fromkeys(
    [
        "skimbal.LossMix",
        "skimbal.CollapseWarning",
        "skimbal.NDSampler",
        "skimbal.losses.FocalLoss",
        "skimbal.losses.MixedLoss",
        "skimbal.losses.SoftF1Loss",
        "skimbal.losses.SoftMCCLoss",
        "skimbal.networks.ResNet",
        "skimbal.networks.SmallCNN",
        "skimbal.study.Difference",
        "skimbal.study.Estimate",
    ],
    False,
)
numpydoc_class_members_toctree = False
numpydoc_validation_checks = {
    "GL08",
    "SS01",
    "PR01",
    "PR02",
    "PR03",
    "PR04",
    "RT01",
    "RT03",
    "EX01",
}
# Properties have no sections, and methods are shown by the example of their class.
numpydoc_validation_exclude = {
    r"Classifier\.\w+$",
    r"Loss\.\w+$",
    r"Sampler\.\w+$",
    r"CNN\.\w+$",
    r"Net\.\w+$",
    r"Display\.\w+$",
    r"DataCard\.\w+$",
    r"LossStudy\.\w+$",
    r"BUILT_IN$",
}


def _reachable(host):
    try:
        socket.create_connection((host, 443), timeout=2).close()
    except OSError:
        return False
    return True


# Cross references to other projects are a service, not a need.
intersphinx_mapping = {
    name: (f"https://{url}/", None)
    for name, url in {
        "imblearn": "imbalanced-learn.org/stable",
        "python": "docs.python.org/3",
        "sklearn": "scikit-learn.org/stable",
        "skorch": "skorch.readthedocs.io/en/stable",
        "torch": "docs.pytorch.org/docs/stable",
    }.items()
    if _reachable(url.split("/")[0])
}

PUBLIC_MODULES = [
    "skimbal",
    "skimbal.datasets",
    "skimbal.displays",
    "skimbal.images",
    "skimbal.losses",
    "skimbal.networks",
    "skimbal.sampling",
    "skimbal.study",
]


def _require_every_public_name(app, env):
    documented = {name for name, *_ in env.get_domain("py").get_objects()}
    for module_name in PUBLIC_MODULES:
        for name in importlib.import_module(module_name).__all__:
            full_name = f"{module_name}.{name}"
            thing = getattr(importlib.import_module(module_name), name)
            home = f"{getattr(thing, '__module__', module_name)}.{name}"
            is_module = full_name in PUBLIC_MODULES
            if name != "__version__" and not is_module and not {full_name, home} & documented:
                logging.getLogger(__name__).warning("undocumented public name: %s", full_name)


def setup(app):
    app.connect("env-check-consistency", _require_every_public_name)
