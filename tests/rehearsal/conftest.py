"""The files that need pretended devices are not imported for their doctests."""

collect_ignore = ["devices.py", "kernels.py", "plugin.py", "startup", "streams.py"]
