"""The ray caster's depth is exact, its pictures have something to match, its rigs and ways are those of a robot."""

import math

import cv2
import numpy as np
import pytest
import torch

from da3_ros.training.scenes import (
    MOTIONS,
    Cameras,
    bake,
    make_atlas,
    make_hall,
    make_rig,
    make_rooms,
    render,
    surface_distance,
    trajectory,
)
from da3_ros.training.scenes.builder import RoomBuilder, Spot
from da3_ros.training.scenes.charts import from_chart, to_chart

W, H = 96, 72


@pytest.fixture(scope="module")
def atlas():
    return make_atlas(torch.Generator().manual_seed(0), size=128, variants=1)


@pytest.fixture(scope="module")
def rooms(atlas):
    return make_rooms(2, torch.Generator().manual_seed(1), atlas)


@pytest.fixture(scope="module")
def lightmap(rooms):
    return bake(rooms, torch.Generator().manual_seed(2))


def look(T_world_cam, room=0, width=W, height=H) -> Cameras:
    """Cameras of 90 degrees at the poses (N, 4, 4)."""
    K = torch.tensor([[width / 2, 0, (width - 1) / 2], [0, width / 2, (height - 1) / 2], [0, 0, 1]])
    N = len(T_world_cam)
    return Cameras(torch.full((N,), room), K.repeat(N, 1, 1), T_world_cam.float(), width, height)


def rig_poses(rooms, steps=2, motion="drive", cameras=3, rate_hz=5.0):
    way = trajectory(motion, rooms, steps, rate_hz, torch.Generator().manual_seed(3))
    return way, torch.stack([way[0, i] @ camera.T_base_cam for i in range(steps) for camera in make_rig(cameras, W, H)])


def forward_camera(x: float, y: float, z: float) -> torch.Tensor:
    """T_world_cam (1, 4, 4) of a camera that looks along world x."""
    T = torch.eye(4)
    T[:3, :3] = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    T[:3, 3] = torch.tensor([x, y, z])
    return T.unsqueeze(0)


def room_with(atlas, add) -> tuple:
    """A bare room 8 x 6 x 3 m with what ``add(builder, look)`` puts into it, and its light."""
    generator = torch.Generator().manual_seed(0)
    builder = RoomBuilder(1, atlas, generator)
    paint = builder.look("plaster", 1.0)
    for shape in ("box", "cylinder", "ellipsoid"):  # one of each far below the floor, where nobody sees it
        spot = Spot(builder.vector((0, 0, -50)), builder.vector((0,))[:, 0])
        getattr(builder, shape)(spot, (0, 0, 0), (0.1, 0.1, 0.1), paint)
    add(builder, Spot(builder.vector((0, 0, 0)), builder.vector((0,))[:, 0]), paint)
    builder.ceiling_lamp(builder.vector((0, 0, 2.95)), (0.5, 0.5), builder.vector((5.0,))[:, 0])
    rooms = builder.build(builder.vector((8, 6, 3)), [paint] * 6, builder.vector((0.01, 0.01, 0.01)))
    return rooms, bake(rooms, generator)


def pixel_rays() -> tuple[np.ndarray, np.ndarray]:
    """Right and down per metre of depth of every pixel of ``look``."""
    v, u = np.mgrid[:H, :W]
    return (u - (W - 1) / 2) / (W / 2), (v - (H - 1) / 2) / (W / 2)


def test_depth_of_a_wall_a_floor_and_a_box_is_analytic(atlas):
    def add(builder, spot, paint):
        builder.box(spot, (2.0, 0, 1.0), (0.5, 0.4, 0.3), paint)

    depth = render(*room_with(atlas, add), look(forward_camera(-3.0, 0.0, 1.0))).depth[0].numpy()
    right, down = pixel_rays()
    wall = np.full((H, W), 7.0)
    side = 3.0 / np.maximum(np.abs(right), 1e-9)
    floor_or_ceiling = np.where(down > 0, 1.0, 2.0) / np.maximum(np.abs(down), 1e-9)
    expected = np.minimum(np.minimum(wall, side), floor_or_ceiling)
    on_box = (np.abs(right * 4.5) < 0.4) & (np.abs(down * 4.5) < 0.3)
    below_the_lamp = down > -0.4
    np.testing.assert_allclose(depth[below_the_lamp], np.where(on_box, 4.5, expected)[below_the_lamp], rtol=1e-5)


def test_depth_of_a_ball_and_a_cylinder_is_analytic(atlas):
    def add(builder, spot, paint):
        builder.ellipsoid(spot, (1.0, 0.8, 1.0), (0.5, 0.5, 0.5), paint)
        builder.cylinder(spot, (1.0, -0.8, 1.0), (0.4, 0.4, 0.6), paint)

    depth = render(*room_with(atlas, add), look(forward_camera(-2.0, 0.0, 1.0))).depth[0].numpy()
    right, down = pixel_rays()

    def first_root(a, b, c):
        with np.errstate(invalid="ignore"):
            return (-b - np.sqrt(b * b - a * c)) / a  # NaN: missed

    # In camera coordinates (right, down, forward) the ball is at (-0.8, 0, 3), the cylinder's axis at (0.8, 3).
    ball = first_root(right**2 + down**2 + 1, 0.8 * right - 3, 0.64 + 9 - 0.25)
    cylinder = first_root(right**2 + 1, -0.8 * right - 3, 0.64 + 9 - 0.16)
    cylinder[np.abs(cylinder * down) > 0.6] = np.nan
    for expected in (ball, cylinder):
        seen = np.isfinite(expected)
        assert seen.sum() > 50
        np.testing.assert_allclose(depth[seen], expected[seen], rtol=1e-4)


def test_depth_of_one_camera_predicts_that_of_another(rooms, lightmap):
    _, poses = rig_poses(rooms, steps=2)
    cameras = look(poses)
    depth = render(rooms, lightmap, cameras).depth.numpy()
    K, T = cameras.K[0].numpy(), cameras.T_world_cam.double().numpy()
    right, down = pixel_rays()
    for a, b in ((0, 3), (1, 4), (2, 5)):  # the same camera, one step later
        points = np.stack([right * depth[a], down * depth[a], depth[a], np.ones((H, W))], -1)
        x, y, z = np.moveaxis(points @ (np.linalg.inv(T[b]) @ T[a]).T, -1, 0)[:3]
        u, v = (np.rint(x / z * K[0, 0] + K[0, 2]).astype(int), np.rint(y / z * K[1, 1] + K[1, 2]).astype(int))
        inside = (z > 0.1) & (u >= 0) & (u < W) & (v >= 0) & (v < H)
        error = np.abs(depth[b][v[inside], u[inside]] / z[inside] - 1)
        assert inside.mean() > 0.5
        # Half a pixel of rounding on slanted surfaces, and what one camera sees and the other does not.
        assert np.median(error) < 0.01
        assert np.mean(error < 0.05) > 0.85


def test_pictures_are_bright_enough_and_full_of_corners(rooms, lightmap):
    _, poses = rig_poses(rooms, steps=1)
    images = render(rooms, lightmap, look(poses, width=320, height=240)).image.numpy()
    for image in images:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        assert 50 < grey.mean() < 210 and grey.std() > 15
        assert len(cv2.goodFeaturesToTrack(grey, 500, 0.02, 5)) > 150


def test_same_seed_same_picture_other_seed_other_picture(atlas):
    def add(builder, spot, paint):
        builder.box(spot, (builder.uniform(0.5, 1.5), 0, 1.0), (0.3, 0.4, 0.3), builder.look("books", 0.0))

    def picture():
        return render(*room_with(atlas, add), look(forward_camera(-2.0, 0.0, 1.2))).image

    assert torch.equal(picture(), picture())
    first, again, other = (make_rooms(1, torch.Generator().manual_seed(seed), atlas) for seed in (5, 5, 6))
    assert torch.equal(first.centre, again.centre) and torch.equal(first.surfaces.tint, again.surfaces.tint)
    assert not torch.equal(first.centre, other.centre)


def test_rooms_of_a_batch_do_not_disturb_each_other(rooms, lightmap):
    _, poses = rig_poses(rooms, steps=1, cameras=1)
    first, second = look(poses, room=0), look(poses, room=1)
    both = Cameras(torch.tensor([0, 1]), first.K.repeat(2, 1, 1), first.T_world_cam.repeat(2, 1, 1), W, H)
    together = render(rooms, lightmap, both)
    for index, cameras in enumerate((first, second)):
        alone = render(rooms, lightmap, cameras)
        assert torch.equal(alone.depth[0], together.depth[index])
        assert torch.equal(alone.image[0], together.image[index])
    assert not torch.equal(together.depth[0], together.depth[1])


def test_a_shadow_is_darker_than_the_floor_around_it(atlas):
    def add(builder, spot, paint):
        builder.box(spot, (0, 0, 1.5), (0.7, 0.7, 0.02), paint)

    rooms, light = room_with(atlas, add)
    down = torch.eye(4).unsqueeze(0)
    down[0, :3, :3] = torch.tensor([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]])
    down[0, :3, 3] = torch.tensor([0.0, 0.0, 1.3])  # below the box
    image = render(rooms, light, look(down)).image[0].float().mean(-1)
    under = image[H // 2 - 5 : H // 2 + 5, W // 2 - 5 : W // 2 + 5].mean()
    assert under < 0.75 * image[:, -4:].mean()


@pytest.mark.parametrize("motion", MOTIONS)
def test_ways_are_smooth_and_stay_clear_of_walls(rooms, motion):
    steps, rate_hz = 60, 10.0
    way, _ = rig_poses(rooms, steps, motion, rate_hz=rate_hz)
    position, forward = way[..., :3, 3], way[..., :3, 0]
    step = position.diff(dim=1)
    assert step.norm(dim=-1).max() < 1.5 / rate_hz
    turn = (forward[:, 1:] * forward[:, :-1]).sum(-1).clamp(-1, 1).acos()
    assert turn.max() < math.radians(90) / rate_hz
    assert turn.sum(1).min() > math.radians(10)
    wall = rooms.size[:, None, :2].double() / 2 - position[..., :2].abs()
    assert wall.min() > 1.0
    R = way[..., :3, :3]
    assert (R @ R.mT - torch.eye(3).double()).abs().max() < 1e-9
    if motion == "drive":
        speed = step.norm(dim=-1, keepdim=True)
        assert ((step / speed) * forward[:, 1:]).sum(-1).min() > 0.95, "it drives where it looks"
        assert position[..., 2].abs().max() == 0
    if motion == "turn":
        assert step.norm(dim=-1).max() < 1e-9


def test_rigs_follow_rep_103():
    for count, forward in ((1, "front"), (2, "left"), (3, "front"), (4, "front"), (6, "camera0")):
        rig = {camera.name: camera for camera in make_rig(count, W, H)}
        assert len(rig) == count
        T = rig[forward].T_base_cam
        assert T[0, 2] > 0.99, "it looks forward, along x"
        assert T[2, 1] < -0.99, "its image's y points down"
    left, right = make_rig(2)
    apart = left.T_base_cam[:3, 3] - right.T_base_cam[:3, 3]
    assert torch.allclose(apart, torch.tensor([0, 0.2, 0]).double())


def test_charts_find_their_way_back():
    generator = torch.Generator().manual_seed(0)
    for shape, faces in ((0, range(6)), (1, (0, 4, 5)), (2, (0,))):
        for face in faces:
            uv = torch.rand(2, 200, generator=generator) * 0.6 + 0.2  # within the disc of a cap
            kind, number = torch.full((200,), shape), torch.full((200,), face)
            found_face, found_uv, outward = to_chart(kind, from_chart(kind, number, uv))
            assert (found_face == face).all() and torch.allclose(found_uv, uv, atol=1e-5)
            assert ((outward * from_chart(kind, number, uv)).sum(0) > 0).all()


def test_what_is_seen_of_a_room_lies_on_its_surfaces_and_what_is_nearer_does_not(rooms, lightmap):
    _, poses = rig_poses(rooms)
    cameras = look(poses)
    depth = render(rooms, lightmap, cameras).depth
    v, u = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    rays = torch.stack([u, v, torch.ones_like(u)], -1).float() @ torch.linalg.inv(cameras.K[0]).T
    for T, z in zip(cameras.T_world_cam, depth, strict=True):
        on, before = (
            surface_distance(rooms, (rays * far[..., None]).reshape(-1, 3) @ T[:3, :3].T + T[:3, 3])
            for far in (z, z - 0.1)
        )
        assert on.max() < 2e-3
        assert before.median() > 0.03 and before.max() <= 0.1 * rays.norm(dim=-1).max()


def test_a_hall_is_free_where_robots_drive():
    hall = make_hall((14.0, 9.0, 4.5), torch.Generator().manual_seed(0))
    assert hall.size.tolist() == [[14.0, 9.0, 4.5]]
    x, y, z = torch.meshgrid(
        torch.linspace(-4.2, 4.2, 12), torch.linspace(-1.8, 1.8, 7), torch.linspace(0.3, 2.0, 3), indexing="ij"
    )
    assert surface_distance(hall, torch.stack([x, y, z], -1).reshape(-1, 3)).min() > 0.2
