"""The options of data, which all commands have that read images."""

from pathlib import Path

from skimbal.commands.parser import (
    OneOrSeveral,
    Options,
    count,
    names,
    number_or_word,
    option,
    positive,
    split_names,
)

__all__ = [
    "COUNT",
    "CSV_FILE",
    "OF_ARRAYS",
    "OF_CHANNELS",
    "OF_DATA",
    "OF_FILES",
    "OF_FOLDERS",
    "OF_GROUPS",
    "OF_LISTING",
    "OF_READING",
    "PER_AXIS",
]

#: Settings that several options have.
COUNT = {"type": count, "metavar": "N"}
PER_AXIS = {"nargs": "+", "action": OneOrSeveral, "metavar": "N"}
CSV_FILE = {"type": Path, "metavar": "FILE.csv"}

#: Parameter of load_npz, as an option of files alone.
OF_GROUPS: Options = {
    "groups": option(
        "--groups",
        "array of the .npz file with the group of each image, such as a patient. A "
        "file with splits has train_NAME, val_NAME and test_NAME",
        metavar="NAME",
    ),
}
#: Parameters of load_npz.
OF_ARRAYS: Options = {
    "n_spatial": option(
        "--spatial-axes",
        "number of spatial axes of an image. 3 takes (n, d, h, w) for volumes of few slices",
        type=int,
        choices=(2, 3),
    ),
}
#: The meaning of axes that no file states.
OF_CHANNELS: Options = {
    "channel_axis": option(
        "--channel-axis",
        "axis of an image that counts channels, in .npz files, .npy and zarr: -1 if they come "
        "last, 0 if they come first",
        type=int,
        metavar="N",
    ),
}
#: Parameters of load_npz and load_image_folder.
OF_DATA: Options = {
    **OF_CHANNELS,
    "missing_values": option(
        "--missing-values",
        "texts that stand for a missing label or group (default: NA, NaN, None, NULL and the "
        "like). '' is empty text only",
        type=names,
        metavar="TEXT[,...]",
    ),
    "max_pixels": option(
        "--max-pixels",
        "greatest number of pixels of an image file (default: 2^29) or of an array of an .npz "
        "file (default: 2^31)",
        **COUNT,
    ),
}
OF_FILES: Options = {**OF_GROUPS, **OF_ARRAYS, **OF_DATA}
#: Parameters of ImageFiles that change the pixels.
OF_READING: Options = {
    "size": option(
        "--size",
        "size of all images, in pixels: one number for all axes, or a number for each",
        type=count,
        **PER_AXIS,
    ),
    "resize": option(
        "--resize",
        "interpolate, or crop to the centre (default: resample)",
        choices=("resample", "crop"),
    ),
    "spacing": option(
        "--spacing",
        "resample NIfTI and DICOM to this voxel spacing, for all axes or each. With "
        "--size, it needs --resize crop",
        type=positive,
        **PER_AXIS | {"metavar": "MM"},
    ),
    "channels": option("--channels", "convert pictures: 1 is grey, 3 RGB, 4 RGBA", **COUNT),
    "intensity": option(
        "--intensity",
        "scale of the numbers: stored, full_range, percentiles, or a window of two numbers, such "
        "as -160 240 for a CT (default: as stored, and files of different scales are refused)",
        type=number_or_word,
        **PER_AXIS | {"metavar": "RULE|N"},
    ),
}
#: Parameters of load_image_folder about the listing of files.
OF_LISTING: Options = {
    "labels": option("--labels", "table with a row for each image", **CSV_FILE),
    "path_column": option(
        "--path-column", "column of paths, relative to the folder (default: path)", metavar="NAME"
    ),
    "label_column": option("--label-column", "column of classes (default: label)", metavar="NAME"),
    "group_column": option(
        "--group-column",
        "column of groups, such as patients. No group is on both sides of a split",
        metavar="NAME",
    ),
    "split_column": option("--split-column", "column with train, val or test", metavar="NAME"),
    "splits": option(
        "--splits",
        "part of each folder of a split, or of each value of --split-column, such as "
        "fold1=train,fold2=test,extra=none. none alone: all folders are classes",
        type=split_names,
        metavar="NAME=PART[,...]",
    ),
    "encoding": option(
        "--encoding", "encoding of the table, such as cp1252 (default: UTF-8)", metavar="NAME"
    ),
    "cache": option(
        "--image-cache",
        "keep images after the first epoch, so that they are read once",
        metavar="memory|FOLDER",
    ),
    "on_error": option(
        "--on-error",
        "end at a file that cannot be read or has no label, or skip it (default: raise)",
        choices=("raise", "skip"),
    ),
}
#: Parameters of load_image_folder.
OF_FOLDERS: Options = {**OF_LISTING, **OF_READING}
