"""Sphinx configuration. The build needs no network.

It fails on a public name without documentation, a cross reference or a local link without a target,
and a warning in an example of the gallery.
"""

import html
import importlib
import socket
import sys
import warnings
from pathlib import Path

import matplotlib
import torch
from cycler import cycler
from docutils.nodes import SkipNode
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).parent))
from check_pages import faults_of_links, read_pages

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
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples", "figures"]
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_title = "skimbal"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_theme_options = {
    "header_links_before_dropdown": 7,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}
# The first page has the width of both columns.
html_sidebars = {"index": []}
# The modules are sections of the API page.
html_domain_indices = False
html_math_renderer = "mathml"

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = True
# torch and scikit-learn document the members that classes inherit from their base classes. The
# members that the classifiers inherit from this package are shown.
numpydoc_show_inherited_class_members = dict.fromkeys(
    [
        "skimbal.KeyedClassifier",
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
        "skimbal.augmentation.MAMix",
        "skimbal.augmentation.MixDraw",
        "skimbal.augmentation.Mixup",
        "skimbal.augmentation.Remix",
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
    r"(DataCard|DataInspection|Finding|MemoryEstimate|ReadRequest)\.\w+$",
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
    r"(AugmentSpec|BUILT_IN|CostMatrix|FORMATS|HeadSpec|LARGEST_FACTOR|LossSpec|PAPER_LOSSES|ModuleSpec|PriorSpec|RECIPES|SCHEDULES|STRATEGIES|SamplerSpec|TERMS)$",
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
    # Its page loads scripts from a network.
    "write_computation_times": False,
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
    "skimbal.memory",
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


def _check_links(app, exception):
    """Follow every link of the built pages."""
    if not exception and app.builder.name == "html":
        for path, fault in faults_of_links(read_pages(Path(app.outdir).resolve())):
            logging.getLogger(__name__).warning("%s %s", path.name, fault)


def _write_formula(self, node):
    """Write a formula as MathML, which browsers and screen readers read without a script."""
    is_block = node.tagname == "math_block"
    try:
        formula = tex2mathml(node.astext(), as_block=is_block)
    except MathError as error:
        logging.getLogger(__name__).warning("formula: %s", error, location=node)
        formula = html.escape(node.astext())
    # A formula that is wider than the window of a phone scrolls, with the keys, too.
    tag, more = ("div", ' tabindex="0"') if is_block else ("span", "")
    self.body.append(f'<{tag} class="math"{more}>{formula}</{tag}>')
    raise SkipNode


def setup(app):
    app.connect("env-check-consistency", _require_every_public_name)
    app.connect("build-finished", _check_links, priority=900)
    app.add_html_math_renderer("mathml", (_write_formula, None), (_write_formula, None))
