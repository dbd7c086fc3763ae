"""Marked intervals of long videos to a network, and back to intervals: how well they fit.

    python benchmarks/long_videos.py [FOLDER]

`tsm prepare-data demo-long` makes recordings of the demo's clips, in which one to three seconds of stillness lie
between two clips, and tables of where they are. `tsm prepare-data intervals --background still` makes lists of one,
the demo's network is trained on them, `tsm events fit` chooses its rules on recordings of its own, and others are
looked through. Prints mAP, F1, false alarms and delays of these.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

STRIDE_SEC = 0.25


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/long_videos")
    made = folder / "made"
    if not made.is_dir():
        tsm("prepare-data", "demo-long", "--out", made)
    data, run, found = folder / "data", folder / "run", folder / "found.json"
    tsm("prepare-data", "intervals", "--annotations", made / "train.csv", "--source", made / "videos",
        "--out", data, "--background", "still")  # fmt: skip
    tsm("train", "--preset", "demo", "--data", data, "--work-dir", run,
        "--set", "data.dataset=folder", "augment.flip_prob=0", "augment.flip_swaps_labels=false")  # fmt: skip
    best, still = run / "best.pt", ("--background", "still")
    tsm("events", "fit", best, "--list", made / "fit.csv", "--media", made / "videos", *still,
        "--stride", STRIDE_SEC)  # fmt: skip
    tsm("predict", best, made / "videos/test", "--events", "--to", found)
    said = tsm("eval", found, "--metrics", "tiou_map", "--list", made / "test.csv", "--json")
    scores = json.loads(said)
    scores["tiou_map"].pop("ap")
    keep = ("tiou_map", "f1", "false_alarms", "false_alarms_per_hour", "found", "true", "delay_sec")
    print(json.dumps({key: scores[key] for key in keep}, indent=1))


def tsm(*args: object) -> str:
    command = [sys.executable, "-m", "tsmcli", *map(str, args)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
