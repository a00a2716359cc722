"""Draw the videos of the sample corpus: the person who speaks, with the expression given in faces.csv.

    python tools/draw_sample_clips.py [--seed 42] [--out FOLDER]

One video per conversation, with the times of MESC.csv. Needs PyAV, which the project's `dev` extra installs. The same seed
draws the same pictures; another version of the encoder may write different bytes.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import av
import numpy as np
from PIL import Image, ImageDraw

CORPUS = Path(__file__).resolve().parents[1] / "src" / "fires_exp" / "data" / "sample_corpus"
SIZE = 112
FPS = 5
OVERSAMPLING = 3
TAIL_FRAMES = 3

Color = tuple[int, int, int]
Point = tuple[float, float]
Eyes = Literal["open", "happy", "shut"]
Mouth = Literal["line", "teeth", "wavy", "twisted"]

INK: Color = (45, 32, 36)
WHITE: Color = (255, 255, 255)
WATER: Color = (74, 160, 245)
RED: Color = (226, 42, 36)
PINK: Color = (240, 120, 128)
GREEN: Color = (138, 178, 84)
GRAY: Color = (138, 144, 160)
PALE: Color = (246, 246, 250)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """How a face differs from a neutral one: lengths in pixels of the finished picture, y downwards."""

    brow_inner: float = 0.0
    brow_outer: float = 0.0
    eyes: Eyes = "open"
    eye_height: float = 6.5
    lid: float = 0.0  # the share of the eye that the upper lid covers
    lid_slant: float = 0.0  # how much lower the lid is at the nose
    gaze: Point = (0.0, 0.0)
    pupil: float = 3.4
    mouth: Mouth = "line"
    curve: float = 0.0  # how far the middle of the mouth lies below its corners
    mouth_open: float = 0.0
    mouth_width: float = 11.0
    tint: Color | None = None
    tint_share: float = 0.0
    cheeks: Color | None = None
    tears: Literal["", "drop", "streams"] = ""
    sweat: bool = False
    rings: bool = False
    wrinkled_nose: bool = False
    hands: bool = False
    shift: Point = (0.0, 0.0)  # of the features within the head: the head is turned or lowered
    tremble: float = 0.0


EXPRESSIONS: Mapping[str, Expression] = {
    "neutral": Expression(),
    "concerned": Expression(brow_inner=-3.5, brow_outer=1.5, curve=-1.5, mouth_width=8),
    "smile": Expression(brow_inner=-1.5, brow_outer=-1.5, curve=6.5, mouth_width=14, cheeks=PINK),
    "laugh": Expression(
        brow_inner=-3,
        brow_outer=-3,
        eyes="happy",
        curve=3,
        mouth_open=9,
        mouth_width=15,
        cheeks=PINK,
    ),
    "sad": Expression(
        brow_inner=-5,
        brow_outer=3.5,
        lid=0.35,
        lid_slant=-2,
        gaze=(0, 1.5),
        curve=-6,
        mouth_width=10,
    ),
    "crying": Expression(
        brow_inner=-5,
        brow_outer=3,
        eyes="shut",
        curve=-6,
        mouth_open=6,
        mouth_width=11,
        tears="streams",
        tremble=0.8,
    ),
    "forced_smile": Expression(
        brow_inner=-5.5,
        brow_outer=3,
        lid=0.25,
        lid_slant=-2,
        curve=5.5,
        mouth_width=13,
        tears="drop",
    ),
    "angry": Expression(
        brow_inner=5,
        brow_outer=-4,
        lid=0.3,
        lid_slant=4,
        pupil=2.8,
        curve=-5.5,
        mouth_width=12,
        tint=RED,
        tint_share=0.42,
    ),
    "clenched": Expression(
        brow_inner=4.5,
        brow_outer=-3,
        lid=0.3,
        lid_slant=3,
        pupil=2.8,
        mouth="teeth",
        mouth_open=9,
        mouth_width=14,
        cheeks=RED,
        tremble=0.5,
    ),
    "afraid": Expression(
        brow_inner=-8,
        brow_outer=-4.5,
        eye_height=10,
        pupil=2.1,
        curve=-2,
        mouth_open=9,
        mouth_width=6,
        tint=PALE,
        tint_share=0.5,
        sweat=True,
        tremble=0.9,
    ),
    "nervous_smile": Expression(
        brow_inner=-8,
        brow_outer=-4.5,
        eye_height=10,
        pupil=2.1,
        mouth="wavy",
        curve=8,
        mouth_width=15,
        tint=PALE,
        tint_share=0.25,
        sweat=True,
        tremble=0.9,
    ),
    "disgusted": Expression(
        brow_inner=3.5,
        brow_outer=0,
        lid=0.5,
        lid_slant=2,
        mouth="twisted",
        curve=-4,
        mouth_width=12,
        tint=GREEN,
        tint_share=0.42,
        wrinkled_nose=True,
    ),
    "tired": Expression(
        brow_outer=2.5,
        lid=0.62,
        gaze=(0, 2),
        curve=-1.5,
        mouth_width=8,
        rings=True,
        shift=(0, 2),
    ),
    "numb": Expression(
        brow_outer=1.5,
        lid=0.6,
        gaze=(0, 3.5),
        mouth_width=9,
        tint=GRAY,
        tint_share=0.5,
        shift=(0, 6),
    ),
    "looking_away": Expression(
        brow_inner=-3,
        brow_outer=2,
        gaze=(5.2, 0.5),
        curve=-3.5,
        mouth_width=7,
        shift=(9, 1),
    ),
    "hands_on_face": Expression(
        brow_inner=-4,
        brow_outer=2,
        eyes="shut",
        curve=-5,
        mouth_width=9,
        hands=True,
        shift=(0, 2),
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """The features of a face that no expression changes."""

    skin: Color
    hair: Color
    style: Literal["short", "long", "curly", "bun", "bald"]
    clothes: Color
    therapist: bool = False


SKINS: Sequence[Color] = ((250, 214, 184), (236, 190, 150), (214, 160, 118), (186, 130, 92))
HAIRS: Sequence[Color] = ((58, 38, 28), (112, 66, 32), (206, 152, 64), (30, 28, 34), (164, 72, 40))
STYLES: Sequence[Literal["short", "long", "curly", "bun"]] = ("short", "long", "curly", "bun")
CLOTHES: Sequence[Color] = ((208, 84, 72), (72, 116, 196), (228, 176, 60), (150, 96, 178), (240, 136, 72))
THERAPISTS: Sequence[Person] = (
    Person(skin=(244, 206, 176), hair=(188, 190, 198), style="bun", clothes=(52, 84, 84), therapist=True),
    Person(skin=(196, 140, 102), hair=(88, 92, 102), style="bald", clothes=(58, 62, 92), therapist=True),
)
BACKGROUNDS: Sequence[Color] = (  # one per situation
    (190, 206, 220),
    (222, 212, 176),
    (232, 196, 206),
    (196, 192, 216),
    (190, 222, 200),
    (184, 220, 222),
    (236, 208, 180),
    (214, 224, 170),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spoken:
    """One row of MESC.csv with its expression."""

    season: int
    episode: int
    therapist: bool
    expression: str
    start: float
    end: float

    @property
    def first_frame(self) -> int:
        """The first frame that begins once the utterance has begun."""
        return math.ceil(self.start * FPS - 1e-6)


class Face:
    """A drawing of one moment, at a multiple of the final size."""

    def __init__(self, person: Person, expression: Expression, background: Color, sway: Point) -> None:
        self.person = person
        self.expression = expression
        self.skin = blend(person.skin, expression.tint or person.skin, expression.tint_share)
        self.image = Image.new("RGB", (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING), background)
        self.pen = ImageDraw.Draw(self.image)
        self.x = SIZE / 2 + sway[0]
        self.y = 58 + sway[1]

    def picture(self, talk: float, drip: float) -> Image.Image:
        """`talk` (0 to 1) opens the mouth; `drip` (0 to 1) is how far tears and sweat have run."""
        self._head()
        self.x += self.expression.shift[0]
        self.y += self.expression.shift[1]
        self._cheeks()
        self._nose()
        for side in (-1, 1):
            self._eye(side)
            self._brow(side)
        self._mouth(talk)
        self._water(drip)
        if self.person.therapist:
            self._glasses()
        if self.expression.hands:
            self._hands()
        return self.image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)

    def _head(self) -> None:
        hair, skin, style = self.person.hair, self.skin, self.person.style
        if style == "long":
            self._ellipse(0, 8, 44, 50, hair)
        elif style == "curly":
            for angle in map(math.radians, range(150, 400, 25)):
                self._ellipse(38 * math.cos(angle), 39 * math.sin(angle), 13, 13, hair)
        elif style == "bun":
            self._ellipse(0, -46, 15, 11, hair)
        self._ellipse(0, 64, 50, 26, self.person.clothes)
        if self.person.therapist:
            self._polygon([(-16, 40), (16, 40), (0, 58)], WHITE)
        self._ellipse(0, 36, 12, 14, blend(skin, INK, 0.15))
        for side in (-1, 1):
            self._ellipse(side * 36, 4, 6, 8, skin)
        if style != "bald":
            self._ellipse(0, -4, 38.5, 43, hair)
        self._ellipse(0, 2, 36, 41, skin)
        if style == "bald":  # a beard instead of hair
            self._beard()
        else:
            parting = -12 if style in ("short", "curly") else 0
            rim = [(-35, -10), (-29, -31), (0, -43), (29, -31), (35, -10)]
            self._polygon([*rim, (24, -25), (parting, -29), (-24, -25)], hair)

    def _beard(self) -> None:
        rim = [(36 * math.cos(t), 2 + 42 * math.sin(t)) for t in np.linspace(0.1, math.pi - 0.1, 24)]
        inner = [(29 * math.cos(t), 6 + 31 * math.sin(t)) for t in np.linspace(math.pi - 0.1, 0.1, 24)]
        self._polygon(rim + inner, self.person.hair)

    def _cheeks(self) -> None:
        if self.expression.cheeks is not None:
            strength = 0.75 if self.expression.cheeks == RED else 0.55
            for side in (-1, 1):
                self._ellipse(side * 24, 13, 8, 6, blend(self.skin, self.expression.cheeks, strength))

    def _nose(self) -> None:
        self._line([(0, 3), (3, 9), (-1, 10)], blend(self.skin, INK, 0.45), 1.6)
        if self.expression.wrinkled_nose:
            for height in (0, 3.5, 7):
                self._line([(-5, height), (0, height - 2), (5, height)], blend(self.skin, INK, 0.75), 1.5)

    def _eye(self, side: int) -> None:
        expression, middle, height = self.expression, side * 15.0, -5.0
        if expression.rings:
            self._ellipse(middle, height + 4.5, 10, 7.5, blend(self.skin, (88, 62, 104), 0.55))
        if expression.eyes != "open":
            bend = -6 if expression.eyes == "happy" else 5
            arc = [(middle + t * 8, height + 1 + bend * (1 - t * t)) for t in np.linspace(-1, 1, 11)]
            self._line(arc, INK, 2.8)
            return
        self._ellipse(middle, height, 8.5, expression.eye_height + 0.8, INK)
        self._ellipse(middle, height, 7.6, expression.eye_height, WHITE)
        reach = 7.0 - expression.pupil if expression.gaze[0] else 0.0
        along = max(-reach, min(reach, expression.gaze[0]))
        self._ellipse(middle + along, height + expression.gaze[1], expression.pupil, expression.pupil, INK)
        if expression.lid:
            top = height - expression.eye_height - 1.4
            edge = height - expression.eye_height + 2 * expression.eye_height * expression.lid
            inner, outer = edge + expression.lid_slant / 2, edge - expression.lid_slant / 2
            left, right = (outer, inner) if side < 0 else (inner, outer)
            lid = blend(self.skin, INK, 0.08)
            start, end = middle - 9.5, middle + 9.5
            self._polygon([(start, top), (end, top), (end, right), (start, left)], lid)
            self._line([(start, left), (end, right)], INK, 2.2)

    def _brow(self, side: int) -> None:
        color = blend(self.person.hair, INK, 0.55)
        outer, inner = (side * 24, self.expression.brow_outer - 17), (side * 7, self.expression.brow_inner - 17)
        self._line([outer, inner], color, 3.6)

    def _mouth(self, talk: float) -> None:
        expression, height = self.expression, 24.0
        ends = np.linspace(-1, 1, 21)
        gap = expression.mouth_open + (0 if expression.mouth == "teeth" else 4.0 * talk)

        def lip(t: float, lower: bool) -> Point:
            y = height - expression.curve / 2 + expression.curve * (1 - t * t)
            if expression.mouth == "wavy":
                y += 1.3 * math.sin(3 * math.pi * t)
            if expression.mouth == "twisted":
                y += 4.5 * t
            share = (1.0 if lower else 0.0) if expression.eyes == "happy" else (0.5 if lower else -0.5)
            return expression.mouth_width * t, y + gap * share * math.sqrt(1 - t * t)

        upper = [lip(float(t), False) for t in ends]
        lower = [lip(float(t), True) for t in ends]
        if expression.mouth == "teeth":
            self._polygon(upper + lower[::-1], WHITE)
            for t in (-0.6, -0.2, 0.2, 0.6):
                self._line([lip(t, False), lip(t, True)], INK, 1.2)
            self._line([(-expression.mouth_width, height), (expression.mouth_width, height)], INK, 1.2)
        elif gap > 1.5:
            self._polygon(upper + lower[::-1], (122, 30, 40))
            if expression.eyes == "happy":
                self._polygon([*upper[3:-3], *((x, y + 3) for x, y in upper[-4:2:-1])], WHITE)
        self._line(upper, INK, 2.3)
        self._line(lower, INK, 2.3)

    def _water(self, drip: float) -> None:
        if self.expression.tears == "streams":
            for side in (-1, 1):
                self._line([(side * 15, 2), (side * 17, 14), (side * 17, 24 + 4 * drip)], WATER, 5)
                self._drop(side * 17, 28 + 5 * drip, 4)
        elif self.expression.tears == "drop":
            self._line([(-17, 3), (-19, 9 + 3 * drip)], blend(WATER, WHITE, 0.35), 3)
            self._drop(-19, 12 + 4 * drip, 4.6)
        if self.expression.sweat:
            self._drop(30, -18 + 4 * drip, 4)
            self._drop(-31, -11 + 4 * drip, 3.4)
            self._drop(34, -2 + 3 * drip, 3)

    def _drop(self, x: float, y: float, radius: float) -> None:
        self._polygon([(x - radius, y), (x, y - 2.4 * radius), (x + radius, y)], WATER)
        self._ellipse(x, y, radius, radius, WATER)
        self._ellipse(x - radius / 3, y, radius / 3, radius / 3, WHITE)

    def _glasses(self) -> None:
        frame = (36, 40, 52)
        for side in (-1, 1):
            self._ellipse(side * 15, -4, 12.5, 12, None, frame, 1.8)
        self._line([(-3, -5), (3, -5)], frame, 1.8)

    def _hands(self) -> None:
        color, rim = self.skin, blend(self.skin, INK, 0.7)
        for side in (-1, 1):
            self._line([(side * 40, 54), (side * 25, 16)], rim, 17)
            self._line([(side * 40, 54), (side * 25, 16)], self.person.clothes, 14.5)
            self._ellipse(side * 19, 6, 13, 12, color, rim, 1.5)
            for finger in range(4):
                x = side * (5.5 + 7.5 * finger)
                self._line([(x, 3), (x, -22 + 2 * abs(finger - 1.5))], rim, 8.4)
                self._line([(x, 5), (x, -22 + 2 * abs(finger - 1.5))], color, 6)

    def _ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: Color | None,
        rim: Color | None = None,
        width: float = 0,
    ) -> None:
        box = (*self._at(x - rx, y - ry), *self._at(x + rx, y + ry))
        self.pen.ellipse(box, fill=fill, outline=rim, width=round(width * OVERSAMPLING))

    def _polygon(self, points: Sequence[Point], fill: Color) -> None:
        self.pen.polygon([self._at(*point) for point in points], fill=fill)

    def _line(self, points: Sequence[Point], fill: Color, width: float) -> None:
        """With round ends."""
        path = [self._at(*point) for point in points]
        self.pen.line(path, fill=fill, width=round(width * OVERSAMPLING), joint="curve")
        for x, y in (points[0], points[-1]):
            self._ellipse(x, y, width / 2, width / 2, fill)

    def _at(self, x: float, y: float) -> Point:
        return (self.x + x) * OVERSAMPLING, (self.y + y) * OVERSAMPLING


def blend(color: Color, other: Color, share: float) -> Color:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


def read_spoken() -> Iterator[tuple[tuple[int, int], list[Spoken]]]:
    """The utterances of each video, by (season, episode)."""
    with (CORPUS / "faces.csv").open(encoding="utf-8", newline="") as file:
        faces = {(row["Dialogue_ID"], row["Utterance_ID"]): row["expression"] for row in csv.DictReader(file)}
    with (CORPUS / "MESC.csv").open(encoding="utf-8", newline="") as file:
        spoken = [
            Spoken(
                season=int(row["Season"]),
                episode=int(row["Episode"]),
                therapist=row["Speaker"] == "Therapist",
                expression=faces[row["Dialogue_ID"], row["Utterance_ID"]],
                start=seconds(row["StartTime"]),
                end=seconds(row["EndTime"]),
            )
            for row in csv.DictReader(file)
        ]
    for video, lines in groupby(spoken, key=lambda line: (line.season, line.episode)):
        yield video, list(lines)


def seconds(time: str) -> float:
    """
    >>> seconds("00:01:02,500")
    62.5
    """
    hours, minutes, rest = time.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def cast(season: int, episode: int) -> tuple[Person, Person]:
    """Client and therapist of a video."""
    number = 8 * (season - 1) + episode - 1
    client = Person(
        skin=SKINS[(number + season) % len(SKINS)],
        hair=HAIRS[(number * 3 + season) % len(HAIRS)],
        style=STYLES[number % len(STYLES)],
        clothes=CLOTHES[(number * 2 + season) % len(CLOTHES)],
    )
    return client, THERAPISTS[(number // 2) % len(THERAPISTS)]


def draw_frames(lines: Sequence[Spoken], seed: int) -> Iterator[Image.Image]:
    """Every frame of a video. A face is seen from its utterance's first frame up to that of the next."""
    season, episode = lines[0].season, lines[0].episode
    random = np.random.default_rng([seed, season, episode])
    client, therapist = cast(season, episode)
    background = BACKGROUNDS[(season - 1) % len(BACKGROUNDS)]
    sway = np.zeros(2)
    for frame in range(math.ceil(lines[-1].end * FPS) + TAIL_FRAMES):
        line = next((line for line in reversed(lines) if line.first_frame <= frame), lines[0])
        expression = EXPRESSIONS[line.expression]
        if frame % FPS == 0:  # whole pixels, and only once a second: each movement of the head adds bytes
            sway = np.clip(sway + random.integers(-1, 2, 2), -2, 2)
        shake = round(random.normal(0, expression.tremble)) if expression.tremble else 0
        speaking = line.start <= frame / FPS < line.end
        talk = float(random.choice([0.0, 0.5, 1.0])) if speaking else 0.0
        face = Face(
            therapist if line.therapist else client,
            expression,
            blend(background, WHITE, 0.45) if line.therapist else background,
            (float(sway[0] + shake), float(sway[1])),
        )
        yield face.picture(talk, drip=(frame % FPS) / (FPS - 1))


def encode(frames: Iterator[Image.Image], key_frames: frozenset[int], path: Path) -> None:
    """H.264 with a key frame at each of the given frames and at least one a second."""
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {
            "crf": "39",
            "preset": "veryslow",
            "tune": "animation",
            "bf": "0",
            "g": str(FPS),
            "forced-idr": "1",
            "x264-params": "scenecut=0",
        }
        since_key = 0
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image)
            frame.pts = number
            since_key = 0 if number in key_frames or since_key + 1 == FPS else since_key + 1
            frame.pict_type = av.video.frame.PictureType.I if since_key == 0 else av.video.frame.PictureType.P
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the videos of the sample corpus.")
    parser.add_argument("--seed", type=int, default=42, help="seed of the small movements (default 42)")
    parser.add_argument("--out", type=Path, default=CORPUS / "videos", help="default: the videos folder of the sample corpus")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for (season, episode), lines in read_spoken():
        key_frames = frozenset({0, *(line.first_frame for line in lines)})
        path = arguments.out / f"S{season:02d}E{episode:02d}.mp4"
        encode(draw_frames(lines, arguments.seed), key_frames, path)


if __name__ == "__main__":
    main()
