"""Frames and times of our reader beside those of the ffmpeg program, for files of every kind."""

from __future__ import annotations

import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import Frame, numbered_frames, write_video

from tsmcli.data.pyav_reader import PyAVReader

SOURCE = "numbers.nut"
X264 = "-c:v libx264 -g 12 -bf 2"
X265 = "-c:v libx265 -g 12 -x265-params log-level=none:pools=1"
VP8 = "-c:v libvpx -g 12 -deadline realtime -cpu-used 8"
VP9 = "-c:v libvpx-vp9 -g 12 -deadline realtime -cpu-used 8"
AV1 = "-c:v libsvtav1 -g 12 -preset 10 -svtav1-params lp=1"
NTSC = "-vf settb=1001/30000,setpts=N -r 30000/1001"
SPARSE = "-vf select='not(mod(n,3))+not(mod(n,7))' -fps_mode vfr"
JITTER = "-vf settb=1/1000,setpts='N*40+17*mod(N*N,5)/4' -fps_mode passthrough -enc_time_base 1/1000"
BT709 = "-colorspace bt709 -color_primaries bt709 -color_trc bt709"
HEADLESS = "-c copy -bsf:v noise=drop='lt(n,7)'"
FILES = {
    # containers and codecs
    "h264.mp4 h264.mov h264.mkv h264.nut h264.flv h264.ts h264.m2ts h264.avi h264.h264": X264,
    "no_b_frames.mp4 no_b_frames.3gp no_b_frames.mxf": "-c:v libx264 -g 12 -bf 0 -pix_fmt yuv420p",
    "long_gop.mp4": "-c:v libx264 -g 250 -bf 8 -x264-params b-pyramid=normal",
    "open_gop.mp4 open_gop.mkv open_gop.ts": f"{X264} -x264-params open-gop=1",
    "interlaced.mp4 interlaced.ts": f"{X264} -x264-params tff=1",
    "fragments.mp4": f"{X264} -movflags frag_keyframe+empty_moov",
    "negative_offsets.mp4": f"{X264} -movflags negative_cts_offsets",
    "no_edit_list.mp4": f"{X264} -use_editlist 0",
    "hevc.mp4 hevc.mkv hevc.ts hevc.hevc": X265,
    "hevc_open_gop.mp4": f"{X265}:open-gop=1:bframes=4",
    "vp8.webm vp8.ivf": VP8,
    "vp9.webm vp9.mp4": VP9,
    "hidden_libvpx.mkv hidden_libvpx.avi hidden_libvpx-vp9.webm":
        "-c:v {} -auto-alt-ref 1 -lag-in-frames 16 -deadline good -cpu-used 4",
    "av1.mp4 av1.mkv av1.webm av1.ivf av1.obu": AV1,
    "aom.mkv": "-c:v libaom-av1 -cpu-used 8 -g 12",
    "mpeg4.mp4 mpeg4.mkv mpeg4.avi mpeg4.m4v": "-c:v mpeg4 -bf 2",
    "mpeg1.mpg mpeg1.ts": "-c:v mpeg1video",
    "mpeg2.mpg mpeg2.vob mpeg2.ts mpeg2.mkv mpeg2.mxf mpeg2.wtv mpeg2.m2v": "-c:v mpeg2video -bf 2",
    "mpeg2_interlaced.ts": "-c:v mpeg2video -bf 2 -flags +ildct+ilme",
    "h263.3gp": "-c:v h263 -s 176x144",
    "mjpeg.avi mjpeg.mov mjpeg.mjpeg theora.ogv theora.mkv wmv1.wmv wmv2.asf msmpeg4.avi flv.flv rv20.rm svq1.mov "
    "ffv1.mkv prores.mov jpeg2000.mxf huffyuv.avi utvideo.avi qtrle.mov rawvideo.avi v210.mov libx264rgb.mp4":
        "-c:v {}",
    "dnxhr.mov dnxhr.mxf": "-c:v dnxhd -profile:v dnxhr_hq -s 256x120 -pix_fmt yuv422p",
    "dv.dv": "-s 720x576 -pix_fmt yuv420p -frames:v 12",
    "plain.gif plain.apng plain.y4m": "",
    "still.png still.jpg": "-frames:v 1 -update 1",
    # orientations
    "turn_90.mp4 turn_180.mp4 turn_270.mp4 turn_90.mov turn_90.mkv": "-display_rotation {} -i h264.mp4 -c copy",
    "mirror_0.mp4 mirror_90.mp4 mirror_180.mp4 mirror_270.mp4 mirror_90.mov mirror_0.mkv mirror_30.mp4":
        "-display_rotation {} -display_hflip -i h264.mp4 -c copy",
    "oblique_45.mp4 oblique_100.mp4": "-display_rotation {} -i h264.mp4 -c copy",
    "nearly_90.mp4": "-display_rotation 90.4 -i h264.mp4 -c copy",
    "odd_90.mp4": "-display_rotation 90 -i odd_yuv444p.mp4 -c copy",
    "vp9_180.webm": "-display_rotation 180 -i vp9.webm -c copy",
    "exif_90.png": "-noautorotate -display_rotation 90 -i still.png -update 1",
    "turn_in_stream.ts": "-i h264.ts -c copy -bsf:v h264_metadata=display_orientation=insert:rotate=90",
    "mirror_in_stream.mkv": "-i h264.mkv -c copy -bsf:v h264_metadata=display_orientation=insert:flip=horizontal",
    # rates and times
    "ntsc.mp4 ntsc.mkv ntsc.ts ntsc.flv": f"{X264} {NTSC}",
    "ntsc.mpg ntsc.avi ntsc.ogv ntsc.gif": NTSC,
    "slow.mp4": f"{X264} -vf settb=1/1,setpts=2*N -r 1/2",
    "fast.mkv": f"{X264} -vf settb=1/2000,setpts=N -fps_mode passthrough -enc_time_base 1/2000",
    "sparse.mp4 sparse.mkv sparse.ts sparse.flv sparse.nut sparse.avi": f"{X264} {SPARSE}",
    "sparse.gif sparse.asf sparse_mpeg4.avi": SPARSE,
    "jitter.mp4 jitter.mkv": f"{X264} {JITTER}",
    "jitter.webm": f"{AV1} {JITTER}",
    "pause.mp4 pause.mkv pause.ts": f"{X264} -vf settb=1/25,setpts='N+200*gt(N,20)' -fps_mode vfr",
    "stream.webm": f"{VP9} {SPARSE} -seekable 0",
    "stream_vp8.webm": f"{VP8} {JITTER} -seekable 0",
    "stream.mkv stream.flv": f"{X264} -seekable 0",
    # edit lists, offsets and cuts
    "cut_h264.mp4 cut_h264.mkv cut_h264.ts cut_hevc.mp4 cut_sound.mp4 cut_open_gop.mp4 cut_open_gop.mkv "
    "cut_hevc_open_gop.mp4": "-ss 0.8 -i {}.mp4 -c copy",
    "part_long_gop.mov part_h264.mp4": "-ss 0.8 -to 1.5 -i {}.mp4 -c copy",
    "headless.mp4 headless.mkv headless.ts": f"-i h264.mp4 {HEADLESS}",
    "headless.mpg": f"-i mpeg2.mpg {HEADLESS}",
    "headless_vp8.webm headless_vp9.webm": f"-i {{}}.webm {HEADLESS}",
    "later.mp4 later.mkv": "-itsoffset 1.5 -i h264.mp4 -c copy",
    "later_1000.ts wrap_95442.ts wrap_95442.mpg": "-i mpeg2.ts -c copy -output_ts_offset {}",
    "negative.mp4": "-itsoffset -0.3 -i h264.mp4 -c copy -avoid_negative_ts disabled",
    "restart.ts": "-f data -i concat:h264.ts|h264.ts -map 0 -c copy -f data",
    "restart.mpg": "-f data -i concat:mpeg2.mpg|mpeg2.mpg -map 0 -c copy -f data",
    "same_time.mkv": "-i h264.mkv -c copy -bsf:v setts=pts='if(eq(N,9),PREV_OUTPTS,PTS)':dts=DTS",
    # other streams
    "sound.mp4 sound.mkv sound.ts": f"-itsoffset 0.5 -i {SOURCE} -f lavfi -i sine=duration=3 {X264} -c:a aac",
    "two_videos.mp4": "-i h264.mp4 -i turn_90.mp4 -map 0 -map 1 -c copy",
    "larger_second.mkv": "-i h263.3gp -i h264.mp4 -map 1 -map 0 -c copy",
    "cover.mp4 cover.mkv":
        "-i h264.mp4 -i dv.dv -map 0 -map 1 -c copy -c:v:1 png -frames:v:1 1 -disposition:v:1 attached_pic",
    # pixel formats and sizes
    "yuv422p.mp4 yuv444p.mp4 yuvj420p.mp4 yuv420p10.mp4 gray.mp4": f"{X264} -pix_fmt {{}}",
    "hevc_yuv420p10.mkv": f"{X265} -pix_fmt {{}}",
    "vp9_yuv420p10.webm": f"{VP9} -profile:v 2 -pix_fmt {{}}",
    "ffv1_yuv422p10.mkv ffv1_gray.mkv ffv1_gray16.mkv": "-c:v ffv1 -pix_fmt {}",
    "png_monob.mkv png_rgb48be.mkv": "-c:v png -pix_fmt {}",
    "raw_rgb24.nut raw_bgr24.avi raw_rgb555le.avi": "-c:v rawvideo -pix_fmt {}",
    "pal8_png.mkv pal8_rawvideo.avi": "-c:v {} -vf split[a][b];[a]palettegen[p];[b][p]paletteuse",
    "alpha.mov": "-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10",
    "alpha.webm": f"{VP8} -pix_fmt yuva420p -auto-alt-ref 0",
    "bt709.mp4": f"{X264} -vf scale=out_color_matrix=bt709 {BT709}",
    "bt709_full.mp4": f"{X264} -vf scale=out_color_matrix=bt709:out_range=full {BT709} -color_range pc",
    "hdr.mp4": f"{X265} -pix_fmt yuv420p10 -colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084",
    "odd_yuv444p.mp4": f"{X264} -vf format={{}},crop=157:93",
    "odd_vp9.webm odd_libsvtav1.mp4 odd_mpeg4.avi odd_mjpeg.mov odd_ffv1.mkv odd_gif.gif":
        "-c:v {} -vf crop=157:93:exact=1",
    "even_theora.ogv even_h264.mp4 even_hevc.mp4": "-c:v {} -vf crop=154:90",
    "wide_pixels.mp4": f"{X264} -vf setsar=4/3",
    "cropped.mp4": "-i h264.mp4 -c copy -bsf:v h264_metadata=crop_left=8:crop_top=4",
}  # fmt: skip
"""Names, and arguments that make such files of numbered frames or other files. {} is what follows the first _."""
ARGUMENTS = {
    name: arguments.replace("{}", name.split(".")[0].split("_", 1)[-1])
    for names, arguments in FILES.items() for name in names.split()
}  # fmt: skip
QUICK = ("h264.mp4", "hevc.mkv", "vp9.webm", "mpeg2.ts", "mirror_90.mp4", "jitter.mp4", "sparse.ts", "cut_h264.mp4")
RAW = "-an -sn -dn -fps_mode passthrough -enc_time_base demux -pix_fmt rgb24 -sws_flags bilinear"


def ffmpeg_program() -> str:
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        found = shutil.which("ffmpeg")
    return found or pytest.skip("no ffmpeg program here: install it, or the package imageio-ffmpeg")


def ffmpeg(folder: Path, arguments: str) -> bytes:
    command = [ffmpeg_program(), "-nostdin", "-v", "error", *arguments.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    words = done.stderr.decode(errors="replace")
    if re.search("Unknown (en|de)coder|Unrecognized option", words):
        pytest.skip(f"this ffmpeg is another one: {words.splitlines()[0]}")
    assert done.returncode == 0, words
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_video(folder / SOURCE, numbered_frames(48, 96, 160), "ffv1")
    return folder


def make(folder: Path, name: str) -> Path:
    """The file of this name, after those that it is made of."""
    if not (folder / name).exists():
        arguments = ARGUMENTS[name]
        for other in set(re.findall(r"\w+\.\w+", arguments)) & set(ARGUMENTS):
            make(folder, other)
        source = "" if "-i " in arguments else f"-i {SOURCE}"
        ffmpeg(folder, f"{source} {arguments} -threads 1 {name}")
    return folder / name


def shown_by_ffmpeg(path: Path) -> tuple[Frame, NDArray[np.float64]]:
    """Upright frames [n, H, W, 3], and seconds from the first one, [n]."""
    pixels = ffmpeg(path.parent, f"-threads 1 -i {path.name} {RAW} -f rawvideo - {RAW} -f framecrc {path.name}.txt")
    text = Path(f"{path}.txt").read_text()
    size: Any = re.search(r"#dimensions 0: (\d+)x(\d+)", text)
    clock: Any = re.search(r"#tb 0: (\S+)", text)
    ticks = np.array([int(line.split(",")[2]) for line in text.splitlines() if line[0] != "#"])
    frames = np.frombuffer(pixels, np.uint8).reshape(len(ticks), int(size[2]), int(size[1]), 3)
    return frames, (ticks - ticks[0]) * float(Fraction(clock[1]))


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in ARGUMENTS])
def test_frames_and_times_are_those_of_ffmpeg(folder: Path, name: str) -> None:
    path = make(folder, name)
    frames, times = shown_by_ffmpeg(path)
    count = len(frames)
    with PyAVReader(path) as reader:
        assert reader.num_frames == count
        ours = reader.read(np.arange(count))
        np.testing.assert_allclose(reader.times, times, atol=0.001)
        assert float(reader.timeline.rate) * times[-1] == pytest.approx(count - 1, rel=1e-3)
    for number, frame in enumerate(ours):
        assert frame.shape == frames[number].shape
        beside = range(max(number - 1, 0), min(number + 2, count))
        apart = {i: float(np.abs(frames[i].astype(np.int16) - frame).mean()) for i in beside}
        assert min(apart, key=lambda i: apart[i]) == number
        assert apart[number] <= 4
    with PyAVReader(path) as reader:
        for number in np.random.default_rng(0).permutation(count)[:4]:
            assert np.array_equal(reader.read(np.array([number]))[0], ours[number])
