"""Names of files in a sequence that compositors read: as the input's images are called, or the
video's name and each frame's number in it."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

from carvid.base.errors import OutputError
from carvid.base.words import plural
from carvid.exports.data_set import stem_of
from carvid.exports.written import Stems
from carvid.media.frames import VideoInfo
from carvid.media.open import open_video
from carvid.run.names import png_name
from carvid.run.track import Track

DIGITS = 5
"""Of a frame's number, at least; all of a sequence have as many."""


def sequence_names(track: Track) -> list[str]:
    """Return what each frame's file is called, without the ending: `shot.1001`, of an image's own
    name, with the folders that it is in; `clip.00012`, of frame 12 of a video, from 0, also where
    the run began later or left some out.

    Raises:
        OutputError: the video is another one by now, or came only once and was begun later.
        VideoError: the video is no longer there, and was begun later.
    """
    video = track.facts.video
    if len(video.names) >= len(track) and video.names:
        return _distinct(
            [png_name(name).removesuffix(".png") for name in video.names[: len(track)]]
        )
    numbers = frame_numbers(video, len(track))
    digits = max(DIGITS, len(str(max(numbers, default=0))))
    return [f"{stem_of(video)}.{number:0{digits}}" for number in numbers]


def frame_numbers(video: VideoInfo, count: int) -> list[int]:
    """Return the numbers, from 0, that the first `count` frames of a selection have in the whole
    video.

    Raises:
        OutputError: the video is another one by now, or came only once and was begun later.
        VideoError: it is no longer there; only what was begun later is read again.
    """
    part = video.selection
    if not part.start_s:
        return list(range(0, count * part.stride, part.stride))
    if video.live:
        raise OutputError(
            f"'{video.path}' comes only once, and which of its frames the first one is was not "
            "counted; write the format matte"
        )
    with open_video(video.path, frame_rate=video.asked_rate) as reader, closing(
        (time_s for time_s, _ in reader.pictures())
    ) as times:  # fmt: skip
        numbers = list(islice(part.chosen(times), count))
    if len(numbers) != count:
        raise other_video(video, count)
    return numbers


def other_video(video: VideoInfo, count: int) -> OutputError:
    """Return the error of a video that has not `count` frames by now."""
    return OutputError(
        f"'{video.path}' has another number of frames than the {plural(count, 'mask')}; "
        "give the video of this run"
    )


def _distinct(names: list[str]) -> list[str]:
    """The names, with a number added to all but the first of those that some system takes for
    one: `a.jpg` and `a.png` are one `a`."""
    taken = Stems(keep=True)
    return [taken.of(name) for name in names]
