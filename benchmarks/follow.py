"""How soon the label of a stream follows a change of clips.

    tsm stream CHECKPOINT --source 'FOLDER/val/*.mp4' --every 3 --json > seen.jsonl
    python benchmarks/follow.py seen.jsonl LIST

LIST is a list file with the right class of every clip. For the clips, streamed one after the other without a break,
it prints in how many the right label was said within so many frames that the network saw, and in how many it was
said within so many and kept until the clip ended.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tsmcli.data.listfile import read_list

WITHIN = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seen", type=Path)
    parser.add_argument("list", type=Path)
    options = parser.parse_args()
    labels = {Path(record.path).name: record.label for record in read_list(options.list, "video")}
    right: dict[str, list[bool]] = {}
    for line in options.seen.read_text().splitlines():
        seen = json.loads(line)
        right.setdefault(seen["video"], []).append(seen["label"] == labels[Path(seen["video"]).name])
    clips = list(right.values())
    print(f"{len(clips)} clips, {sum(map(len, clips))} frames, label right in {sum(map(sum, clips))}")
    for frames in WITHIN:
        said = sum(any(clip[:frames]) for clip in clips)
        kept = sum(any(all(clip[i:]) for i in range(min(frames, len(clip)))) for clip in clips)
        print(f"within {frames}: said in {said}, said and kept in {kept}")


if __name__ == "__main__":
    main()
