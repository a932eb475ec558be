"""Furniture for procedural rooms: each piece adds its solids to a RoomBuilder, for all rooms at once.

A piece stands at a ``Spot``: its own frame has the origin on the floor, x to the right along the wall behind it,
y out of that wall into the room, z up. All lengths in metres; every random number comes from the builder.
"""

from __future__ import annotations

from da3_ros.training.scenes.builder import RoomBuilder, Spot


def bookshelf(room: RoomBuilder, spot: Spot) -> None:
    """Open shelf with four rows of books."""
    width, rows = room.uniform(0.55, 0.9), 4
    height, depth = room.uniform(1.5, 2.1), 0.17
    look = room.look("wood", tile_m=1.2, tint=room.wood_tint())
    room.box(spot, (0, 0.02, height / 2), (width, 0.02, height / 2), look)
    for side in (-1, 1):
        room.box(spot, (side * width, depth, height / 2), (0.02, depth, height / 2), look)
    for row in range(rows + 1):
        room.box(spot, (0, depth, (height - 0.04) * row / rows + 0.02), (width, depth, 0.02), look)
    for row in range(rows):
        tall = (height - 0.04) / rows * 0.5 - 0.02
        books = room.look("books", tile_m=0.0)
        filled = width * room.uniform(0.55, 0.97)
        room.box(
            spot, (filled - width, depth - 0.03, (height - 0.04) * (row + 0.5) / rows + 0.02),
            (filled, depth - 0.05, tall * 0.92), books,
        )  # fmt: skip


def sofa(room: RoomBuilder, spot: Spot) -> None:
    """Sofa with two cushions."""
    width = room.uniform(0.7, 0.85)
    look = room.look("fabric", tile_m=0.8, tint=room.colour())
    room.box(spot, (0, 0.45, 0.24), (width, 0.38, 0.2), look)
    room.box(spot, (0, 0.14, 0.5), (width, 0.12, 0.36), look)
    for side in (-1, 1):
        room.box(spot, (side * (width + 0.1), 0.43, 0.33), (0.1, 0.4, 0.29), look)
        cushion = room.look("fabric", tile_m=0.4, tint=room.colour())
        room.ellipsoid(spot, (side * width * 0.55, 0.37, 0.62), (0.24, 0.1, 0.22), cushion)


def desk(room: RoomBuilder, spot: Spot) -> None:
    """Desk with a monitor, a stack of paper, a mug and a stool."""
    width, height = room.uniform(0.65, 0.85), room.uniform(0.7, 0.76)
    look = room.look("wood", tile_m=1.0, tint=room.wood_tint())
    room.box(spot, (0, 0.4, height), (width, 0.38, 0.02), look)
    for side in (-1, 1):
        room.box(spot, (side * (width - 0.06), 0.4, height / 2), (0.02, 0.34, height / 2), look)
    dark = room.look("metal", tile_m=0.5, tint=(0.12, 0.12, 0.13))
    centre = room.uniform(-0.25, 0.25)
    room.box(spot, (centre, 0.22, height + 0.33), (0.3, 0.02, 0.18), dark)
    screen = room.look("poster", tile_m=0.0, emission=room.uniform(0.1, 0.5))
    room.box(spot, (centre, 0.243, height + 0.33), (0.28, 0.004, 0.16), screen)
    room.cylinder(spot, (centre, 0.2, height + 0.09), (0.03, 0.03, 0.09), dark)
    paper = room.look("poster", tile_m=0.0)
    room.box(spot, (centre + 0.45, 0.45, height + 0.05), (0.11, 0.15, 0.03), paper)
    room.cylinder(spot, (centre - 0.4, 0.5, height + 0.07), (0.04, 0.04, 0.05), room.look("plain", 0.3, room.colour()))
    stool = room.look("fabric", tile_m=0.4, tint=room.colour())
    room.cylinder(spot, (room.uniform(-0.3, 0.3), 0.8, 0.25), (0.2, 0.2, 0.23), stool)


def cabinet(room: RoomBuilder, spot: Spot) -> None:
    """Low cabinet with two doors, a plant in a pot on it and a ball before it."""
    width, height = room.uniform(0.5, 0.85), room.uniform(0.6, 0.95)
    room.box(spot, (0, 0.22, height / 2), (width, 0.2, height / 2), room.look("wood", 1.3, room.wood_tint()))
    front = room.look("planks", tile_m=0.9, tint=room.wood_tint())
    for side in (-1, 1):
        room.box(spot, (side * width / 2, 0.43, height / 2), (width / 2 - 0.02, 0.012, height / 2 - 0.06), front)
    plant(room, spot.moved(room, room.uniform(-0.3, 0.3), 0.2, height))
    ball = room.look("tiles", tile_m=0.5, tint=room.colour())
    size = room.uniform(0.13, 0.28)
    room.ellipsoid(spot, (room.uniform(-0.6, 0.6), 0.5 + size, size), (size, size, size), ball)


def plant(room: RoomBuilder, spot: Spot) -> None:
    """Pot with a bush of three masses of leaves."""
    size = room.uniform(0.13, 0.19)
    room.cylinder(spot, (0, 0, 0.14), (size * 0.75, size * 0.75, 0.14), room.look("plain", 0.4, room.colour()))
    for _ in range(3):
        away = (room.uniform(-0.1, 0.1), room.uniform(-0.08, 0.1), 0.42 + room.uniform(-0.05, 0.25))
        leaves = room.look("leaves", tile_m=0.5, tint=room.grey(0.5, 1.3))
        room.ellipsoid(spot, away, (size * 1.1, size * 1.1, size * room.uniform(0.9, 1.6)), leaves)


def crates(room: RoomBuilder, spot: Spot) -> None:
    """Three crates, one upon the others, none of them straight."""
    size = room.uniform(0.24, 0.32)
    for x, y, level in ((-0.42, 0.45, 0), (0.4, 0.5, 0), (-0.1, 0.47, 1)):
        look = room.look("planks", tile_m=0.7, tint=room.wood_tint())
        turn = room.uniform(-0.3, 0.3)
        room.box(spot, (x, y, size * (1 + 2 * level)), (size, size, size), look, turn)


def barrels(room: RoomBuilder, spot: Spot) -> None:
    """Three steel drums of different sizes."""
    for x, y in ((-0.55, 0.4), (0.05, 0.42), (0.55, 0.35)):
        radius, height = room.uniform(0.2, 0.28), room.uniform(0.3, 0.5)
        look = room.look("metal", tile_m=0.9, tint=room.colour())
        room.cylinder(spot, (x, y, height), (radius, radius, height), look)


def door(room: RoomBuilder, spot: Spot) -> None:
    """Door in its frame, with a poster beside it."""
    room.box(spot, (0, 0.015, 1.04), (0.5, 0.03, 1.06), room.look("plain", 0.6, room.grey(0.5, 0.9)))
    room.box(spot, (0, 0.03, 1.0), (0.42, 0.035, 1.0), room.look("planks", 1.6, room.wood_tint()))
    room.ellipsoid(spot, (0.33, 0.09, 1.0), (0.035, 0.03, 0.035), room.look("metal", 0.2, (0.9, 0.8, 0.5)))
    room.box(spot, (0.85, 0.012, 1.45), (0.24, 0.012, 0.34), room.look("poster", 0.0))


def window(room: RoomBuilder, spot: Spot) -> None:
    """Window that lights the room, with a sill and a radiator below."""
    room.box(spot, (0, 0.02, 1.55), (0.92, 0.03, 0.72), room.look("plain", 0.6, room.grey(0.8, 1.0)))
    room.box(spot, (0, 0.03, 1.55), (0.85, 0.035, 0.65), room.look("outdoors", 0.0, emission=1.6))
    room.box(spot, (0, 0.12, 0.82), (0.95, 0.13, 0.02), room.look("marble", 0.8))
    room.box(spot, (0, 0.09, 0.42), (0.7, 0.05, 0.27), room.look("metal", 0.35, room.grey(0.9, 1.1)))
    room.lamp(spot, (0, 0.1, 1.55), along_x=0.8, along_z=0.6, colour=(0.8, 0.92, 1.15), power=room.uniform(2.0, 7.0))


def pictures(room: RoomBuilder, spot: Spot) -> None:
    """Three paintings above a bench."""
    for x in (-0.75, 0.0, 0.75):
        half = room.uniform(0.2, 0.33)
        height = 1.55 + room.uniform(-0.15, 0.15)
        room.box(spot, (x, 0.015, height), (half, 0.02, half * room.uniform(0.8, 1.3)), room.look("painting", 0.0))
    look = room.look("wood", tile_m=0.9, tint=room.wood_tint())
    room.box(spot, (0, 0.3, 0.42), (0.75, 0.2, 0.03), look)
    for side in (-1, 1):
        room.box(spot, (side * 0.62, 0.3, 0.2), (0.03, 0.17, 0.2), look)


def floor_lamp(room: RoomBuilder, spot: Spot) -> None:
    """Standing lamp with a glowing shade, beside an armchair-sized pouf."""
    steel = room.look("metal", tile_m=0.3, tint=room.grey(0.2, 0.7))
    room.cylinder(spot, (-0.5, 0.3, 0.015), (0.16, 0.16, 0.015), steel)
    room.cylinder(spot, (-0.5, 0.3, 0.75), (0.018, 0.018, 0.75), steel)
    shade = room.look("fabric", tile_m=0.5, tint=(1.0, 0.85, 0.6), emission=room.uniform(0.3, 1.0))
    room.cylinder(spot, (-0.5, 0.3, 1.58), (0.2, 0.2, 0.15), shade)
    room.ellipsoid(spot, (0.25, 0.5, 0.24), (0.42, 0.42, 0.24), room.look("fabric", 0.5, room.colour()))


def table(room: RoomBuilder, spot: Spot) -> None:
    """Round table with things on it, a stool on either side and a rug below."""
    look = room.look("wood", tile_m=1.1, tint=room.wood_tint())
    radius, height = room.uniform(0.45, 0.6), room.uniform(0.6, 0.75)
    room.box(spot, (0, 0, 0.006), (1.15, 0.85, 0.006), room.look("carpet", 0.0, room.grey(0.7, 1.2)))
    room.cylinder(spot, (0, 0, height), (radius, radius, 0.025), look)
    room.cylinder(spot, (0, 0, height / 2), (0.05, 0.05, height / 2), look)
    room.cylinder(spot, (0, 0, 0.02), (0.28, 0.28, 0.02), look)
    for side in (-1, 1):
        stool = room.look("fabric", tile_m=0.4, tint=room.colour())
        room.cylinder(spot, (side * room.uniform(0.7, 0.85), room.uniform(-0.2, 0.2), 0.22), (0.18, 0.18, 0.22), stool)
    on_top = height + 0.025
    room.box(spot, (-0.2, 0.1, on_top + 0.1), (0.09, 0.07, 0.1), room.look("books", 0.0), room.uniform(0, 3))
    room.ellipsoid(spot, (0.2, 0.14, on_top + 0.08), (0.08, 0.08, 0.08), room.look("marble", 0.3, room.colour()))
    room.cylinder(spot, (0.05, -0.22, on_top + 0.12), (0.05, 0.05, 0.12), room.look("tiles", 0.25, room.colour()))


WALL_PIECES = (
    bookshelf, sofa, desk, cabinet, crates, barrels, door, window, pictures, floor_lamp,
)  # fmt: skip
