"""Render the project's own pictures: ``python conformance/data/pictures/render.py`` writes the PNG files next to it.

Everything is computed with integer hashes and with operations that IEEE 754 rounds exactly (sums, products, quotients,
square roots), or drawn by Pillow; no library of functions that differ between machines, and no other file, is used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[np.float64]

# ------------------------------------------------------------------------------------------------------------ noise


def lattice(ix: Array, iy: Array, seed: int) -> Array:
    """Hash integer coordinates to numbers in 0..1."""
    mask = np.int64(0xFFFFFFFF)
    h = (ix.astype(np.int64) * 374761393 + iy.astype(np.int64) * 668265263 + seed * 974711) & mask
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        h = ((h ^ (h >> shift)) * factor) & mask
    numbers: Array = (h ^ (h >> 15)).astype(np.float64) / 4294967296.0
    return numbers


def noise(x: Array, y: Array, seed: int) -> Array:
    """Value noise in 0..1: lattice values joined smoothly."""
    ix, iy = np.floor(x), np.floor(y)
    fx, fy = x - ix, y - iy
    sx, sy = (t * t * t * (t * (t * 6 - 15) + 10) for t in (fx, fy))
    corner = [[lattice(ix + i, iy + j, seed) for i in (0, 1)] for j in (0, 1)]
    top = corner[0][0] + sx * (corner[0][1] - corner[0][0])
    bottom = corner[1][0] + sx * (corner[1][1] - corner[1][0])
    joined: Array = top + sy * (bottom - top)
    return joined


def fractal(x: Array, y: Array, seed: int, octaves: int = 5, gain: float = 0.5) -> Array:
    """Sum octaves of noise; about 0..1, mean 0.5."""
    total, amplitude, weight = np.zeros(np.broadcast(x, y).shape), 1.0, 0.0
    for octave in range(octaves):
        total += amplitude * noise(x * 2**octave + 17.3 * octave, y * 2**octave + 5.7 * octave, seed + octave)
        weight += amplitude
        amplitude *= gain
    return total / weight


def mix(a: Array, b: Array, t: Array | float) -> Array:
    """Blend colours [..., 3] by t, clipped to 0..1."""
    t = np.clip(np.asarray(t, np.float64), 0, 1)
    mixed: Array = a + (b - a) * (t[..., None] if t.ndim else t)
    return mixed


def ramp(t: Array, stops: list[tuple[float, tuple[int, int, int]]]) -> Array:
    """Piecewise linear colours over t."""
    places = [place for place, _ in stops]
    return np.stack([np.interp(t, places, [colour[c] for _, colour in stops]) for c in range(3)], axis=-1)


def colour(*rgb: int) -> Array:
    """Give a colour as an array."""
    return np.array(rgb, np.float64)


def finish(rgb: Array) -> Image.Image:
    """Round to eight bits."""
    return Image.fromarray(np.clip(np.floor(rgb + 0.5), 0, 255).astype(np.uint8))


# ------------------------------------------------------------------------------------------------------------ scene

HORIZON = 0.60
SUN = (0.93, 0.285)


def sky(x: Array, y: Array) -> Array:
    """Evening sky: a gradient, the sun with its glow, and clouds lit from below."""
    rgb = ramp(y, [(0.0, (38, 70, 132)), (0.25, (92, 128, 178)), (0.45, (214, 170, 150)), (0.60, (252, 206, 140))])
    distance = (x - SUN[0]) ** 2 + (y - SUN[1]) ** 2
    rgb = mix(rgb, colour(255, 214, 150), 0.9 / (1 + 16 * distance) - 0.12)
    cover = fractal(x * 1.6 + 3, y * 5.5 + 0.8 * fractal(x * 2, y * 2, 91, 3), 7, 6) - 0.47 - 0.22 * (y - 0.2) ** 2
    lit = fractal(x * 1.6 + 3.05, y * 5.5 + 0.35, 7, 4)
    clouds = mix(colour(112, 106, 140), colour(255, 226, 196), 2.1 * (lit - 0.30))
    rgb = mix(rgb, clouds, np.minimum(5 * cover, 0.92) * (1 - 0.6 / (1 + 90 * distance)))
    return mix(rgb, colour(255, 250, 226), (0.0016 - distance) * 3000)


def ridge(x: Array, seed: int, base: float, height: float, frequency: float) -> Array:
    """Skyline of a mountain range, as y over x."""
    flat = np.zeros_like(x)
    rough: Array = 1 - np.abs(2 * fractal(x * frequency, flat, seed, 6, 0.48) - 1)
    return base - height * (rough * rough - 0.25)


def mountains(rgb: Array, x: Array, y: Array, pixel: float) -> Array:
    """Lay three ranges over the sky, the farther the paler."""
    ranges = (
        (21, 0.50, 0.26, 1.7, (140, 134, 170), (194, 170, 180)),
        (33, 0.56, 0.20, 2.6, (84, 88, 124), (156, 134, 142)),
        (48, 0.605, 0.11, 4.1, (34, 56, 60), (98, 100, 84)),
    )
    for seed, base, height, frequency, dark, light in ranges:
        top = ridge(x, seed, base, height, frequency)
        slope = fractal(x * 12 + y * 6, y * 19 - x * 5, seed + 300, 6, 0.7)
        rock = mix(colour(*dark), colour(*light), 3 * (slope - 0.36))
        haze = mix(rock, colour(226, 190, 168), 1.7 * (y - top) * (1 if seed < 48 else 0.4))
        rgb = mix(rgb, haze, (y - top) / pixel + 0.5)
    return rgb


def water(x: Array, y: Array, pixel: float) -> Array:
    """Mirror what lies above the horizon, broken by ripples, with the glitter of the sun."""
    depth = np.maximum(y - HORIZON, 1e-4)
    ripple = fractal(x * 5 / (depth + 0.06) * 0.16, 1.9 / (depth + 0.05), 60, 4, 0.6) - 0.5
    mirrored = 2 * HORIZON - y + ripple * (0.05 + 0.35 * depth)
    shifted = x + ripple * 0.02
    image = mountains(sky(shifted, mirrored), shifted, mirrored, pixel * 4)
    image = mix(image, colour(30, 62, 92), 0.25 + 0.9 * depth + 0.7 * ripple)
    near = 1 / (1 + 160 * (x - SUN[0] - 0.1 * ripple) ** 2)
    return mix(image, colour(255, 236, 190), 4.5 * near * (ripple - 0.02))


def meadow(rgb: Array, x: Array, y: Array, pixel: float) -> Array:
    """Shore in the foreground: grass with stalks and flowers."""
    flat = np.zeros_like(x)
    top = 0.80 + 0.10 * (x - 0.35) ** 2 - 0.05 * fractal(x * 2.2, flat, 70, 4) - 0.006 * noise(x * 90, flat, 75)
    patches = fractal(x * 4, y * 9, 71, 4)
    stalks = fractal(x * 60 + 6 * y, y * 16, 72, 3, 0.7)
    grass = mix(colour(34, 58, 26), colour(136, 148, 58), 1.3 * (patches - 0.25) + 1.5 * (stalks - 0.5))
    grass = mix(grass, colour(214, 176, 84), 0.5 * np.maximum(0, 1 - 25 * (y - top)) * (x - 0.1))
    cell_x, cell_y = np.floor(x * 46), np.floor(y * 60)
    present = lattice(cell_x, cell_y, 80) > 0.86
    centre_x = cell_x + 0.3 + 0.4 * lattice(cell_x, cell_y, 81)
    centre_y = cell_y + 0.3 + 0.4 * lattice(cell_x, cell_y, 82)
    inside = 0.05 - (x * 46 - centre_x) ** 2 - (y * 60 - centre_y) ** 2
    petals = np.where((lattice(cell_x, cell_y, 83) > 0.5)[..., None], colour(238, 232, 214), colour(206, 62, 74))
    grass = mix(grass, petals, np.where(present & (y > top + 0.03), inside * 22, 0))
    return mix(rgb, grass, (y - top) / pixel + 0.5)


def house(image: Image.Image, left: float, base: float, size: float) -> None:
    """Draw a timber house; coordinates in pixels."""
    draw = ImageDraw.Draw(image)

    def at(*points: float) -> list[tuple[float, float]]:
        return [(left + px * size, base + py * size) for px, py in zip(points[::2], points[1::2], strict=True)]

    draw.polygon(at(0, 0, 1.2, 0, 1.2, -0.62, 0, -0.62), fill=(164, 58, 44))
    for board in range(12):
        place = 0.1 * board + 0.05
        draw.line(at(place, -0.62, place, 0), fill=(138, 44, 36), width=max(1, int(size / 60)))
    draw.polygon(at(1.2, 0, 1.75, -0.06, 1.75, -0.66, 1.47, -1.0, 1.2, -0.62), fill=(206, 92, 58))
    draw.polygon(at(-0.1, -0.58, 0.22, -1.02, 1.5, -1.02, 1.24, -0.58), fill=(70, 58, 66))
    draw.line(at(1.24, -0.58, 1.48, -1.02, 1.82, -0.62), fill=(232, 214, 190), width=max(1, int(size / 25)))
    draw.polygon(at(0.5, -0.98, 0.5, -1.24, 0.66, -1.24, 0.66, -0.98), fill=(112, 74, 62))
    for px in (0.16, 0.72):
        draw.rectangle(at(px, -0.46, px + 0.28, -0.18), fill=(240, 232, 214))
        draw.rectangle(at(px + 0.03, -0.43, px + 0.25, -0.21), fill=(255, 206, 110))
        draw.line(at(px + 0.14, -0.43, px + 0.14, -0.21), fill=(240, 232, 214), width=max(1, int(size / 40)))
    draw.rectangle(at(1.38, -0.40, 1.58, -0.04), fill=(62, 74, 88))


def tree(rgb: Array, x: Array, y: Array, foot: tuple[float, float], size: float, seed: int) -> Array:
    """Lay a tree over the picture: a trunk, and a crown whose edge and light are noise."""
    dx, dy = (x - foot[0]) / size, (foot[1] - y) / size
    width = 0.035 * (1.3 - dy)
    trunk = np.minimum(width - np.abs(dx + 0.03 * (noise(dy * 6, dx * 0, seed) - 0.5)), np.minimum(dy, 0.7 - dy))
    rgb = mix(rgb, mix(colour(48, 36, 32), colour(126, 88, 62), 8 * dx + 0.4), trunk * 60)
    shape = 1 - (dx / 0.36) ** 2 - ((dy - 0.72) / 0.42) ** 2
    leaves = fractal(dx * 9 + seed, dy * 9, seed + 5, 5, 0.68)
    facing = fractal(dx * 9 + seed - 0.25, dy * 9 + 0.25, seed + 5, 5, 0.68) - leaves
    light = 0.32 + 3.2 * facing + 0.8 * (leaves - 0.5) + 0.7 * dx + 0.35 * (dy - 0.6)
    crown = mix(colour(20, 38, 22), colour(186, 172, 70), light)
    return mix(rgb, crown, (shape + 1.9 * (leaves - 0.56)) * 7)


def caption(image: Image.Image, text: str, scale: int) -> None:
    """Write text into the lower right corner, in Pillow's built-in bitmap font enlarged by whole pixels."""
    font = ImageFont.load_default_imagefont()
    box = font.getbbox(text)
    mask = Image.new("L", (int(box[2]), int(box[3])), 0)
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=font)
    mask = mask.resize((mask.width * scale, mask.height * scale), Image.Resampling.NEAREST)
    left, top = image.width - mask.width - 6 * scale, image.height - mask.height - 3 * scale
    image.paste((24, 28, 40), (left + scale, top + scale), mask)
    image.paste((250, 240, 214), (left, top), mask)


def scene(width: int, height: int, text: str, scale: int) -> Image.Image:
    """Lake at evening, with mountains, a house, trees and a caption; drawn at twice the size and averaged."""
    w, h = 2 * width, 2 * height
    pixel = 1 / h
    y, x = np.mgrid[0:h, 0:w] * pixel + pixel / 2
    rgb = mountains(sky(x, y), x, y, pixel)
    rgb = np.where((y > HORIZON)[..., None], water(x, y, pixel), rgb)
    rgb = meadow(rgb, x, y, pixel)
    rgb = tree(rgb, x, y, (0.60, 0.83), 0.30, 5)
    image = finish(rgb)
    house(image, 0.30 * h, 0.845 * h, 0.145 * h)
    rgb = np.asarray(image).astype(np.float64)
    rgb = tree(rgb, x, y, (0.16, 0.90), 0.62, 11)
    image = finish(rgb).resize((width, height), Image.Resampling.BOX)
    caption(image, text, scale)
    return image


# ----------------------------------------------------------------------------------------------------------- others


def foliage(width: int, height: int) -> Image.Image:
    """Leaves in layers: every layer is a jittered grid of lens shapes with veins; busy and saturated."""
    y, x = np.mgrid[0:height, 0:width] / 16.0
    rgb = ramp(fractal(x, y, 5, 5, 0.6), [(0.3, (14, 26, 12)), (0.7, (60, 70, 30))])
    for layer in range(7):
        seed, pitch = 100 + 10 * layer, 1.9 - 0.16 * layer
        px, py = x / pitch + 0.37 * layer, y / pitch + 0.61 * layer
        cx, cy = np.floor(px), np.floor(py)
        dx = px - cx - 0.35 - 0.3 * lattice(cx, cy, seed)
        dy = py - cy - 0.35 - 0.3 * lattice(cx, cy, seed + 1)
        c = 2 * lattice(cx, cy, seed + 2) - 1
        s = np.sqrt(1 - c * c)
        along, across = c * dx + s * dy, c * dy - s * dx
        inside = 0.24 * (1 - (along / 0.48) ** 2) - np.abs(across)
        hue = lattice(cx, cy, seed + 3)
        leaf = ramp(hue, [(0, (38, 84, 30)), (0.55, (110, 148, 48)), (0.8, (196, 170, 52)), (1, (188, 74, 34))])
        vein = np.abs(across) < 0.02
        shade = 0.62 + 0.75 * (across + 0.24) + 0.35 * (fractal(x * 3, y * 3, seed + 4, 3) - 0.5) + 0.14 * vein
        leaf = leaf * (shade * (0.62 + 0.06 * layer))[..., None]
        shown = np.where(lattice(cx, cy, seed + 5) > 0.25, inside, -1)
        rgb = mix(rgb * (1 - 0.35 * np.clip(1 + shown * 14, 0, 1) * (shown < 0))[..., None], leaf, shown * 30 + 0.5)
    return finish(rgb)


def stone(width: int, height: int) -> Image.Image:
    """Grey relief: noise lit from one side, with cracks and two letters cut in."""
    y, x = np.mgrid[0:height, 0:width] / 20.0
    surface = fractal(x, y, 400, 6, 0.55)
    light = fractal(x + 0.06, y + 0.06, 400, 6, 0.55)
    crack = np.abs(fractal(x * 0.7 + 3, y * 0.7, 420, 4) - 0.5)
    grey = 132 + 60 * (surface - 0.5) + 700 * (light - surface) - 90 * np.clip(1 - crack * 45, 0, 1)
    image = Image.fromarray(np.clip(np.floor(grey + 0.5), 0, 255).astype(np.uint8))
    font = ImageFont.load_default_imagefont()
    mask = Image.new("L", (12, 11), 0)
    ImageDraw.Draw(mask).text((0, 0), "LQ", fill=255, font=font)
    mask = mask.resize((48, 44), Image.Resampling.NEAREST)
    image.paste(60, (25, 11), mask)
    image.paste(212, (27, 13), mask)
    return image


def chart(width: int, height: int) -> Image.Image:
    """Gradients, colour bars, checks down to one pixel, a zone plate, slanted edges and text."""
    image = Image.new("RGB", (width, height), (128, 128, 128))
    draw = ImageDraw.Draw(image)
    half = height // 4
    t = np.arange(width) / (width - 1)
    rows = (np.arange(half) / (half - 1))[:, None]
    hues = ramp(
        t,
        [
            (0, (255, 0, 0)),
            (0.17, (255, 255, 0)),
            (0.33, (0, 255, 0)),
            (0.5, (0, 255, 255)),
            (0.67, (0, 0, 255)),
            (0.83, (255, 0, 255)),
            (1, (255, 0, 0)),
        ],
    )
    image.paste(finish(mix(hues[None] * np.ones((half, 1, 1)), np.full((half, width, 3), 255.0), rows)), (0, 0))
    grey = np.repeat(np.floor(t * 255 + 0.5)[None, :, None], 3, axis=2) * np.ones((half // 2, 1, 1))
    image.paste(finish(grey), (0, half))
    bars = [
        (255, 255, 255),
        (192, 192, 0),
        (0, 192, 192),
        (0, 192, 0),
        (192, 0, 192),
        (192, 0, 0),
        (0, 0, 192),
        (0, 0, 0),
    ]
    for i, bar in enumerate(bars):
        draw.rectangle((i * width // 8, 3 * half // 2, (i + 1) * width // 8 - 1, 2 * half - 1), fill=bar)
    y, x = np.mgrid[0 : 2 * half, 0 : 2 * half]
    for i, size in enumerate((1, 2, 4, 8)):
        checks = ((x // size + y // size) % 2 * 255)[:half, : half // 2].astype(np.uint8)
        image.paste(Image.fromarray(checks), (i * half // 2, 2 * half))
    phase = ((x - half) ** 2 + (y - half) ** 2) / (2.6 * half) % 2 - 1  # a parabola replaces the cosine
    plate = 128 + 126 * np.where(phase < 0, 1, -1) * (1 - (2 * np.abs(phase) - 1) ** 2)
    image.paste(Image.fromarray(plate.astype(np.uint8)), (2 * half, 2 * half))
    right = 4 * half
    draw.rectangle((right, 2 * half, width - 1, height - 1), fill=(244, 240, 228))
    bottom = 3 * half - 1
    draw.polygon([(right, bottom), (right + 14, 2 * half), (right + 34, 2 * half), (right + 20, bottom)], (20, 24, 60))
    draw.ellipse((right + 40, 2 * half + 6, right + 68, 2 * half + 34), fill=(230, 70, 40))
    font = ImageFont.load_default_imagefont()
    for i, (left, line) in enumerate(
        (
            (3, "LoC-LIC 0123"),
            (3, "{a[b](c)} &7"),
            (3, "a quick fox"),
            (right + 3, "Exact bits,"),
            (right + 3, "everywhere."),
            (right + 3, "1+1=2"),
        )
    ):
        fill = (16, 16, 24) if i > 2 or i % 2 else (255, 255, 255)
        draw.text((left, 3 * half + 1 + 12 * (i % 3)), line, fill=fill, font=font)
    return image


def tiny() -> Image.Image:
    """17 x 5 samples, each another colour."""
    y, x = np.mgrid[0:5, 0:17]
    return Image.fromarray(np.stack([15 * x, 63 * y, (x * 37 + y * 91) % 256], axis=2).astype(np.uint8))


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "scene.png": lambda: scene(256, 192, "LoC-LIC  exact bits", 1),
    "scene_large.png": lambda: scene(768, 512, "LoC-LIC: the same bits everywhere", 2),
    "foliage.png": lambda: foliage(192, 128),
    "stone.png": lambda: stone(97, 61),
    "chart.png": lambda: chart(240, 160),
    "tiny.png": tiny,
    "dot.png": lambda: Image.new("RGB", (1, 1), (200, 120, 40)),
}
"""Every picture by its file name."""

if __name__ == "__main__":
    for file_name, render in PICTURES.items():
        render().save(Path(__file__).with_name(file_name), optimize=True)
