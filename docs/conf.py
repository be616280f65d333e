"""Sphinx configuration. The build needs no network.

It fails on a public name without documentation, a cross reference or a local link without a target,
and a warning in an example of the gallery.
"""

import importlib
import socket
import warnings
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib
import torch
from cycler import cycler
from sphinx.util import logging

import skimbal

project = "skimbal"
author = "the skimbal developers"
project_copyright = "2026, the skimbal developers"
release = version = skimbal.__version__

extensions = [
    "matplotlib.sphinxext.figmpl_directive",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples", "figures"]
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_title = "skimbal"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["landing.css"]
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}
# Pages without sub-pages use the width of that column for their tables.
html_sidebars = {
    page: []
    for page in (
        *(
            "index",
            "user_guide",
            "image_files",
            "image_formats",
            "study",
            "models_in_use",
            "command_line",
            "saving",
            "evaluation",
            "decisions",
            "decoupling",
            "explanations",
            "export",
            "failures",
            "resuming",
            "choosing",
            "losses",
            "small_batches",
            "volumes",
            "distributed",
            "results",
        ),
        *("pretrained", "speed", "extending", "overriding", "estimator_checks"),
    )
}

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = True
# torch and scikit-learn document the members that classes inherit from their base classes. The
# members that the classifiers inherit from this package are shown.
numpydoc_show_inherited_class_members = dict.fromkeys(
    [
        "skimbal.LossMix",
        "skimbal.CollapseWarning",
        "skimbal.Pretrained",
        "skimbal.SliceNet",
        "skimbal.NDSampler",
        "skimbal.augmentation.CenterCrop",
        "skimbal.callbacks.Resume",
        "skimbal.datasets.Finding",
        "skimbal.augmentation.OneOf",
        "skimbal.augmentation.PerSample",
        "skimbal.augmentation.RandomAffine",
        "skimbal.augmentation.RandomCrop",
        "skimbal.augmentation.RandomErasing",
        "skimbal.augmentation.RandomFlip",
        "skimbal.augmentation.RandomGamma",
        "skimbal.augmentation.RandomGaussianBlur",
        "skimbal.augmentation.RandomSigmoidContrast",
        "skimbal.augmentation.RandomSymmetry",
        "skimbal.exceptions.DivergenceError",
        "skimbal.exceptions.NonFinitePredictionError",
        "skimbal.exceptions.ParameterError",
        "skimbal.images.DecodedImage",
        "skimbal.images.GuessedAxes",
        "skimbal.images.ImageOptions",
        "skimbal.losses.FocalLoss",
        "skimbal.losses.MixedLoss",
        "skimbal.losses.ModuleLoss",
        "skimbal.losses.Term",
        "skimbal.losses.SoftF1Loss",
        "skimbal.losses.SoftMCCLoss",
        "skimbal.networks.ACSConv3d",
        "skimbal.networks.GridPool",
        "skimbal.networks.NetworkSpec",
        "skimbal.networks.PretrainedNetwork",
        "skimbal.networks.ResNet",
        "skimbal.networks.ResidualBlock",
        "skimbal.networks.ResidualCNN",
        "skimbal.networks.SmallCNN",
        "skimbal.evaluation.OperatingPoint",
        "skimbal.evaluation.ScoreEstimate",
        "skimbal.evaluation.WorstError",
        "skimbal.study.Difference",
        "skimbal.study.Estimate",
        "skimbal.decoupling.DecoupledClassifier",
        "skimbal.thresholds.CostMatrixClassifier",
        "skimbal.thresholds.PriorCorrectedClassifier",
        "skimbal.thresholds.TunedOffsetsClassifierCV",
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
    r"Classifier(CV)?\.\w+$",
    r"(DataCard|DataInspection|Finding|ReadRequest)\.\w+$",
    r"callbacks\.Resume\.\w+$",
    r"ImageArray\.\w+$",
    r"ImageFiles\.\w+$",
    r"Loss\.\w+$",
    r"augmentation\.[A-Z]\w+\.\w+$",
    r"Sampler\.\w+$",
    r"Study\.\w+$",
    r"evaluation\.(Evaluation|Level|OperatingPoint|ScoreEstimate|WorstError)\.\w+$",
    r"images\.(DecodedImage|FileForm|GuessedAxes|InputForm|PixelStatistics)\.\w+$",
    r"sampling\.Strategy\.\w+$",
    # Types, whose members are described one by one.
    r"images\.ImageOptions(\.\w+)?$",
    r"losses\.(BatchLoss|SumOverParts)(\.\w+)?$",
    r"networks\.(LearningRateFactors|SplitNetwork|Unfreezable)(\.\w+)?$",
    r"(NetworkSpec|Pretrained|PretrainedNetwork)\.\w+$",
    r"LossMix\.\w+$",
    r"losses\.Term\.\w+$",
    r"study\.(Configuration|Difference|Estimate|Fit)\.\w+$",
    r"(ACSConv3d|CNN|GridPool|Net|ResidualBlock)\.\w+$",
    r"Display\.\w+$",
    r"ParameterError\.\w+$",
    r"(AugmentSpec|BUILT_IN|CostMatrix|FORMATS|LARGEST_FACTOR|LossSpec|PAPER_LOSSES|ModuleSpec|PriorSpec|RECIPES|SCHEDULES|STRATEGIES|SamplerSpec|TERMS)$",
}


def _reachable(host):
    try:
        socket.create_connection((host, 443), timeout=2).close()
    except OSError:
        return False
    return True


# Cross references to other projects are optional.
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

# A reference without a target is an error. Names of other packages, which are written in full, can
# be resolved only with a network, so they are exempt.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|functools|imblearn|numpy|sklearn|skorch|torch)\..*"),
    # Inherited from scikit-learn, with texts that refer to its glossary.
    ("py:obj", r"skimbal\..*\.(get_metadata_routing|set_output|set_\w+_request)"),
]

# Pictures: the colours of Okabe and Ito. The figures' line styles tell them apart in grey.
_COLORS = cycler(color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"])
_LINES = cycler(linestyle=["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1))])
_STYLE = {
    "axes.grid": True,
    "axes.prop_cycle": _COLORS,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.alpha": 0.3,
    "image.cmap": "cividis",
    "lines.linewidth": 1.8,
}
plot_apply_rcparams = True
plot_formats = [("png", 110)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {**_STYLE, "axes.prop_cycle": _COLORS + _LINES}
plot_srcset = ["2x"]

torch.set_num_threads(1)  # the machines that build share their cores
_filters = {}


def _start_example(gallery_conf, fname, when):
    """Give each example the style of the figures, and turn its warnings into errors."""
    if when == "before":
        matplotlib.rcParams.update(_STYLE)
        _filters[fname] = warnings.filters[:]
        warnings.simplefilter("error")
    else:
        warnings.filters[:] = _filters.pop(fname)


# The configuration contains a function, so Sphinx reads all pages in each build.
suppress_warnings = ["config.cache"]
sphinx_gallery_conf = {
    "abort_on_example_error": True,
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "image_srcset": ["2x"],
    "remove_config_comments": True,
    "reset_modules": ("matplotlib", _start_example),
    "reset_modules_order": "both",
    "show_signature": False,
    "within_subsection_order": "FileNameSortKey",
}

PUBLIC_MODULES = [
    "skimbal",
    "skimbal.augmentation",
    "skimbal.callbacks",
    "skimbal.datasets",
    "skimbal.decoupling",
    "skimbal.displays",
    "skimbal.evaluation",
    "skimbal.exceptions",
    "skimbal.explanation",
    "skimbal.images",
    "skimbal.losses",
    "skimbal.networks",
    "skimbal.persistence",
    "skimbal.sampling",
    "skimbal.study",
    "skimbal.thresholds",
]


def _require_every_public_name(app, env):
    documented = {name for name, *_ in env.get_domain("py").get_objects()}
    for module_name in PUBLIC_MODULES:
        for name in importlib.import_module(module_name).__all__:
            full_name = f"{module_name}.{name}"
            thing = getattr(importlib.import_module(module_name), name)
            # A name of the package may be a name of one of its modules, too.
            homes = {full_name, f"skimbal.{name}", f"{getattr(thing, '__module__', '')}.{name}"}
            is_module = full_name in PUBLIC_MODULES
            if name != "__version__" and not is_module and not homes & documented:
                logging.getLogger(__name__).warning("undocumented public name: %s", full_name)


class _Page(HTMLParser):
    """The links of a page, and the anchors in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = set(), {"", "top"}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.add(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value)


def _check_local_links(app, exception):
    """Follow every link of the built pages that stays among them."""
    if exception or app.builder.name != "html":
        return
    logger = logging.getLogger(__name__)
    out = Path(app.outdir).resolve()
    # Static files of the theme are not pages.
    paths = (path for path in out.rglob("*.html") if "_static" not in path.parts)
    pages = {path: _Page(path) for path in paths}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                logger.warning("%s links to %s, which does not exist", path.name, link)
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                logger.warning("%s links to %s, which has no such place", path.name, link)


def setup(app):
    app.connect("env-check-consistency", _require_every_public_name)
    app.connect("build-finished", _check_local_links, priority=900)
