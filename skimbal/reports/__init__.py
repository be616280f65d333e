"""The parts that reports share: pages that are complete in themselves, and their pictures."""

from skimbal.reports.page import format_duration, new_page, render_page, require_packages
from skimbal.reports.pictures import (
    Picture,
    describe_confusion_matrix,
    draw_confusion_matrix,
    make_picture,
    picture_style,
    shorten_name,
)

__all__ = [
    "Picture",
    "describe_confusion_matrix",
    "draw_confusion_matrix",
    "format_duration",
    "make_picture",
    "new_page",
    "picture_style",
    "render_page",
    "require_packages",
    "shorten_name",
]
