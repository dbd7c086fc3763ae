"""What each dataset is: its classes, how its frames are named, where its lists and media lie, what a flip does.

Facts only. Class names are in the official index order, which checkpoints and flip maps rely on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MEDIA_NAMES = {"frames": "rawframes", "video": "videos", "zip": "zips", "seekable": "seekable"}
"""Store, or kind of conversion -> its part of folder and list names."""


@dataclass(frozen=True)
class Dataset:
    """One dataset.

    Attributes:
        name, title: its short name, and that for people.
        folder: folder under the data root, which is also the prefix of its list files.
        num_classes: K, or None where the prepared folder says so (`classes.txt`).
        frame_template: file name of a frame, by its number.
        start_index: number of the first frame file.
        split_media: whether every split has a folder of media of its own.
        flip_pairs: labels that a horizontal mirror image exchanges.
        authors_sort_classes: whether the classifier in files of the TSM authors is in alphabetical order.
        splits: how many official divisions into train and val there are, each of them of all videos; 0: one.
        videos: part -> number of videos of the official release.
        home: where people get it.
    """

    name: str
    title: str
    folder: str
    num_classes: int | None
    frame_template: str = "img_{:05}.jpg"
    start_index: int = 1
    split_media: bool = False
    flip_pairs: tuple[tuple[int, int], ...] = ()
    authors_sort_classes: bool = False
    splits: int = 0
    videos: dict[str, int] = field(default_factory=dict)
    home: str = ""

    def part(self, split: str, number: int = 1) -> str:
        """Name of the train or val part of a division: `train`, or `train_split_2` where there are several."""
        return f"{split}_split_{number}" if self.splits else split

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts, train before val."""
        numbers = range(1, max(self.splits, 1) + 1)
        return tuple(self.part(split, number) for number in numbers for split in ("train", "val"))

    def media(self, store: str, split: str) -> str:
        """Name of the folder, below `folder`, that holds the frames or videos of a split."""
        return f"{MEDIA_NAMES[store]}_{split}" if self.split_media else MEDIA_NAMES[store]

    def list_name(self, store: str, split: str) -> str:
        """The file name that MMAction2 uses for the list of a part; `zips` is ours.

        `<folder>_<part>_list_<rawframes|videos>.txt`, without `list` where there are several splits; `train` then
        is that of the first.
        """
        part = split if split in self.parts else self.part(split)
        return f"{self.folder}_{part}{'' if self.splits else '_list'}_{MEDIA_NAMES[store]}.txt"

    @property
    def flip_map(self) -> dict[int, int]:
        """Label -> label of the mirror image, for the labels that change."""
        return {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}

    def class_names(self) -> list[str] | None:
        """Class names in index order, or None where the dataset is the user's own."""
        path = Path(__file__).parent / "classes" / f"{self.name}.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else None


_DATASETS = (
    Dataset(
        "k400", "Kinetics-400", "kinetics400", 400, split_media=True, videos={"train": 240436, "val": 19796},
        home="https://github.com/cvdfoundation/kinetics-dataset",
    ),
    Dataset(
        "sthv1", "Something-Something V1", "sthv1", 174, "{:05}.jpg",
        flip_pairs=((2, 4), (30, 41), (52, 66)),  # camera, pushing, pulling: left and right
        authors_sort_classes=True, videos={"train": 86017, "val": 11522},
        home="https://developer.qualcomm.com/software/ai-datasets/something-something",
    ),
    Dataset(
        "sthv2", "Something-Something V2", "sthv2", 174,
        flip_pairs=((86, 87), (93, 94), (166, 167)),  # pulling, pushing, camera
        videos={"train": 168913, "val": 24777},
        home="https://developer.qualcomm.com/software/ai-datasets/something-something",
    ),
    Dataset(
        "jester", "Jester", "jester", 27, "{:05}.jpg",
        flip_pairs=((0, 1), (6, 7)),  # swiping, sliding two fingers
        authors_sort_classes=True, videos={"train": 118562, "val": 14787},
        home="https://developer.qualcomm.com/software/ai-datasets/jester",
    ),
    Dataset(
        "diving48", "Diving48", "diving48", 48, videos={"train": 15027, "val": 1970},
        home="http://www.svcl.ucsd.edu/projects/resound/",
    ),
    Dataset(
        "ucf101", "UCF101", "ucf101", 101, splits=3,
        videos={"train_split_1": 9537, "val_split_1": 3783, "train_split_2": 9586, "val_split_2": 3734,
                "train_split_3": 9624, "val_split_3": 3696},
        home="https://www.crcv.ucf.edu/research/data-sets/ucf101/",
    ),
    Dataset(
        "hmdb51", "HMDB51", "hmdb51", 51, splits=3,
        videos={f"{part}_split_{n}": count for n in (1, 2, 3) for part, count in (("train", 3570), ("val", 1530))},
        home="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/",
    ),
    Dataset(
        "demo", "synthetic clips that differ only in temporal order", "demo", 8,
        flip_pairs=((0, 1), (6, 7)),  # left and right, clockwise and counter-clockwise
    ),
    Dataset("folder", "your own videos in class folders", "folder", None),
)  # fmt: skip
CATALOG = {dataset.name: dataset for dataset in _DATASETS}
